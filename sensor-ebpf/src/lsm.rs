//! The better tier: programs at the entry and exit of kernel functions, which see the kernel's own objects and the
//! real result. Not the tracepoint tier, which stands in for each part whose functions a kernel lacks. It may call the
//! other modules of this crate.
//!
//! A function that the compiler merged into its callers is never seen to return, so the programs attach to functions
//! that are called from other files or through pointers, as far as there are such.

mod attributes;
mod mappings;
mod mounts;
mod names;
mod open;
pub mod pending;
mod privilege;
mod sockets;

use crate::globals::TASK_IN_EXECVE_BIT;
use crate::read::{Address, read};
use aya_ebpf::{EbpfContext, Global};
use sensor_event::Field;

/// Errors that a pointer can carry: `MAX_ERRNO` of `include/linux/err.h`.
const ERRNO_MAX: i64 = 4095;

/// An argument, or what was returned, as a plain number; 0 when the kernel has none at that place.
///
/// Read like any memory, although the verifier knows the place: it would take a typed pointer for one that is never
/// null, and drop the checks for those that are.
#[inline(always)]
fn argument(context: &impl EbpfContext, index: &Global<u32>) -> u64 {
    let index = index.load();
    if index == Field::ABSENT {
        return 0;
    }
    let word = (context.as_ptr() as u64).wrapping_add(u64::from(index & 0xf) * 8);
    read(word).unwrap_or(0)
}

/// As [`argument`], of a pointer.
#[inline(always)]
fn pointer(context: &impl EbpfContext, index: &Global<u32>) -> Address {
    Address(argument(context, index))
}

/// What a function of type `int` or `long` returned, as 0 or a positive errno.
#[inline(always)]
fn errno(returned: u64) -> i32 {
    let returned = returned as i32;
    if returned < 0 { returned.wrapping_neg() } else { 0 }
}

/// The positive errno in what a function of a pointer type returned: `IS_ERR()`.
#[inline(always)]
fn pointer_errno(returned: u64) -> Option<i32> {
    let returned = returned.cast_signed();
    if (-ERRNO_MAX..0).contains(&returned) { Some(-(returned as i32)) } else { None }
}

/// Whether the current task is inside an exec, whose record shows what it maps and what it grants: `in_execve`.
#[inline(always)]
fn is_in_exec() -> bool {
    let bit = TASK_IN_EXECVE_BIT.load();
    if bit == Field::ABSENT {
        return false;
    }
    let byte = Address::current_task().0.wrapping_add(u64::from(bit / 8));
    read::<u8>(byte).is_ok_and(|byte| byte >> (bit % 8) & 1 == 1)
}
