//! Read-only globals that the agent sets before it loads the object. Not their resolution. It may call aya-ebpf
//! and sensor-event only.
//!
//! The verifier knows their values, so a branch on one costs nothing at run time and the side that is not taken
//! is not even checked.

use aya_ebpf::Global;
use sensor_event::Field;

macro_rules! define {
    ($($name:ident: $need:ident [$($path:literal),+];)*) => {
        $(
            #[doc = concat!("Byte offset of `", $($path, "` or `",)+ "absent`.")]
            #[unsafe(no_mangle)]
            pub static $name: Global<u32> = Global::new(Field::ABSENT);
        )*
    };
}

sensor_event::for_each_kernel_field!(define);

macro_rules! define_arguments {
    ($($name:ident: $function:literal $parameter:ident $(($which:literal))?;)*) => {
        $(
            #[doc = concat!("Index of an argument of `", $function, "`, or absent.")]
            #[unsafe(no_mangle)]
            pub static $name: Global<u32> = Global::new(Field::ABSENT);
        )*
    };
}

sensor_event::for_each_kernel_argument!(define_arguments);

/// Not 0 when opens that change nothing, and failed ones, are wanted too.
#[unsafe(no_mangle)]
pub static OPEN_READS: Global<u32> = Global::new(0);

/// Not 0 when `sched_process_exit` has the argument `group_dead`.
#[unsafe(no_mangle)]
pub static EXIT_HAS_GROUP_DEAD: Global<u32> = Global::new(0);

/// Bit of the bit field `linux_binprm.secureexec`, counted from the start of the structure.
#[unsafe(no_mangle)]
pub static BPRM_SECUREEXEC_BIT: Global<u32> = Global::new(Field::ABSENT);

/// Bytes of `struct inode`; 0 when unknown.
#[unsafe(no_mangle)]
pub static INODE_BYTES: Global<u32> = Global::new(0);

/// Bit of the bit field `task_struct.in_execve`, counted likewise.
#[unsafe(no_mangle)]
pub static TASK_IN_EXECVE_BIT: Global<u32> = Global::new(Field::ABSENT);

/// Its reader is woken whenever so many bytes more are unread in a ring: a power of two.
#[unsafe(no_mangle)]
pub static WAKE_BYTES: Global<u64> = Global::new(0);

/// Not 0 when the kernel has `bpf_get_current_task_btf()` (5.11), whose pointer can be followed without a helper's call.
#[unsafe(no_mangle)]
pub static HAS_TYPED_TASK: Global<u32> = Global::new(0);

/// Not 0 when verdicts are remembered: see [`crate::verdicts`].
#[unsafe(no_mangle)]
pub static VERDICTS_ON: Global<u32> = Global::new(0);

/// The key of the hash that names an object: random.
#[unsafe(no_mangle)]
pub static VERDICT_SECRET_LOW: Global<u64> = Global::new(0);

/// The other half.
#[unsafe(no_mangle)]
pub static VERDICT_SECRET_HIGH: Global<u64> = Global::new(0);

/// The agent's own process: its file and network activity is not reported.
#[unsafe(no_mangle)]
pub static SELF_TGID: Global<u32> = Global::new(0);
