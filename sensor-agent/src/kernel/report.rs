//! What this kernel can and cannot show: the facts behind `sensor-agent check`. Not their display. It may load
//! the programs.

use super::{HookStatus, Kernel, KernelOptions, load};
use serde::Serialize;

/// Result of a trial run of the kernel side.
#[derive(Clone, Debug, Serialize)]
pub struct CheckReport {
    /// `uname -r`.
    pub kernel: String,
    /// Where the kernel object comes from: `prebuilt`, `built` or a path.
    pub object: &'static str,
    /// Every event with its hook; empty when the programs could not be loaded.
    pub hooks: Vec<HookStatus>,
    /// Active security modules, as the kernel lists them; `None` when it shows no list.
    pub security_modules: Option<String>,
    /// What keeps the agent from starting, if anything.
    pub error: Option<String>,
}

impl CheckReport {
    /// Whether the agent would start.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.error.is_none()
    }
}

/// Loads, attaches, reports and detaches.
#[must_use]
pub fn check() -> CheckReport {
    check_with(&KernelOptions::default())
}

/// As [`check`], with other options.
#[must_use]
fn check_with(options: &KernelOptions) -> CheckReport {
    let (hooks, error) = match Kernel::load(options) {
        Ok(kernel) => (kernel.hooks().to_vec(), None),
        Err(error) => (Vec::new(), Some(error.to_string())),
    };
    CheckReport {
        kernel: load::kernel_release(),
        object: env!("SENSOR_EBPF_ORIGIN"),
        hooks,
        security_modules: std::fs::read_to_string(load::LSM_PATH).ok(),
        error,
    }
}
