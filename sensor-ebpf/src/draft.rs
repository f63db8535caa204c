//! A record under construction in a scratch slot. Not its submission. It may call aya-ebpf helpers only.
//!
//! Every variable offset goes through [`bounded`], so that the verifier of any kernel sees it below
//! [`RECORD_BYTES_MAX`], and a slot has room behind that for the largest single append.

use crate::maps::{self, Claim};
use crate::read::Address;
use aya_ebpf::helpers::generated::{
    bpf_probe_read_kernel, bpf_probe_read_kernel_str, bpf_probe_read_user, bpf_probe_read_user_str,
};
use core::arch::asm;
use core::mem::offset_of;
use sensor_event::{Header, LossReason, RECORD_BYTES_MAX};

/// Room behind the longest record for one append: more than any append's maximum.
const SLACK_BYTES: usize = 8192;

/// Offset of a record's body.
pub const BODY: usize = size_of::<Header>();

/// Memory for one record.
#[repr(C, align(8))]
pub struct Slot {
    record: [u8; RECORD_BYTES_MAX],
    slack: [u8; SLACK_BYTES],
}

/// A record under construction.
///
/// Its length lives in the header's field, not here: in a register the verifier would tell apart every length
/// that a loop can reach, and see exponentially many states.
#[derive(Clone, Copy)]
pub struct Draft {
    slot: *mut Slot,
    index: u32,
}

const _: () = assert!(RECORD_BYTES_MAX == 0x8000, "`bounded` masks with the bound of a record");

/// The same number for any that can occur, and one the verifier knows to have no other bits than the mask's.
///
/// In assembly because LLVM would drop a mask that it can prove needless, and the verifier's proof is not LLVM's.
#[inline(always)]
fn masked<const MASK: u64>(number: u64) -> u64 {
    let mut number = number;
    // SAFETY: one register operation; no memory, no flags.
    unsafe {
        asm!("{number} &= {mask}", number = inout(reg) number, mask = const MASK, options(nomem, nostack, pure));
    }
    number
}

/// An offset in a record: below [`RECORD_BYTES_MAX`].
#[inline(always)]
fn bounded(offset: u64) -> usize {
    masked::<0x7fff>(offset) as usize
}

/// The length of an append: below [`SLACK_BYTES`].
#[inline(always)]
fn bounded_append(len: u64) -> u32 {
    masked::<0x1fff>(len) as u32
}

/// An offset in the fixed part that came through a subprogram's parameter: aligned and small.
#[inline(always)]
pub fn bounded_reference(reference: u32) -> usize {
    masked::<0xf8>(u64::from(reference)) as usize
}

impl Draft {
    /// Starts a record whose tail begins after a body of `body_bytes`.
    #[inline(always)]
    pub fn new(claim: &Claim, body_bytes: usize) -> Self {
        let draft = Self { slot: claim.memory, index: claim.index };
        draft.set_len((BODY + body_bytes) as u64);
        draft
    }

    /// The draft in a scratch slot, for a subprogram: see [`Self::index`].
    #[inline(always)]
    pub fn at_index(index: u32) -> Option<Self> {
        Some(Self { slot: maps::scratch(index)?, index })
    }

    /// How a subprogram is told which draft is meant. One that takes and returns numbers only is verified once,
    /// for any of them (a *global* function, since 5.6), and not again for every state of every call.
    #[inline(always)]
    pub fn index(self) -> u32 {
        self.index
    }

    /// Bytes written so far.
    #[inline(always)]
    pub fn len(self) -> u64 {
        let place = self.at(offset_of!(Header, len)).cast::<u32>();
        // SAFETY: as in `put`. Volatile, or LLVM would keep the number in a register.
        u64::from(unsafe { place.read_volatile() })
    }

    #[inline(always)]
    fn set_len(self, len: u64) {
        self.put(offset_of!(Header, len), len as u32);
    }

    /// Submittable length.
    #[inline(always)]
    pub fn bounded_len(self) -> u64 {
        bounded(self.len()) as u64
    }

    #[inline(always)]
    fn at(self, offset: usize) -> *mut u8 {
        self.slot.cast::<u8>().wrapping_add(offset)
    }

