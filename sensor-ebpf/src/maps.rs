//! The maps: rings, counters, scratch. Not what is written to them. It may call aya-ebpf and sensor-event only.

use crate::draft::Slot;
use aya_ebpf::bindings::{BPF_RB_AVAIL_DATA, BPF_RB_FORCE_WAKEUP, BPF_RB_NO_WAKEUP};
use aya_ebpf::helpers::bpf_get_smp_processor_id;
use aya_ebpf::macros::map;
use aya_ebpf::maps::{Array, HashMap, LruHashMap, PerCpuArray, RingBuf};
use core::arch::asm;
use sensor_event::{COUNTERS_LEN, Counter, Kind, LossReason, Part, SYSCALL_CLASSES_LEN, counter_index};

/// Scratch slots of one CPU: one for the program that was interrupted, and one each for those that interrupt it
/// (task, soft interrupt, interrupt), and one to spare.
pub const SLOTS_PER_CPU: u32 = 4;

/// Process records. The agent sets the size.
#[map]
static LIFECYCLE: RingBuf = RingBuf::with_byte_size(4096, 0);

/// File and network records. The agent sets the size.
#[map]
static ACTIVITY: RingBuf = RingBuf::with_byte_size(4096, 0);

/// Indexed by [`counter_index`].
#[map]
static COUNTERS: PerCpuArray<u64> = PerCpuArray::with_max_entries(COUNTERS_LEN as u32, 0);

/// [`SLOTS_PER_CPU`] slots for each possible CPU: the agent sets the length. Not a per-CPU array, whose values
/// may not exceed 32 KiB.
#[map]
static SCRATCH: Array<Slot> = Array::with_max_entries(SLOTS_PER_CPU, 0);

/// How many programs of this CPU want each slot.
#[map]
static SCRATCH_CLAIMS: PerCpuArray<u64> = PerCpuArray::with_max_entries(SLOTS_PER_CPU, 0);

/// Class of each system call: [`sensor_event::syscall_classes`], without those whose events better hooks see.
///
/// A map and not a global, because the agent knows only after it attached the better hooks.
#[map]
static SYSCALLS: Array<u16> = Array::with_max_entries(SYSCALL_CLASSES_LEN as u32, 0);

/// By [`Part`]: not 0 when its records are left to the tracepoint tier.
#[map]
static LEFT_TO_TRACEPOINTS: Array<u32> = Array::with_max_entries(Part::LEN as u32, 0);

/// Sockets whose connect was reported and has no result yet, by address. A result is reported for those only.
#[map]
pub static CONNECTING: HashMap<u64, u64> = HashMap::with_max_entries(CONNECTING_MAX, 0);

/// Connects that can be under way at once; one more and its result is counted as lost.
const CONNECTING_MAX: u32 = 16_384;

/// Processes whose end was reported, by pid and start time. Only where the kernel does not say which thread is the last.
#[map]
pub static ENDED: LruHashMap<[u64; 2], u8> = LruHashMap::with_max_entries(ENDED_MAX, 0);

/// Processes that can be ending at once.
const ENDED_MAX: u32 = 4096;

/// TCP sockets that a thread's `listen()` has made listen, by thread: what the call returns is not known yet, nor, maybe,
/// the port.
#[map]
pub static LISTENING: LruHashMap<u32, u64> = LruHashMap::with_max_entries(LISTENING_MAX, 0);

/// Calls of `listen()` that can be under way at once.
const LISTENING_MAX: u32 = 1024;

/// Peers that a socket has sent a datagram to.
#[map]
pub static SENT: LruHashMap<SentTo, u8> = LruHashMap::with_max_entries(SENT_MAX, 0);

/// Pairs of socket and peer that are remembered: one that was forgotten counts as new.
const SENT_MAX: u32 = 16_384;

/// A socket and a peer.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct SentTo {
    /// The socket, by a number that is never given again.
    pub cookie: u64,
    /// Address in network byte order; IPv4 in the first word.
    pub address: [u32; 4],
    /// Port in network byte order, and whether the address is IPv4.
    pub port_and_version: u64,
}

/// Adds one to a counter.
#[inline(always)]
pub fn count(kind: Kind, counter: Counter) {
    if let Some(cell) = COUNTERS.get_ptr_mut(counter_index(kind, counter) as u32) {
        add(cell, 1);
    }
}

