//! How this process takes memory from the kernel, and gives it back. Not what it takes it for. It may call the C library
//! and read /proc/self.

use nix::sys::mman::{MmapAdvise, madvise};
use procfs::process::{MMPermissions, MMapPath, MemoryMap, Process};
use std::ffi::c_void;
use std::ptr::NonNull;

/// Lets all threads share one heap. Otherwise each has its own, and what one thread takes and another frees, as each
/// observation is, leaves holes in all of them: of what the agent grew by in three minutes of builds, half was holes
/// (two agents beside each other, anonymous memory 34.5 MB with a heap a thread and 24.4 MB with one).
///
/// To be called before there are other threads. Does nothing where the C library is not glibc.
#[cfg_attr(target_env = "gnu", expect(unsafe_code, reason = "the call has no safe wrapper"))]
pub fn share_heap() {
    #[cfg(target_env = "gnu")]
    // SAFETY: mallopt() takes two numbers and changes parameters of malloc() only; one it does not know it refuses.
    let _is_set = unsafe { nix::libc::mallopt(nix::libc::M_ARENA_MAX, 1) };
}

/// Gives back what starting took and running does not need: free memory of the heap, and the pages of the program itself,
/// of which those that are used come back from the page cache one by one. Best effort: where it fails, more is held.
pub fn give_back() {
    trim_heap();
    let Ok(own) = Process::myself() else { return };
    let (Ok(exe), Ok(maps)) = (own.exe(), own.maps()) else { return };
    for map in maps.iter().filter(|map| is_code(map) && map.pathname == MMapPath::Path(exe.clone())) {
        forget_pages(map.address);
    }
}

/// Whether nothing was or can be written to a mapping: what can be run.
fn is_code(map: &MemoryMap) -> bool {
    map.perms.contains(MMPermissions::EXECUTE) && !map.perms.contains(MMPermissions::WRITE)
}

#[expect(unsafe_code, reason = "the call has no safe wrapper")]
fn forget_pages((from, to): (u64, u64)) {
    let Some(begin) = NonNull::new(std::ptr::without_provenance_mut::<c_void>(from as usize)) else { return };
    // SAFETY: the range is one mapping of the program's file that nobody can write to: what is used next is read from there
    // again, and is the same.
    let _best_effort = unsafe { madvise(begin, (to - from) as usize, MmapAdvise::MADV_DONTNEED) };
}

#[cfg_attr(target_env = "gnu", expect(unsafe_code, reason = "the call has no safe wrapper"))]
fn trim_heap() {
    #[cfg(target_env = "gnu")]
    // SAFETY: malloc_trim() takes a number and gives free pages of malloc()'s back.
    let _was_some = unsafe { nix::libc::malloc_trim(0) };
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::{AtomicU32, Ordering};

    #[test]
    fn only_what_nobody_writes_to_is_forgotten_and_the_program_goes_on() {
        let maps = Process::myself().unwrap().maps().unwrap();
        let at = forget_pages as fn(_) as usize as u64;
        let of_code = maps.iter().filter(|map| is_code(map) && (map.address.0..map.address.1).contains(&at));
        assert_eq!(of_code.count(), 1, "{at:x}");
        let of_data = &raw const CALLS as usize as u64;
        assert!(maps.iter().any(|map| (map.address.0..map.address.1).contains(&of_data) && !is_code(map)));
        CALLS.store(7, Ordering::Relaxed);
        give_back();
        assert_eq!(CALLS.load(Ordering::Relaxed), 7);
    }

    static CALLS: AtomicU32 = AtomicU32::new(1);
}