    /// Writes a value of the fixed part. `offset` is a constant, aligned for `T`.
    #[inline(always)]
    pub fn put<T>(self, offset: usize, value: T) {
        let place = self.at(offset).cast::<T>();
        // SAFETY: within the slot (the verifier checks it), aligned by the layout assertions of sensor-event,
        // and this program owns the slot. Volatile: numbers must stay where the verifier does not track them.
        unsafe { place.write_volatile(value) };
    }

    /// Copies a number within the fixed part.
    #[inline(always)]
    pub fn copy_u16(self, from: usize, to: usize) {
        self.put(to, self.load_u16(from));
    }

    /// Adds one to a number of the fixed part.
    #[inline(always)]
    pub fn increment_u16(self, at: usize) {
        self.put(at, self.load_u16(at) + 1);
    }

    /// Reads back a number of the fixed part: whatever it was, the verifier takes it for a number.
    #[inline(always)]
    pub fn load_u64(self, at: usize) -> u64 {
        let place = self.at(at).cast::<u64>();
        // SAFETY: as in `put`.
        unsafe { place.read_volatile() }
    }

    #[inline(always)]
    fn load_u16(self, at: usize) -> u16 {
        let place = self.at(at).cast::<u16>();
        // SAFETY: as in `put`. Volatile, or LLVM would keep the number in a register.
        unsafe { place.read_volatile() }
    }

    /// Appends a NUL-terminated kernel string with its NUL, cut at `max` bytes. Returns its length with NUL.
    #[inline(always)]
    pub fn append_kernel_string(self, source: Address, max: u32) -> Result<u64, LossReason> {
        let place = self.at(bounded(self.len()));
        // SAFETY: `max` bytes fit behind any bounded offset; the helper checks the source.
        let read = unsafe { bpf_probe_read_kernel_str(place.cast(), max, source.0 as *const _) };
        self.advance(read)
    }

    /// Appends a kernel string without its NUL and returns its length; nothing where there is none.
    #[inline(always)]
    pub fn append_text(self, source: Address, max: u32) -> u16 {
        match self.append_kernel_string(source, max) {
            Ok(len) => {
                self.shorten(1);
                (len - 1) as u16
            }
            Err(_) => 0,
        }
    }

    /// As [`Self::append_kernel_string`], from the memory of the current process.
    #[inline(always)]
    pub fn append_user_string(self, source: u64, max: u32) -> Result<u64, LossReason> {
        let place = self.at(bounded(self.len()));
        // SAFETY: `max` bytes fit behind any bounded offset; the helper checks the source.
        let read = unsafe { bpf_probe_read_user_str(place.cast(), max, source as *const _) };
        self.advance(read)
    }

    /// Appends `len` (below [`SLACK_BYTES`]) bytes of kernel memory.
    #[inline(always)]
    pub fn append_kernel_bytes(self, source: Address, len: u64) -> Result<(), LossReason> {
        let place = self.at(bounded(self.len()));
        // SAFETY: as in `append_user_bytes`.
        let read = unsafe { bpf_probe_read_kernel(place.cast(), bounded_append(len), source.0 as *const _) };
        self.appended(read, len)
    }

    /// Appends `len` (below [`SLACK_BYTES`]) bytes of the current process's memory.
    #[inline(always)]
    pub fn append_user_bytes(self, source: u64, len: u64) -> Result<(), LossReason> {
        let place = self.at(bounded(self.len()));
        // SAFETY: the length is below the slack, so it fits behind any bounded offset; the helper checks the
        // source.
        let read = unsafe { bpf_probe_read_user(place.cast(), bounded_append(len), source as *const _) };
        self.appended(read, len)
    }

    #[inline(always)]
    fn appended(self, read: i64, len: u64) -> Result<(), LossReason> {
        if read < 0 {
            return Err(LossReason::Fault);
        }
        self.set_len(self.len() + len);
        Ok(())
    }

    /// Takes back the last `bytes` appended.
    #[inline(always)]
    pub fn shorten(self, bytes: u64) {
        self.set_len(self.len() - bytes);
    }

    #[inline(always)]
    fn advance(self, read: i64) -> Result<u64, LossReason> {
        if read <= 0 {
            return Err(LossReason::Fault);
        }
        self.set_len(self.len() + read as u64);
        Ok(read as u64)
    }
}
