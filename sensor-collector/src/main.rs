//! The command line of the collector. Everything it does is in the library.

use std::io::{IsTerminal, Write};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context;
use clap::{Parser, Subcommand};
use sensor_collector::config::Config;
use sensor_collector::init::{InitOptions, init};
use sensor_collector::serve;
use tokio::signal::unix::{SignalKind, signal};
use tracing_subscriber::EnvFilter;

/// The central collector of Sensor.
#[derive(Parser)]
#[command(name = "sensor-collector", version)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Makes a CA, a server certificate, the first tokens and a configuration
    Init(InitArgs),
    /// Serves until it is told to stop (SIGTERM or SIGINT)
    Run {
        /// Configuration file, as init wrote it
        #[arg(long, value_name = "FILE")]
        config: PathBuf,
    },
}

#[derive(clap::Args)]
struct InitArgs {
    /// Where to write the configuration; by default collector.toml in the state directory
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Where to keep all state; by default the directory of the configuration file
    #[arg(long, value_name = "DIR")]
    state_dir: Option<PathBuf>,
    /// Name of the first fleet, which the printed enrollment token is for
    #[arg(long, default_value = "default")]
    fleet: String,
    /// Where agents connect
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:7443")]
    listen_grpc: SocketAddr,
    /// Where operators connect
    #[arg(long, value_name = "ADDRESS:PORT", default_value = "127.0.0.1:7444")]
    listen_http: SocketAddr,
    /// A further DNS name or IP address that the server certificate is good for; may be repeated
    #[arg(long = "name", value_name = "NAME")]
    names: Vec<String>,
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(std::io::stderr().is_terminal())
        .with_writer(std::io::stderr)
        .init();
    // Fails only when a provider is installed already, and then there is one.
    let _ = rustls::crypto::ring::default_provider().install_default();
    match run(cli.command) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("sensor-collector: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(command: Command) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Runtime::new().context("starting the runtime")?;
    match command {
        Command::Init(args) => runtime.block_on(run_init(args)),
        Command::Run { config } => runtime.block_on(run_server(&config)),
    }
}

async fn run_init(args: InitArgs) -> anyhow::Result<()> {
    let state_dir = match (&args.state_dir, &args.config) {
        (Some(state_dir), _) => state_dir.clone(),
        (None, Some(config)) => match config.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
            _ => PathBuf::from("."),
        },
        (None, None) => PathBuf::from(DEFAULT_STATE_DIR),
    };
    let fleet = args.fleet.clone();
    let made = init(&InitOptions {
        state_dir,
        config: args.config,
        fleet: args.fleet,
        listen_grpc: args.listen_grpc,
        listen_http: args.listen_http,
        names: args.names,
    })
    .await?;
    let mut stdout = std::io::stdout().lock();
    writeln!(
        stdout,
        "configuration: {}\nsensorctl configuration: {}\nfleet: {fleet}\napi token: {}\nenrollment token: {}",
        made.config.display(),
        made.sensorctl.display(),
        made.api_token,
        made.enrollment_token,
    )
    .context("printing what was made")?;
    Ok(())
}

async fn run_server(config: &Path) -> anyhow::Result<()> {
    // Installed before anything is served, so that no early signal is missed.
    let mut terminate = signal(SignalKind::terminate()).context("watching SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("watching SIGINT")?;
    let mut running = serve::start(Config::read(config)?).await?;
    {
        let mut stdout = std::io::stdout().lock();
        writeln!(stdout, "listening grpc={} http={}", running.grpc_address, running.http_address)?;
        stdout.flush()?;
    }
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        error = running.failed() => return Err(error),
    }
    tracing::info!("stopping");
    running.stop().await
}

const DEFAULT_STATE_DIR: &str = "/var/lib/sensor-collector";
