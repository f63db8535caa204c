//! How the subcommands that watch the living host look up who did it. Not the lookups. It may call `who`, and reads
//! the agent's own mount namespace.

use super::capture::boot_now;
pub(super) use crate::who::tell_place;
use crate::who::{ANSWER_INTERVAL, Doing, Lookups, Roots, Stage, own_mount_namespace};
use std::path::PathBuf;

#[derive(Debug, clap::Args)]
pub(super) struct WhoArguments {
    /// State folder of another containerd, with its socket containerd.sock; besides the usual ones.
    #[arg(long, value_name = "DIR")]
    containerd: Vec<PathBuf>,
}

impl WhoArguments {
    /// Starts the lookups.
    pub(super) fn stage<T: Doing>(&self) -> anyhow::Result<Stage<T>> {
        let roots = Roots { containerd: self.containerd.clone(), ..Roots::default() };
        Ok(Stage::new(Some(Lookups::start(roots)?), own_mount_namespace()))
    }
}

/// Empties a stage, waiting for answers no longer than any item would.
pub(super) fn drain<T: Doing>(stage: &mut Stage<T>, mut take: impl FnMut(T)) {
    while !stage.is_empty() {
        match stage.pop(boot_now()) {
            Some(item) => take(item),
            None => stage.wait(ANSWER_INTERVAL),
        }
    }
}
