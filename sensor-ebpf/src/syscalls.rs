//! The one program at the exit of system calls: finds out which call it is and with what arguments, and hands over
//! to [`crate::files`]. Not what the calls mean. It may call the other modules of this crate.

use crate::emit::is_agent;
use crate::files;
use crate::globals::{
    COMPAT_ARG0, COMPAT_ARG1, COMPAT_ARG2, COMPAT_ARG3, COMPAT_ARG4, REGS_ARG0, REGS_ARG1, REGS_ARG2,
    REGS_ARG3, REGS_ARG4, REGS_SYSCALL, THREAD_STATUS,
};
use crate::maps::syscall_classes;
use crate::read::{Address, has};
use aya_ebpf::macros::raw_tracepoint;
use aya_ebpf::programs::RawTracePointContext;
use sensor_event::{LossReason, SyscallClass};

/// `TS_COMPAT` of `arch/x86/include/asm/thread_info.h`: this call is a 32-bit one.
const TS_COMPAT: u32 = 2;

/// `__X32_SYSCALL_BIT`: the calls of interest have the same numbers in both ABIs.
const X32_SYSCALL_BIT: u32 = 0x4000_0000;

/// `AT_FDCWD`.
pub const AT_FDCWD: i32 = -100;

/// The registers of a call.
#[derive(Clone, Copy)]
pub struct Arguments {
    regs: Address,
    is_compat: bool,
}

macro_rules! argument {
    ($name:ident, $doc:literal, $native:ident, $compat:ident) => {
        #[doc = $doc]
        #[inline(always)]
        pub fn $name(self) -> Result<u64, LossReason> {
            if self.is_compat {
                // A 32-bit caller's registers: the upper half is not its.
                return self.regs.field::<u32>(&$compat).map(u64::from);
            }
            self.regs.field(&$native)
        }
    };
}

impl Arguments {
    argument!(first, "The first argument.", REGS_ARG0, COMPAT_ARG0);
    argument!(second, "The second argument.", REGS_ARG1, COMPAT_ARG1);
    argument!(third, "The third argument.", REGS_ARG2, COMPAT_ARG2);
    argument!(fourth, "The fourth argument.", REGS_ARG3, COMPAT_ARG3);
    argument!(fifth, "The fifth argument.", REGS_ARG4, COMPAT_ARG4);
}

/// `(struct pt_regs *regs, long ret)`. Runs at every system call of the host: it leaves after one read and one
/// table look-up unless the call is of interest.
#[raw_tracepoint(tracepoint = "sys_exit")]
pub fn sys_exit(ctx: RawTracePointContext) -> i32 {
    let regs = Address(ctx.arg::<u64>(0));
    let Ok(number) = regs.field::<u32>(&REGS_SYSCALL) else { return 0 };
    let classes = syscall_classes(number & !X32_SYSCALL_BIT);
    if classes == 0 {
        return 0;
    }
    let is_compat = is_compat();
    let class = SyscallClass(if is_compat { (classes >> 8) as u8 } else { classes as u8 });
    if class.0 == 0 || is_agent() {
        return 0;
    }
    let arguments = Arguments { regs, is_compat };
    let result = ctx.arg::<u64>(1).cast_signed();
    match class {
        SyscallClass::OPEN | SyscallClass::OPENAT | SyscallClass::OPENAT2 | SyscallClass::CREAT => {
            files::open(class, arguments, result)
        }
        SyscallClass::UNLINK | SyscallClass::UNLINKAT | SyscallClass::RMDIR => {
            files::unlink(class, arguments, result)
        }
        _ => files::rename(class, arguments, result),
    }
}

#[inline(always)]
fn is_compat() -> bool {
    has(&THREAD_STATUS)
        && Address::current_task().field::<u32>(&THREAD_STATUS).is_ok_and(|status| status & TS_COMPAT != 0)
}