/// Adds to a cell of a map in one instruction: exact although programs interrupt each other on the CPU that
/// owns the cell. In assembly because the target's `AtomicU64` has no addition; this one fetches no result, so
/// 5.10 has it.
#[inline(always)]
pub fn add(cell: *mut u64, value: u64) {
    // SAFETY: `cell` is the address of an aligned map value, which lives as long as the program runs.
    unsafe {
        asm!("lock *(u64 *)({cell} + 0) += {value}", cell = in(reg) cell, value = in(reg) value, options(nostack));
    }
}

/// Classes of a system call: native in the low byte, 32-bit in the high byte.
#[inline(always)]
pub fn syscall_classes(number: u32) -> u16 {
    SYSCALLS.get(number).copied().unwrap_or(0)
}

/// Whether a part is wanted and no better hook sees it: for a tracepoint program that serves several parts.
#[inline(always)]
pub fn is_left_to_tracepoints(part: Part) -> bool {
    LEFT_TO_TRACEPOINTS.get(u32::from(part.0)).is_some_and(|left| *left != 0)
}

/// Submits a record to the ring of its kind.
#[inline(always)]
pub fn submit(kind: Kind, slot: *mut Slot, len: u64) -> Result<(), LossReason> {
    let ring = match kind.ring() {
        sensor_event::Ring::Lifecycle => &LIFECYCLE,
        sensor_event::Ring::Activity => &ACTIVITY,
    };
    // A wake-up costs fifty times what a record does: one each time that so many bytes more are unread, and not for each
    // record while the reader is on its way. It looks by itself now and then.
    let unread = ring.query(u64::from(BPF_RB_AVAIL_DATA));
    let is_fuller = (unread ^ (unread + len)) >= crate::globals::WAKE_BYTES.load();
    let wake = if is_fuller { BPF_RB_FORCE_WAKEUP } else { BPF_RB_NO_WAKEUP };
    // SAFETY: `len` is below the size of a slot, which the verifier checks.
    let record = unsafe { core::slice::from_raw_parts(slot.cast::<u8>(), len as usize) };
    ring.output::<[u8]>(record, u64::from(wake)).map_err(|_| LossReason::RingFull)
}

/// A claimed scratch slot.
pub struct Claim {
    /// Which one of this CPU.
    slot: u32,
    /// Its place in [`SCRATCH`].
    pub index: u32,
    /// Its memory.
    pub memory: *mut Slot,
}

/// The memory of a scratch slot.
#[inline(always)]
pub fn scratch(index: u32) -> Option<*mut Slot> {
    SCRATCH.get_ptr_mut(index)
}

/// Claims a slot of this CPU.
///
/// A program adds one to the slot's claims and owns the slot if it then reads one. Two programs never own the
/// same slot: whoever reads second reads the claims of both, for the owner takes its claim back only when it is
/// done. That holds wherever one interrupts or preempts the other, since both run on the CPU that owns the cell.
/// Two that meet in the middle may both read two, and both go on to the next slot: that costs a slot for a
/// moment, never correctness. The addition needs no fetched result, so 5.10 can do it.
#[inline(always)]
pub fn claim() -> Result<Claim, LossReason> {
    // SAFETY: the helper has no preconditions.
    let cpu = unsafe { bpf_get_smp_processor_id() };
    for slot in 0..SLOTS_PER_CPU {
        let Some(claims) = SCRATCH_CLAIMS.get_ptr_mut(slot) else { break };
        add(claims, 1);
        // SAFETY: `claims` is the address of an aligned map value.
        if unsafe { claims.read_volatile() } == 1
            && let Some(memory) = scratch(cpu * SLOTS_PER_CPU + slot)
        {
            return Ok(Claim { slot, index: cpu * SLOTS_PER_CPU + slot, memory });
        }
        add(claims, u64::MAX);
    }
    Err(LossReason::Nested)
}

/// Gives a slot back.
#[inline(always)]
pub fn release(claim: &Claim) {
    if let Some(claims) = SCRATCH_CLAIMS.get_ptr_mut(claim.slot) {
        add(claims, u64::MAX);
    }
}
