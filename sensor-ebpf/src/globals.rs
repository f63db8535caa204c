//! Read-only globals that the agent sets before it loads the object. Not their resolution. It may call aya-ebpf
//! and sensor-event only.
//!
//! The verifier knows their values, so a branch on one costs nothing at run time and the side that is not taken
//! is not even checked.

use aya_ebpf::Global;
use sensor_event::{Field, SYSCALL_CLASSES_LEN};

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

/// Not 0 when `sched_process_exit` has the argument `group_dead`.
#[unsafe(no_mangle)]
pub static EXIT_HAS_GROUP_DEAD: Global<u32> = Global::new(0);

/// Bit of the bit field `linux_binprm.secureexec`, counted from the start of the structure.
#[unsafe(no_mangle)]
pub static BPRM_SECUREEXEC_BIT: Global<u32> = Global::new(Field::ABSENT);

/// Bytes of unread records in a ring at which its reader is woken.
#[unsafe(no_mangle)]
pub static WAKE_BYTES: Global<u64> = Global::new(0);

/// The agent's own process: its file and network activity is not reported.
#[unsafe(no_mangle)]
pub static SELF_TGID: Global<u32> = Global::new(0);

/// Class of each system call: [`sensor_event::syscall_classes`].
#[unsafe(no_mangle)]
static SYSCALL_CLASSES: Global<[u16; SYSCALL_CLASSES_LEN]> = Global::new([0; SYSCALL_CLASSES_LEN]);

/// Classes of a system call: native in the low byte, 32-bit in the high byte.
#[inline(always)]
pub fn syscall_classes(number: u32) -> u16 {
    let number = number as usize;
    if number >= SYSCALL_CLASSES_LEN {
        return 0;
    }
    let classes = (&raw const SYSCALL_CLASSES).cast::<u16>().wrapping_add(number);
    // SAFETY: within the table, as checked above. Volatile: the agent sets it before it is loaded.
    unsafe { classes.read_volatile() }
}
