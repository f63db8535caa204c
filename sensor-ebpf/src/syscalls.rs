//! The one program at the exit of system calls: finds out which call it is and with what arguments, and hands over
//! to the module of its family. Not what the calls mean. It may call the other modules of this crate.
//!
//! Each family is a *global* subprogram, which the verifier checks once and by itself: numbers in, a number out.

use crate::emit::is_agent;
use crate::globals::{
    COMPAT_ARG0, COMPAT_ARG1, COMPAT_ARG2, COMPAT_ARG3, COMPAT_ARG4, REGS_ARG0, REGS_ARG1, REGS_ARG2,
    REGS_ARG3, REGS_ARG4, REGS_SYSCALL, THREAD_STATUS,
};
use crate::maps::syscall_classes;
use crate::read::{Address, has};
use crate::{files, names, privilege, sockets};
use aya_ebpf::Global;
use aya_ebpf::macros::raw_tracepoint;
use aya_ebpf::programs::RawTracePointContext;
use sensor_event::{SyscallClass, SyscallFamily};

/// `TS_COMPAT` of `arch/x86/include/asm/thread_info.h`: this call is a 32-bit one.
const TS_COMPAT: u32 = 2;

/// `__X32_SYSCALL_BIT`: the calls of interest have the same numbers in both ABIs, but for `ptrace` and `process_vm_writev`
/// (521 and 540), of which only better hooks know the former.
const X32_SYSCALL_BIT: u32 = 0x4000_0000;

/// `AT_FDCWD`.
pub const AT_FDCWD: i32 = -100;

/// Bit that marks a 32-bit call where its class travels through a subprogram's parameter.
const COMPAT: u32 = 1 << 8;

/// A call of interest, at its exit.
#[derive(Clone, Copy)]
pub struct Call {
    /// Which one.
    pub class: SyscallClass,
    /// Whether a 32-bit caller made it.
    pub is_compat: bool,
    /// The registers it was made with.
    regs: Address,
    /// What it returned.
    pub result: i64,
}

impl Call {
    /// From a subprogram's parameters: see [`Self::class_number`].
    #[inline(always)]
    pub fn new(class: u32, regs: u64, result: u64) -> Self {
        Self {
            class: SyscallClass(class as u8),
            is_compat: class & COMPAT != 0,
            regs: Address(regs),
            result: result.cast_signed(),
        }
    }

    /// 0 or a positive errno.
    #[inline(always)]
    pub fn errno(&self) -> i32 {
        if self.result < 0 { -(self.result as i32) } else { 0 }
    }

    /// An argument. A 32-bit caller's has no upper half.
    #[inline(always)]
    pub fn argument(&self, number: Number) -> u64 {
        argument(self.regs.0, number as u32 | if self.is_compat { COMPAT } else { 0 })
    }

    /// An argument that is a descriptor or `AT_FDCWD`.
    #[inline(always)]
    pub fn fd(&self, number: Number) -> i32 {
        self.argument(number) as i32
    }
}

/// Which argument.
#[derive(Clone, Copy)]
#[repr(u32)]
pub enum Number {
    First,
    Second,
    Third,
    Fourth,
    Fifth,
}

/// Reads an argument's register from where the kernel saved it at the entry of the call: nobody can change it there.
#[unsafe(no_mangle)]
#[inline(never)]
pub extern "C" fn argument(regs: u64, number: u32) -> u64 {
    let regs = Address(regs);
    let (native, compat): (&Global<u32>, &Global<u32>) = match number & 7 {
        0 => (&REGS_ARG0, &COMPAT_ARG0),
        1 => (&REGS_ARG1, &COMPAT_ARG1),
        2 => (&REGS_ARG2, &COMPAT_ARG2),
        3 => (&REGS_ARG3, &COMPAT_ARG3),
        _ => (&REGS_ARG4, &COMPAT_ARG4),
    };
    if number & COMPAT != 0 {
        return u64::from(regs.field::<u32>(compat).unwrap_or_default());
    }
    regs.field(native).unwrap_or_default()
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
    let (number, result) = (u32::from(class.0) | if is_compat { COMPAT } else { 0 }, ctx.arg::<u64>(1));
    match class.family() {
        SyscallFamily::Open => files::exit_open(number, regs.0, result),
        SyscallFamily::File => files::exit_file(number, regs.0, result),
        SyscallFamily::Name => names::exit_name(number, regs.0, result),
        SyscallFamily::Rename => names::exit_rename(number, regs.0, result),
        SyscallFamily::Socket => sockets::exit_socket(number, regs.0, result),
        SyscallFamily::Privilege => privilege::exit_privilege(number, regs.0, result),
    };
    0
}

#[inline(always)]
fn is_compat() -> bool {
    has(&THREAD_STATUS)
        && Address::current_task().field::<u32>(&THREAD_STATUS).is_ok_and(|status| status & TS_COMPAT != 0)
}
