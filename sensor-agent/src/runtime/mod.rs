//! `sensor-agent run`: puts the parts together, starts their threads, and ends them in order. Not what any part does.
//!
//! ```text
//! main thread    signals, and the uplink on tokio
//! drain          kernel rings → pipeline → stage → queues    no I/O
//! who, who-hash  lookups for the stage                       reads files, asks containerd
//! rescan         /proc, when records of processes were lost  reads files
//! teller         the drain thread's lines of the log         writes
//! spool          queue → spool.db, reads and acks
//! learned        queue → learned.db, reads
//! ```

mod accounting;
pub mod baseline_keeper;
mod drain;
pub mod vitals;

use std::io::{IsTerminal as _, Write as _};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use anyhow::Context as _;
use sensor_baseline::{Floor, UnixNs};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::watch;

use crate::config::{Collector, Config};
use crate::enrich::seed;
use crate::finding::Finding;
use crate::floor_files;
use crate::identity::Identity;
use crate::kernel::{Kernel, KernelOptions, boot_to_unix_offset_ns};
use crate::layer_files::LocalLayers;
use crate::learned_store::LearnedStore;
use crate::pipeline::{Pipeline, PipelineConfig, VerdictOptions};
use crate::rescan::Rescanner;
use crate::sigma::{self, Rules};
use crate::spool::{Spool, SpoolOptions};
use crate::state_dir::StateDir;
use crate::teller::Teller;
use crate::uplink::driver::{Target, Uplink, UplinkParts};
use crate::who::{self, Lookups, Stage};
use baseline_keeper::BaselineKeeper;
use drain::{Drain, Line};
use vitals::{DrainReports, Vitals};

/// Runs the agent until it is told to end.
///
/// # Errors
/// When it cannot start: configuration, state folder, identity, or the kernel side.
pub fn run(config_file: &Path) -> anyhow::Result<ExitCode> {
    let config = Config::load(config_file)?;
    start_log(&config.log)?;
    let floor = floor(&config.floor)?;
    let layers = LocalLayers::load(&config.layers)?;
    let state = StateDir::open(&config.state_dir)?;
    let identity = Identity::load(&state.identity())?;
    let verdicts = verdict_options(config.verdicts_max);
    let kernel = Kernel::load(&kernel_options(&config, verdicts))?;
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().context("starting tokio")?;
    let spool_options = SpoolOptions { path: state.spool(), bytes_max: config.spool_bytes_max };
    let spool = Spool::start(spool_options).context("starting the spool")?;
    let learned =
        LearnedStore::start(&state.learned(), Arc::clone(&floor)).context("starting the learned store")?;
    let (baselines, baseline, handovers) =
        BaselineKeeper::start(state.baseline(), state.baseline_meta(), layers);
    let reports = DrainReports::default();
    let vitals = Vitals {
        hostname: config.hostname.clone(),
        kernel_release: kernel_release(),
        boot_id: boot_id(),
        hooks: kernel.hooks().iter().map(|hook| (hook.event.to_owned(), hook.hook.clone())).collect(),
        drain: reports.clone(),
        spool: spool.reader(),
        spool_sender: spool.sender(),
        learned: learned.reader(),
        learned_sender: learned.sender(),
    };
    let uplink = UplinkParts {
        target: target(&config, &identity),
        identity_folder: state.identity(),
        spool: spool.reader(),
        learned: learned.reader(),
        baselines: Arc::new(baselines),
        vitals,
        seed: random_number(),
        identity,
    };
    let mut pipeline = Pipeline::new(PipelineConfig {
        baseline,
        rules: Arc::new(sigma_rules(&config.sigma, &floor)?),
        floor,
        own: Some(seed::own_identity().context("cannot read /proc/self")?),
        boot_to_unix_offset_ns: boot_to_unix_offset_ns(),
        are_containers_named: true,
        verdicts,
        ..PipelineConfig::default()
    });
    // What happens during the scan is in the rings.
    pipeline.seed(seed::scan().context("cannot scan /proc")?);
    let is_ending = Arc::new(AtomicBool::new(false));
    let hooks = kernel.hooks().len();
    let drain = Drain {
        kernel,
        pipeline,
        stage: stage(config.containerd)?,
        spool: spool.sender(),
        learned: learned.sender(),
        baselines: handovers,
        reports,
        rescanner: Rescanner::start().context("starting the thread that scans /proc")?,
        teller: Teller::start(Line::log).context("starting the thread that logs")?,
        hostname: config.hostname,
        is_ending: is_ending.clone(),
    };
    run_parts(&runtime, drain, uplink, &is_ending, hooks)
}

fn kernel_options(config: &Config, verdicts: Option<VerdictOptions>) -> KernelOptions {
    KernelOptions {
        lifecycle_ring_bytes: config.lifecycle_ring_bytes,
        activity_ring_bytes: config.activity_ring_bytes,
        verdicts,
        ..KernelOptions::default()
    }
}

