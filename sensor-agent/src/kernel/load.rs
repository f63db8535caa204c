//! Puts the object into the kernel: sets its globals, sizes its maps, attaches its hooks. Not the choice of
//! hooks: that is the table's. It may call aya and the sibling modules.

use super::btf::Btf;
use super::error::KernelError;
use super::probes::{Attach, Family, Hook, PROBES, Probe};
use super::{HookState, HookStatus, KernelOptions, fields};
use aya::programs::{BtfTracePoint, RawTracePoint};
use aya::{Ebpf, EbpfLoader};
use sensor_event::Tier;
use std::collections::HashMap;
use std::path::Path;

/// The kernel object, chosen by the build script.
static OBJECT: &[u8] = aya::include_bytes_aligned!(env!("SENSOR_EBPF_OBJECT"));

/// As `SLOTS_PER_CPU` in `sensor-ebpf/src/maps.rs`.
const SLOTS_PER_CPU: u32 = 4;

/// Where the kernel shows its BTF.
pub(super) const BTF_PATH: &str = "/sys/kernel/btf/vmlinux";

/// Where the kernel lists its active security modules.
pub(super) const LSM_PATH: &str = "/sys/kernel/security/lsm";

/// A loaded object with its hooks attached.
pub(super) struct Loaded {
    pub(super) ebpf: Ebpf,
    pub(super) hooks: Vec<HookStatus>,
}

/// Loads and attaches.
///
/// # Errors
/// When a capability, the host's pid namespace, BTF, a required field or a required hook is missing, or the kernel refuses the object.
pub(super) fn load(options: &KernelOptions) -> Result<Loaded, KernelError> {
    super::capability::check()?;
    super::pid_namespace::check()?;
    let path = options.btf_path.as_deref().unwrap_or(Path::new(BTF_PATH));
    let bytes = std::fs::read(path).map_err(|source| KernelError::NoBtf { path: path.to_owned(), source })?;
    let btf =
        Btf::parse(bytes.clone()).map_err(|source| KernelError::Btf { path: path.to_owned(), source })?;
    let aya_btf = aya::Btf::parse(&bytes, aya::Endianness::default()).map_err(|error| load_error(&error))?;
    let mut ebpf = load_object(options, &btf, &aya_btf)?;
    let hooks = attach_all(&mut ebpf, &aya_btf, options)?;
    Ok(Loaded { ebpf, hooks })
}

fn load_object(options: &KernelOptions, btf: &Btf, aya_btf: &aya::Btf) -> Result<Ebpf, KernelError> {
    let fields = fields::resolve(btf, &kernel_release())?;
    let has_group_dead = u32::from(fields::exit_has_group_dead(btf));
    let secureexec_bit = fields::secureexec_bit(btf);
    let wake_bytes = u64::from(options.lifecycle_ring_bytes.min(options.activity_ring_bytes)) / WAKE_DIVISOR;
    let cpus = aya::util::nr_cpus()
        .map_err(|(_, source)| KernelError::Host { what: "/sys/devices/system/cpu/possible", source })?;
    let slots = u32::try_from(cpus).unwrap_or(u32::MAX / SLOTS_PER_CPU) * SLOTS_PER_CPU;

    let classes = sensor_event::syscall_classes(std::env::consts::ARCH)
        .ok_or_else(|| KernelError::Load(format!("no system call table for {}", std::env::consts::ARCH)))?;
    let own_pid = own_pid();
    let log_level = if options.bpf_log { LOG_LEVEL_DEBUG } else { 0 };

    let mut loader = EbpfLoader::new();
    loader
        .btf(Some(aya_btf))
        .override_global("EXIT_HAS_GROUP_DEAD", &has_group_dead, true)
        .override_global("BPRM_SECUREEXEC_BIT", &secureexec_bit, true)
        .override_global("WAKE_BYTES", &wake_bytes, true)
        .override_global("AYA_LOG_LEVEL", &log_level, true)
        .override_global("SELF_TGID", &own_pid, true)
        .override_global("SYSCALL_CLASSES", classes.as_slice(), true)
        .map_max_entries("LIFECYCLE", options.lifecycle_ring_bytes)
        .map_max_entries("ACTIVITY", options.activity_ring_bytes)
        .map_max_entries("SCRATCH", slots);
    for (global, offset) in &fields {
        loader.override_global(global, offset, true);
    }
    loader.load(OBJECT).map_err(|error| load_error(&error))
}

/// A ring wakes its reader when this part of the smaller ring is full.
const WAKE_DIVISOR: u64 = 16;

/// aya-log's number for the level that the programs log at.
const LOG_LEVEL_DEBUG: u8 = 4;

fn attach_all(
    ebpf: &mut Ebpf,
    btf: &aya::Btf,
    options: &KernelOptions,
) -> Result<Vec<HookStatus>, KernelError> {
    let mut statuses = Vec::new();
    // Several events can share a program: it is loaded once, and what became of it goes for all of them.
    let mut programs: HashMap<&'static str, HookState> = HashMap::new();
    for probe in PROBES.iter().filter(|probe| options.kinds.contains(probe.family)) {
        let status = attach(ebpf, btf, probe, options.tracepoint_only, &mut programs);
        if let HookState::Failed(reason) = &status.state
            && status.required
        {
            let (event, hook, reason) = (status.event, status.hook.clone(), reason.clone());
            return Err(KernelError::Hook { event, hook, reason });
        }
        statuses.push(status);
    }
    Ok(statuses)
}

