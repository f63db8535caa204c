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

/// Not 0 when `sched_process_exit` has the argument `group_dead`.
#[unsafe(no_mangle)]
pub static EXIT_HAS_GROUP_DEAD: Global<u32> = Global::new(0);

/// Bytes of unread records in a ring at which its reader is woken.
#[unsafe(no_mangle)]
pub static WAKE_BYTES: Global<u64> = Global::new(0);
