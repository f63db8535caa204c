//! Puts the object into the kernel: sets its globals and sizes its maps. Not the attaching: that is
//! [`super::attach`]'s. It may call aya and the sibling modules.

use super::btf::Btf;
use super::error::KernelError;
use super::{HookStatus, KernelOptions, attach, fields};
use crate::pipeline::{PROCESSES_MAX, VerdictOptions};
use aya::programs::ProgramError;
use aya::{Ebpf, EbpfLoader};
use std::io::ErrorKind;
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
    let hooks = attach::attach_all(&mut ebpf, &aya_btf, options)?;
    Ok(Loaded { ebpf, hooks })
}

fn load_object(options: &KernelOptions, btf: &Btf, aya_btf: &aya::Btf) -> Result<Ebpf, KernelError> {
    let fields = fields::resolve(btf, &kernel_release())?;
    let has_group_dead = u32::from(fields::exit_has_group_dead(btf));
    let secureexec_bit = fields::secureexec_bit(btf);
    let in_execve_bit = fields::in_execve_bit(btf);
    let inode_bytes = btf.struct_size("inode").unwrap_or(0);
    let wake_bytes = u64::from(options.lifecycle_ring_bytes.min(options.activity_ring_bytes)) / WAKE_DIVISOR;
    let cpus = aya::util::nr_cpus()
        .map_err(|(_, source)| KernelError::Host { what: "/sys/devices/system/cpu/possible", source })?;
    let slots = u32::try_from(cpus).unwrap_or(u32::MAX / SLOTS_PER_CPU) * SLOTS_PER_CPU;

    let open_reads = u32::from(options.kinds.has_reads());
    // What is watched for is shown each time.
    let verdicts_on = u32::from(options.verdicts.is_some() && fields::has_dentry_layout(btf));
    let has_typed_task = u32::from(btf.function_parameters("bpf_get_current_task_btf").is_some());
    let [secret_low, secret_high] = options.verdicts.map_or([0; 2], |verdicts| verdicts.secret);
    let verdicts_max = options.verdicts.map_or(1, |verdicts| verdicts.entries_max);
    let own_pid = own_pid();
    let log_level = if options.bpf_log { LOG_LEVEL_DEBUG } else { 0 };

    let mut loader = EbpfLoader::new();
    loader
        .btf(Some(aya_btf))
        .override_global("EXIT_HAS_GROUP_DEAD", &has_group_dead, true)
        .override_global("BPRM_SECUREEXEC_BIT", &secureexec_bit, true)
        .override_global("TASK_IN_EXECVE_BIT", &in_execve_bit, true)
        .override_global("INODE_BYTES", &inode_bytes, true)
        .override_global("WAKE_BYTES", &wake_bytes, true)
        .override_global("AYA_LOG_LEVEL", &log_level, true)
        .override_global("SELF_TGID", &own_pid, true)
        .override_global("OPEN_READS", &open_reads, true)
        .override_global("VERDICTS_ON", &verdicts_on, true)
        .override_global("HAS_TYPED_TASK", &has_typed_task, true)
        .override_global("VERDICT_SECRET_LOW", &secret_low, true)
        .override_global("VERDICT_SECRET_HIGH", &secret_high, true)
        .map_max_entries("VERDICTS", verdicts_max)
        .map_max_entries("HITS", options.verdicts.map_or(1, VerdictOptions::cells))
        .map_max_entries("CONTEXTS", if options.verdicts.is_some() { PROCESSES_MAX as u32 } else { 1 })
        .map_max_entries("LIFECYCLE", options.lifecycle_ring_bytes)
        .map_max_entries("ACTIVITY", options.activity_ring_bytes)
        .map_max_entries("SCRATCH", slots);
    let arguments = fields::resolve_arguments(btf);
    for (global, offset) in &fields {
        loader.override_global(global, offset, true);
    }
    for (global, index) in &arguments {
        loader.override_global(global, index, false);
    }
    loader.load(OBJECT).map_err(|error| load_error(&error))
}

/// A ring wakes its reader when this part of the smaller ring is full.
const WAKE_DIVISOR: u64 = 16;

/// aya-log's number for the level that the programs log at.
const LOG_LEVEL_DEBUG: u8 = 4;

fn load_error(error: &dyn std::error::Error) -> KernelError {
    KernelError::Load(chain(error))
}

/// Loads a program, again when a signal came meanwhile: the verifier gives up then with `EAGAIN` (`do_check()` of
/// kernel/bpf/verifier.c).
pub(super) fn persistently(mut load: impl FnMut() -> Result<(), ProgramError>) -> Result<(), ProgramError> {
    for _ in 1..LOAD_TRIES {
        match load() {
            Err(ProgramError::LoadError { io_error, .. }) if io_error.kind() == ErrorKind::WouldBlock => {}
            loaded => return loaded,
        }
    }
    load()
}

/// Signals that may come while one program is loaded.
const LOAD_TRIES: u32 = 20;

/// An error with its causes, on one line.
pub(super) fn chain(error: &dyn std::error::Error) -> String {
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
