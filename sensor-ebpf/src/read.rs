//! Reads of kernel memory by address and resolved offset. Strings are read by [`crate::draft`]. It
//! may call aya-ebpf helpers only.

use aya_ebpf::Global;
use aya_ebpf::helpers::{bpf_get_current_task, bpf_probe_read_kernel, bpf_probe_read_user};
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

    /// The object that embeds this one at `offset` (`container_of`).
    #[inline(always)]
    pub fn container(self, offset: &Global<u32>) -> Self {
        Self(self.0.wrapping_sub(u64::from(offset.load())))
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
