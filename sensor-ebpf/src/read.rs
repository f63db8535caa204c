//! Reads of arguments and of kernel memory by address and resolved offset. Strings are read by [`crate::draft`]. It
//! may call aya-ebpf helpers only.

use crate::globals::HAS_TYPED_TASK;
use aya_ebpf::helpers::generated::bpf_get_current_task_btf;
use aya_ebpf::helpers::{bpf_get_current_task, bpf_probe_read_kernel, bpf_probe_read_user};
use aya_ebpf::{EbpfContext, Global};
use core::arch::asm;
use core::ffi::c_void;
use sensor_event::{Field, LossReason};
use zerocopy::FromBytes;

/// The address of a kernel object. Never dereferenced: only [`bpf_probe_read_kernel`] looks behind it.
#[derive(Clone, Copy, PartialEq, Eq)]
#[repr(transparent)]
pub struct Address(pub u64);

impl Address {
    /// The task that runs now.
    #[inline(always)]
    pub fn current_task() -> Self {
        // SAFETY: the helper has no preconditions; it returns the address of a live task.
        Self(unsafe { bpf_get_current_task() })
    }

    /// Whether there is no object.
    #[inline(always)]
    pub fn is_null(self) -> bool {
        self.0 == 0
    }

    /// The value of a member.
    ///
    /// # Errors
    /// [`LossReason::Fault`] when the member is absent or the address is bad.
    #[inline(always)]
    pub fn field<T: FromBytes>(self, offset: &Global<u32>) -> Result<T, LossReason> {
        let offset = offset.load();
        if offset == Field::ABSENT {
            return Err(LossReason::Fault);
        }
        read(self.0.wrapping_add(u64::from(offset)))
    }

    /// The object a pointer member points to; may be null.
    ///
    /// # Errors
    /// As [`Self::field`].
    #[inline(always)]
    pub fn follow(self, offset: &Global<u32>) -> Result<Self, LossReason> {
        self.field::<u64>(offset).map(Self)
    }

    /// A member that is embedded, not pointed to.
    #[inline(always)]
    pub fn member(self, offset: &Global<u32>) -> Self {
        Self(self.0.wrapping_add(u64::from(offset.load())))
    }

    /// The object that embeds this one at `offset` (`container_of`).
    #[inline(always)]
    pub fn container(self, offset: &Global<u32>) -> Self {
        Self(self.0.wrapping_sub(u64::from(offset.load())))
    }
}

/// A pointer whose type the verifier knows: what it points to is read by one instruction, which the kernel lets fail
/// like a helper would. Only what it leads to by members that are plain pointers has a known type in turn.
#[derive(Clone, Copy)]
pub struct Typed(*const u8);

impl Typed {
    /// The task that runs now; `None` where the kernel cannot tell its type.
    #[inline(always)]
    pub fn current_task() -> Option<Self> {
        if HAS_TYPED_TASK.load() == 0 {
            return None;
        }
        // SAFETY: the helper has no preconditions; it returns the address of a live task.
        Some(Self(unsafe { bpf_get_current_task_btf() }.cast()))
    }

    /// The value of a member.
    #[inline(always)]
    pub fn field<T: FromBytes>(self, offset: &Global<u32>) -> T {
        let place = self.0.wrapping_add(offset.load() as usize).cast::<T>();
        // SAFETY: the verifier checks that the type has such a member, and a load that faults gives 0.
        unsafe { place.read_volatile() }
    }

    /// The object a pointer member points to, unless there is none.
    #[inline(always)]
    pub fn follow(self, offset: &Global<u32>) -> Option<Self> {
        let place = self.0.wrapping_add(offset.load() as usize).cast::<*const u8>();
        // SAFETY: as in `field`.
        let object = unsafe { place.read_volatile() };
        (!object.is_null()).then_some(Self(object))
    }
}

/// Whether the running kernel has the member.
#[inline(always)]
pub fn has(offset: &Global<u32>) -> bool {
    offset.load() != Field::ABSENT
}

/// The value at a kernel address.
///
/// # Errors
/// [`LossReason::Fault`] when the address is bad.
#[inline(always)]
pub fn read<T: FromBytes>(address: u64) -> Result<T, LossReason> {
    // SAFETY: the helper checks the address itself and fails on a bad one; `FromBytes` accepts any bytes.
    unsafe { bpf_probe_read_kernel(address as *const T) }.map_err(|_| LossReason::Fault)
}

/// The value at an address of the current process.
///
/// # Errors
/// [`LossReason::Fault`] when the address is bad, or its page is not there.
#[inline(always)]
pub fn read_user<T: FromBytes>(address: u64) -> Result<T, LossReason> {
    // SAFETY: the helper checks the address itself and fails on a bad one; `FromBytes` accepts any bytes.
    unsafe { bpf_probe_read_user(address as *const T) }.map_err(|_| LossReason::Fault)
}

/// An argument of a kernel function whose index the agent looked up; 0 when there is none.
///
/// In assembly because LLVM would merge the cases into one load at a computed offset, which a context does not allow.
#[inline(always)]
pub fn argument(context: &impl EbpfContext, index: &Global<u32>) -> u64 {
    let context = context.as_ptr();
    match index.load() {
        0 => word::<0>(context),
        1 => word::<1>(context),
        2 => word::<2>(context),
        3 => word::<3>(context),
        4 => word::<4>(context),
        5 => word::<5>(context),
        6 => word::<6>(context),
        7 => word::<7>(context),
        8 => word::<8>(context),
        9 => word::<9>(context),
        _ => 0,
    }
}

#[inline(always)]
fn word<const INDEX: usize>(context: *mut c_void) -> u64 {
    let value: u64;
    // SAFETY: reads a word of the program's own context; the verifier checks that the function has it.
    unsafe {
        asm!(
            "{value} = *(u64 *)({context} + {offset})",
            value = out(reg) value,
            context = in(reg) context,
            offset = const INDEX * 8,
            options(nostack, readonly),
        );
    }
    value
}
