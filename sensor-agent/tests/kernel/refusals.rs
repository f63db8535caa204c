//! What keeps the kernel side from loading, and what it cannot see, is said in words. It may call the agent's kernel
//! module.

use crate::support::{Capture, Folder, output};
use nix::unistd::{Uid, setuid};
use sensor_agent::kernel::limits::limits;
use sensor_agent::kernel::{Kernel, KernelOptions, check};
use sensor_event::Kind;
use std::fs;
use std::path::PathBuf;

/// What loading with BTF from `path` fails with; `None`, and says so, where loading is not permitted anyway.
fn refusal(path: PathBuf) -> Option<String> {
    drop(Capture::start()?);
    let options = KernelOptions { btf_path: Some(path), ..KernelOptions::default() };
    Some(Kernel::load(&options).err().expect("it cannot load").to_string())
}

#[test]
fn kernel_without_btf_is_named() {
    let Some(error) = refusal(PathBuf::from("/nonexistent/btf")) else { return };
    assert!(error.starts_with("no BTF: cannot read /nonexistent/btf: "), "{error}");
    assert!(error.contains("CONFIG_DEBUG_INFO_BTF"), "{error}");
}

#[test]
fn damaged_btf_is_named() {
    let folder = Folder::new();
    let path = folder.join("btf");
    let whole = fs::read("/sys/kernel/btf/vmlinux").unwrap_or_default();
    fs::write(&path, &whole[..whole.len() / 2]).expect("the file can be written");
    let Some(error) = refusal(path.clone()) else { return };
    assert!(error.contains("too short") && error.contains(&path.display().to_string()), "{error}");
}

#[test]
fn missing_capability_is_named() {
    let folder = Folder::new();
    let output = output("refusals/unprivileged", &folder.path);
    let error = String::from_utf8_lossy(&output.stderr);
    if error.contains("skipped: ") {
        println!("skipped: not root, so nothing can be given up");
        return;
    }
    assert!(error.contains("missing capability CAP_BPF and CAP_PERFMON"), "{error}");
    assert!(error.contains("checked: false 0"), "{error}");
}

/// What the actor of this module does.
pub(crate) fn act(action: &str) {
    assert_eq!(action, "unprivileged");
    if setuid(Uid::from_raw(65534)).is_err() {
        eprintln!("skipped: ");
        return;
    }
    let error = Kernel::load(&KernelOptions::default()).err().expect("it cannot load");
    eprintln!("{error}");
    let report = check();
    eprintln!("checked: {} {}", report.is_good(), report.hooks.len());
    assert_eq!(report.error, Some(error.to_string()));
}

#[test]
fn check_names_every_event_and_its_hook() {
    if Capture::start().is_none() {
        return;
    }
    let report = check();
    assert!(report.is_good(), "{:?}", report.error);
    let events: Vec<&str> = report.hooks.iter().map(|hook| hook.event).collect();
    // Processes that were there before the agent are found by a scan, wherever no hook lists them.
    for kind in Kind::ALL.into_iter().filter(|kind| *kind != Kind::PROCESS) {
        assert!(events.contains(&kind.name()), "{}", kind.name());
    }
    assert!(report.hooks.iter().all(|hook| !hook.hook.is_empty() && !hook.tier.is_empty()));
}

#[test]
fn limits_are_of_events_of_the_table() {
    let limits = limits();
    for limit in &limits {
        assert!(Kind::ALL.iter().any(|kind| kind.name() == limit.event), "{limit:?}");
        assert!(!limit.what.is_empty() && !limit.what.ends_with('.'), "{limit:?}");
        // For the tables of docs/kernel-support.md.
        println!("limit: {}", serde_json::json!(limit));
    }
    assert!(!limits.is_empty());
}
