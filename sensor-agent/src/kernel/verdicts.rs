//! The maps of remembered verdicts: what the pipeline wants remembered goes in, counts come out. Not what is worth
//! remembering. It may call aya and map memory.

use super::error::KernelError;
use crate::pipeline::Remember;
use aya::Ebpf;
use aya::maps::{Array, HashMap, Map, MapData};
use nix::sys::mman::{MapFlags, ProtFlags, mmap, munmap};
use sensor_event::Hits;
use std::num::NonZeroUsize;
use std::os::fd::AsFd as _;
use std::ptr::NonNull;
use std::sync::atomic::{AtomicU64, Ordering};

/// The maps.
pub(super) struct VerdictMaps {
    contexts: HashMap<MapData, u32, [u64; 4]>,
    verdicts: HashMap<MapData, u64, [u64; 4]>,
    policy: Array<MapData, u32>,
    hits: HitCells,
    refused_count: u64,
}

impl VerdictMaps {
    /// Takes them out of the loaded object; `cells` are in `HITS`.
    ///
    /// # Errors
    /// When one is missing, or its memory cannot be mapped.
    pub(super) fn take(ebpf: &mut Ebpf, cells: u32) -> Result<Self, KernelError> {
        Ok(Self {
            contexts: super::take_map(ebpf, "CONTEXTS")?,
            verdicts: super::take_map(ebpf, "VERDICTS")?,
            policy: super::take_map(ebpf, "POLICY")?,
            hits: HitCells::map(ebpf, cells)?,
            refused_count: 0,
        })
    }

    /// Applies a change. What a full map refuses is not remembered, and counted.
    pub(super) fn apply(&mut self, change: Remember) {
        let applied = match change {
            Remember::Process { pid, entry } => {
                let words: [u64; 4] = zerocopy::transmute!(entry);
                self.contexts.insert(pid, words, 0)
            }
            Remember::Verdict { hash, entry } => {
                let words: [u64; 4] = zerocopy::transmute!(entry);
                self.verdicts.insert(hash, words, 0)
            }
            // The kernel may have forgotten it already.
            Remember::ForgetProcess { pid } => return drop(self.contexts.remove(&pid)),
            Remember::ForgetVerdict { hash } => return drop(self.verdicts.remove(&hash)),
        };
        self.refused_count += u64::from(applied.is_err());
    }

    /// Makes void what was judged by another policy.
    ///
    /// # Errors
    /// When the map cannot be written.
    pub(super) fn set_policy(&mut self, policy: u32) -> Result<(), KernelError> {
        let set = self.policy.set(0, policy, 0);
        set.map_err(|error| KernelError::Map { name: "POLICY", reason: error.to_string() })
    }

    /// What a cell counts.
    pub(super) fn hits(&self, cell: u32) -> Hits {
        self.hits.read(cell)
    }

    /// Changes that a full map refused.
    pub(super) const fn refused_count(&self) -> u64 {
        self.refused_count
    }
}

/// The map `HITS` in this process's memory: of each cell the count, and the time of the last.
struct HitCells {
    cells: NonNull<[[AtomicU64; 2]]>,
    /// Keeps the map.
    _map: MapData,
}

#[expect(unsafe_code, reason = "the memory is shared with the kernel and belongs to no thread")]
// SAFETY: the memory stays where it is, and is read by atomic loads only.
unsafe impl Send for HitCells {}

#[expect(unsafe_code, reason = "memory is mapped and read by address")]
impl HitCells {
    fn map(ebpf: &mut Ebpf, cells: u32) -> Result<Self, KernelError> {
        let error = |reason: String| KernelError::Map { name: "HITS", reason };
        let Some(Map::Array(map)) = ebpf.take_map("HITS") else {
            return Err(error("not an array in the object".to_owned()));
        };
        let cells = cells as usize;
        let bytes = NonZeroUsize::new(cells * size_of::<Hits>()).ok_or_else(|| error("empty".to_owned()))?;
        // SAFETY: a new mapping, at an address of the kernel's choice, of a map that has so many bytes.
        let memory =
            unsafe { mmap(None, bytes, ProtFlags::PROT_READ, MapFlags::MAP_SHARED, map.fd().as_fd(), 0) };
        let memory = memory.map_err(|errno| error(errno.to_string()))?;
        Ok(Self { cells: NonNull::slice_from_raw_parts(memory.cast(), cells), _map: map })
    }

    fn read(&self, cell: u32) -> Hits {
        // SAFETY: so many cells are mapped, aligned as their pages are, as long as `self` lives.
        let cells = unsafe { self.cells.as_ref() };
        let Some([count, last_ns]) = cells.get(cell as usize) else { return Hits::default() };
        Hits { count: count.load(Ordering::Relaxed), last_ns: last_ns.load(Ordering::Relaxed) }
    }
}

#[expect(unsafe_code, reason = "memory is unmapped by address")]
impl Drop for HitCells {
    fn drop(&mut self) {
        let bytes = self.cells.len() * size_of::<Hits>();
        // SAFETY: mapped in `map` with that length, and nothing borrows from it any more.
        let _cannot_fail = unsafe { munmap(self.cells.cast(), bytes) };
    }
}
