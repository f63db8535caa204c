//! What the agent is allowed to do. Not how to get it. It may read /proc/self/status.

use super::error::KernelError;

/// Number and name of a capability (`include/uapi/linux/capability.h`).
type Capability = (u32, &'static str);

const CAP_SYS_ADMIN: Capability = (21, "CAP_SYS_ADMIN");
/// What loading and attaching needs, unless [`CAP_SYS_ADMIN`] is there, which implies both.
const NEEDED: [Capability; 2] = [(39, "CAP_BPF"), (38, "CAP_PERFMON")];

/// Checks that this process may load and attach the programs.
///
/// # Errors
/// [`KernelError::Capability`] with the names of those that are missing.
pub(super) fn check() -> Result<(), KernelError> {
    let status = std::fs::read_to_string("/proc/self/status")
        .map_err(|source| KernelError::Host { what: "/proc/self/status", source })?;
    check_effective(parse_effective(&status))
}

fn check_effective(effective: u64) -> Result<(), KernelError> {
    let has = |(number, _): Capability| effective >> number & 1 == 1;
    let missing: Vec<&str> =
        NEEDED.into_iter().filter(|needed| !has(*needed)).map(|(_, name)| name).collect();
    if has(CAP_SYS_ADMIN) || missing.is_empty() {
        return Ok(());
    }
    Err(KernelError::Capability { missing: missing.join(" and "), effective })
}

/// The `CapEff` line; no line, no capability.
fn parse_effective(status: &str) -> u64 {
    status
        .lines()
        .find_map(|line| line.strip_prefix("CapEff:"))
        .and_then(|hex| u64::from_str_radix(hex.trim(), 16).ok())
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::{check_effective, parse_effective};

    fn check(status: &str, expected: &str) {
        let message =
            check_effective(parse_effective(status)).map_or_else(|error| error.to_string(), |()| "ok".into());
        assert!(message.starts_with(expected), "{status:?}: {message}");
    }

    #[test]
    fn missing_capabilities_are_named() {
        check("Name:\tx\nCapEff:\t0000000000000000\n", "missing capability CAP_BPF and CAP_PERFMON");
        check("CapEff:\t0000008000000000\n", "missing capability CAP_PERFMON");
        check("CapEff:\t0000004000000000\n", "missing capability CAP_BPF");
        check("", "missing capability CAP_BPF and CAP_PERFMON");
        check("CapEff:\tnonsense\n", "missing capability CAP_BPF and CAP_PERFMON");
    }

    #[test]
    fn either_way_of_being_allowed_is_enough() {
        check("CapEff:\t000000c000000000\n", "ok");
        check("CapEff:\t0000000000200000\n", "ok");
        check("CapEff:\t000001ffffffffff\n", "ok");
    }
}