/// Attaches the best hook that works.
fn attach(
    ebpf: &mut Ebpf,
    btf: &aya::Btf,
    probe: &Probe,
    tracepoint_only: bool,
    programs: &mut HashMap<&'static str, HookState>,
) -> HookStatus {
    let mut why_not_better = Vec::new();
    let mut status = HookStatus {
        event: probe.kind.name(),
        hook: String::new(),
        tier: tier_name(Tier::TRACEPOINT),
        required: probe.is_required,
        state: HookState::Failed("no hook in the table".to_owned()),
        why_not_better: String::new(),
    };
    for hook in probe.hooks {
        if tracepoint_only && hook.tier == Tier::LSM {
            why_not_better.push(format!("{}: only tracepoints were asked for", hook.attach.name()));
            continue;
        }
        let state = match programs.get(hook.program) {
            Some(state) => state.clone(),
            None => attach_program(ebpf, btf, hook),
        };
        if !matches!(hook.attach, Attach::Planned(_)) {
            programs.insert(hook.program, state.clone());
        }
        status.hook = hook.attach.name();
        status.tier = tier_name(hook.tier);
        status.state = state;
        match &status.state {
            HookState::Attached => break,
            HookState::Failed(reason) => why_not_better.push(format!("{}: {reason}", status.hook)),
        }
    }
    status.why_not_better = why_not_better.join("; ");
    status
}

fn attach_program(ebpf: &mut Ebpf, btf: &aya::Btf, hook: &Hook) -> HookState {
    let attached = match hook.attach {
        Attach::BtfTracepoint(tracepoint) => attach_btf_tracepoint(ebpf, btf, hook.program, tracepoint),
        Attach::RawTracepoint(tracepoint) => attach_raw_tracepoint(ebpf, hook.program, tracepoint),
        Attach::Planned(_) => Err(why_planned()),
    };
    attached.map_or_else(HookState::Failed, |()| HookState::Attached)
}

/// Why a hook of the security-module tier is not used, as far as build and kernel are concerned.
fn why_planned() -> String {
    match std::fs::read_to_string(LSM_PATH) {
        Ok(modules) if modules.split(',').any(|module| module.trim() == "bpf") => {
            "not in this build".to_owned()
        }
        Ok(modules) => {
            format!("not in this build, and bpf is not an active security module ({})", modules.trim())
        }
        Err(_) => {
            format!("not in this build, and {LSM_PATH} does not say whether bpf is an active security module")
        }
    }
}

fn attach_btf_tracepoint(
    ebpf: &mut Ebpf,
    btf: &aya::Btf,
    program: &str,
    tracepoint: &str,
) -> Result<(), String> {
    let program = ebpf.program_mut(program).ok_or("not in the object")?;
    let program: &mut BtfTracePoint = program.try_into().map_err(|error| chain(&error))?;
    program.load(tracepoint, btf).map_err(|error| chain(&error))?;
    program.attach().map_err(|error| chain(&error))?;
    Ok(())
}

fn attach_raw_tracepoint(ebpf: &mut Ebpf, program: &str, tracepoint: &str) -> Result<(), String> {
    let program = ebpf.program_mut(program).ok_or("not in the object")?;
    let program: &mut RawTracePoint = program.try_into().map_err(|error| chain(&error))?;
    program.load().map_err(|error| chain(&error))?;
    program.attach(tracepoint).map_err(|error| chain(&error))?;
    Ok(())
}

fn tier_name(tier: Tier) -> &'static str {
    match tier {
        Tier::LSM => "lsm",
        Tier::TRACEPOINT => "tracepoint",
        Tier::PROCFS => "procfs",
        _ => "unknown",
    }
}

fn load_error(error: &dyn std::error::Error) -> KernelError {
    KernelError::Load(chain(error))
}

/// An error with its causes, on one line.
fn chain(error: &dyn std::error::Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(inner) = cause {
        let inner_text = inner.to_string();
        if !text.contains(&inner_text) {
            text = format!("{text}: {inner_text}");
        }
        cause = inner.source();
    }
    text
}

/// This process in the outermost pid namespace that /proc shows: the one the programs see, unless the agent runs
/// in a pid namespace with a /proc of its own.
fn own_pid() -> u32 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    status
        .lines()
        .find_map(|line| line.strip_prefix("NSpid:"))
        .and_then(|pids| pids.split_whitespace().next()?.parse().ok())
        .unwrap_or_else(std::process::id)
}

/// `uname -r`.
pub(super) fn kernel_release() -> String {
    std::fs::read_to_string("/proc/sys/kernel/osrelease")
        .map_or_else(|_| "unknown".into(), |text| text.trim().into())
}

impl super::KindSet {
    /// Whether the hooks of a family are wanted. Process hooks always are: everything else names a process.
    fn contains(self, family: Family) -> bool {
        match family {
            Family::Process => true,
            Family::Network => self.network,
            Family::File => self.file,
        }
    }
}
