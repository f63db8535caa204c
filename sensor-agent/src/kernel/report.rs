//! What this kernel can and cannot show: the facts behind `sensor-agent check`. Not their display. It may load
//! the programs.

use super::limits::{LimitStatus, limits_of};
use super::{Counters, HookStatus, Kernel, KernelError, KernelOptions, KindSet, load};
use crate::account::{Account, Delivered};
use serde::Serialize;
use std::time::{Duration, Instant};

/// Result of a trial run of the kernel side.
#[derive(Clone, Debug, Serialize)]
pub struct CheckReport {
    /// `uname -r`.
    pub kernel: String,
    /// Where the kernel object comes from: `prebuilt`, `built` or a path.
    pub object: &'static str,
    /// Every event with its hook; empty when the programs could not be loaded.
    pub hooks: Vec<HookStatus>,
    /// What these hooks cannot see on this kernel.
    pub limits: Vec<LimitStatus>,
    /// Active security modules, as the kernel lists them; `None` when it shows no list.
    pub security_modules: Option<String>,
    /// What became of every record of the trial run; `None` when the programs could not be loaded.
    pub account: Option<Account>,
    /// What of the account does not add up: nothing, unless something is wrong with the sensor itself.
    pub imbalances: Vec<String>,
    /// What keeps the agent from starting, if anything.
    pub error: Option<String>,
}

impl CheckReport {
    /// Whether the agent would start, and would account for what it sees.
    #[must_use]
    pub fn is_good(&self) -> bool {
        self.error.is_none() && self.imbalances.is_empty()
    }
}

/// Loads, attaches, reads for a moment, detaches, reads the rest, and reports.
#[must_use]
pub fn check() -> CheckReport {
    check_with(&KernelOptions { kinds: KindSet::ALL, ..KernelOptions::default() })
}

/// As [`check`], with other options.
fn check_with(options: &KernelOptions) -> CheckReport {
    let kernel = load::kernel_release();
    let (hooks, account, error) = match try_run(options) {
        Ok((hooks, account)) => (hooks, Some(account), None),
        Err(error) => (Vec::new(), None, Some(error.to_string())),
    };
    let wrong = account.as_ref().and_then(|account| account.check().err()).unwrap_or_default();
    let mut limits = Vec::new();
    for hook in &hooks {
        // Parts of a kind can have hooks of one tier.
        let more = limits_of(hook.kind, hook.tier, &kernel).filter(|limit| !limits.contains(limit));
        limits.extend(more.collect::<Vec<_>>());
    }
    CheckReport {
        object: env!("SENSOR_EBPF_ORIGIN"),
        hooks,
        limits,
        security_modules: std::fs::read_to_string(load::LSM_PATH).ok(),
        account,
        imbalances: wrong.iter().map(ToString::to_string).collect(),
        error,
        kernel,
    }
}

fn try_run(options: &KernelOptions) -> Result<(Vec<HookStatus>, Account), KernelError> {
    let mut kernel = Kernel::load(options)?;
    let mut delivered = Delivered::default();
    let mut read = |kernel: &mut Kernel| {
        kernel.drain(READ_INTERVAL, usize::MAX, &mut |record| {
            // Counted either way.
            let _ = delivered.decode(record);
        })
    };
    read(&mut kernel)?;
    kernel.detach();
    let since = Instant::now();
    let counters: Counters = loop {
        let drained = read(&mut kernel)?;
        let counters = kernel.counters()?;
        // A program that ran when it was detached still counts to its end.
        if (drained.is_empty && counters.is_settled()) || since.elapsed() > SETTLE_MAX {
            break counters;
        }
    };
    Ok((kernel.hooks().to_vec(), Account::of(&counters, &delivered)))
}

const READ_INTERVAL: Duration = Duration::from_millis(20);
const SETTLE_MAX: Duration = Duration::from_secs(5);
