//! Whether the agent sees processes as the kernel programs do. Not which namespace a record's process is in. It may
//! read the link /proc/self/ns/pid.

use super::error::KernelError;
use std::path::Path;

/// The initial pid namespace (`PROC_PID_INIT_INO` in `include/linux/proc_ns.h`, the same in every kernel).
const INITIAL: &str = "pid:[4026531836]";
const LINK: &str = "/proc/self/ns/pid";

/// Checks that this process lives in the initial pid namespace: records carry pids of that one, and the agent
/// compares them with its own and with those in /proc.
///
/// # Errors
/// [`KernelError::PidNamespace`] in any other.
pub(super) fn check() -> Result<(), KernelError> {
    let found = std::fs::read_link(LINK).map_err(|source| KernelError::Host { what: LINK, source })?;
    check_link(&found)
}

fn check_link(found: &Path) -> Result<(), KernelError> {
    if found == Path::new(INITIAL) {
        return Ok(());
    }
    Err(KernelError::PidNamespace { found: found.display().to_string() })
}

#[cfg(test)]
mod tests {
    use super::check_link;
    use std::path::Path;

    #[test]
    fn only_the_initial_namespace_will_do() {
        assert!(check_link(Path::new("pid:[4026531836]")).is_ok());
        let error = check_link(Path::new("pid:[4026532301]")).unwrap_err().to_string();
        assert!(error.contains("pid:[4026532301]") && error.contains("--pid=host"), "{error}");
    }
}