/// What the kernel remembers of verdicts: so many, by hashes that nobody can foresee.
fn verdict_options(entries_max: u32) -> Option<VerdictOptions> {
    (entries_max > 0).then(|| VerdictOptions { entries_max, secret: [random_number(), random_number()] })
}

/// Where findings wait until it is known who did it.
fn stage(containerd: Vec<PathBuf>) -> anyhow::Result<Stage<Finding>> {
    let roots = who::Roots { containerd, ..who::Roots::default() };
    Ok(Stage::new(Some(Lookups::start(roots)?), who::own_mount_namespace()))
}

/// Reads the floor rules and logs which silences have ended.
fn floor(files: &[PathBuf]) -> anyhow::Result<Arc<Floor>> {
    let floor = floor_files::load(files).context("floor.files")?;
    floor_files::expired(&floor, UnixNs(drain::unix_ns())).for_each(|line| tracing::warn!("{line}"));
    Ok(floor)
}

/// Reads the Sigma rules and logs which are not in force. A silence of `floor` is of a rule that there is.
fn sigma_rules(config: &crate::config::Sigma, floor: &Floor) -> anyhow::Result<Rules> {
    let loaded = sigma::load(&config.folders, config.level_min).context("sigma.folders")?;
    for refused in &loaded.refused {
        tracing::warn!(
            file = %refused.file.display(),
            title = refused.title,
            "Sigma rule is not in force: {}",
            refused.reason
        );
    }
    if !config.folders.is_empty() {
        let (loaded, refused, below) = (loaded.rules.len(), loaded.refused.len(), loaded.below_level_count);
        tracing::info!(loaded, refused, below_level = below, "Sigma rules");
    }
    floor_files::check_sigma(floor, &loaded.rules).context("floor.files")?;
    Ok(loaded.rules)
}

/// Runs the drain thread and the uplink until a signal comes, or until capture fails.
fn run_parts(
    runtime: &tokio::runtime::Runtime,
    drain: Drain,
    uplink: UplinkParts,
    is_ending: &AtomicBool,
    hooks: usize,
) -> anyhow::Result<ExitCode> {
    let agent = uplink.identity.facts.agent_id.clone();
    let (end, ended) = watch::channel(false);
    let (capture_ended, mut capture_has_ended) = watch::channel(false);
    let draining = std::thread::Builder::new()
        .name("drain".to_owned())
        .spawn(move || {
            let result = drain.run();
            capture_ended.send_replace(true);
            result
        })
        .context("starting the drain thread")?;
    let served: anyhow::Result<()> = runtime.block_on(async {
        let mut sigint = signal(SignalKind::interrupt()).context("watching for SIGINT")?;
        let mut sigterm = signal(SignalKind::terminate()).context("watching for SIGTERM")?;
        // Only now: whoever reads the line may end the agent at once, and is to find its files closed.
        println!("sensor-agent running agent={agent} hooks={hooks}");
        std::io::stdout().flush().context("writing to standard output")?;
        let uplink = tokio::spawn(Uplink::run(uplink, ended));
        tokio::select! {
            _ = sigint.recv() => {}
            _ = sigterm.recv() => {}
            _ = capture_has_ended.wait_for(|has_ended| *has_ended) => {}
        }
        is_ending.store(true, Ordering::Relaxed);
        end.send_replace(true);
        uplink.await.context("the uplink has panicked")
    });
    is_ending.store(true, Ordering::Relaxed);
    let drained = draining.join().map_err(|_| anyhow::anyhow!("the drain thread has panicked"))?;
    drained.context("capture has failed")?;
    served?;
    Ok(ExitCode::SUCCESS)
}

fn target(config: &Config, identity: &Identity) -> Target {
    match &config.collector {
        Collector::AsEnrolled => Target {
            address: identity.facts.collector.clone(),
            server_name: identity.facts.server_name.clone(),
        },
        Collector::At { address, server_name } => {
            Target { address: address.clone(), server_name: server_name.clone() }
        }
    }
}

fn start_log(configured: &str) -> anyhow::Result<()> {
    use tracing_subscriber::EnvFilter;
    let filter = match std::env::var("RUST_LOG") {
        Ok(variable) => EnvFilter::try_new(&variable).with_context(|| format!("RUST_LOG: {variable:?}"))?,
        Err(_) => EnvFilter::try_new(configured).with_context(|| format!("log: {configured:?}"))?,
    };
    // Somebody else may have set it in a test.
    let _set_already = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::stderr().is_terminal())
        .try_init();
    Ok(())
}

/// `uname -r`.
#[must_use]
pub fn kernel_release() -> String {
    std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim_end().to_owned()
}

fn boot_id() -> Vec<u8> {
    let text = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default();
    uuid::Uuid::parse_str(text.trim()).map(|id| id.as_bytes().to_vec()).unwrap_or_default()
}

fn random_number() -> u64 {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).expect("the kernel gives random bytes once it has booted");
    u64::from_ne_bytes(bytes)
}
