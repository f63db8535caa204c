//! How this process takes memory from the kernel. Not what it takes it for. It may call the C library.

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
