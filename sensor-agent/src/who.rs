//! Who did it, beyond what the kernel tells: names of users, containers, timers, and the hash of the program. Not on
//! the way from the rings to the verdict: what has to be looked up is looked up on threads of its own, while the item
//! waits in a [`Stage`], which neither blocks nor reads a clock.
//!
//! ```text
//! pipeline → Stage (bounded, in order, deadline) → consumer
//!               │ requests, bounded      ↑ answers
//!               ├──→ who       names, containers, timers
//!               └──→ who-hash  sha256 of programs
//! ```

pub mod container;
pub mod hash;
pub mod names;
pub mod place;
pub mod stage;
pub mod timers;
pub mod worker;

pub use container::{Container, Roots};
pub use hash::Hash;
pub use place::Place;
use stage::WAIT_NS;
pub use stage::{Doing, Stage};
pub use worker::Lookups;

use crate::event::BootNs;
use crate::finding::Finding;
use crate::finding::ProcessFacts;
use crate::pipeline::{ContainerImage, EnrichedEvent, Output, Pipeline};
use std::sync::Arc;
use std::time::Duration;

/// What was looked up about a process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Who {
    /// What its control group's path says.
    pub place: Place,
    /// Name of the real user on the host.
    pub user: Option<Arc<str>>,
    /// Name of the effective user on the host.
    pub euser: Option<Arc<str>>,
    /// Name of the real group on the host.
    pub group: Option<Arc<str>>,
    /// Name of the effective group on the host.
    pub egroup: Option<Arc<str>>,
    /// Name of whoever logged in.
    pub login_user: Option<Arc<str>>,
    /// The container it is in.
    pub container: Option<Arc<Container>>,
    /// Why nothing is known of the container it is in.
    pub container_missing: Option<&'static str>,
    /// The host's name of its program, where a container calls it otherwise: it is that very file.
    pub exe_on_host: Option<String>,
    /// The timer that starts its unit.
    pub timer: Option<Arc<str>>,
    /// sha256 of its program.
    pub hash: Option<Hash>,
    /// It sees the host's own mounts: what it calls a path is what the host calls it.
    pub has_host_mounts: bool,
}

/// Asks for the images of containers that a pipeline waits for. Gives those that have been told.
#[must_use]
pub fn images<T: Doing>(pipeline: &Pipeline, stage: &mut Stage<T>, now: BootNs) -> Vec<ContainerImage> {
    let told = |container| Some(ContainerImage::of(container, stage.image(container, now)?.as_deref()));
    pipeline.unnamed().filter_map(told).collect()
}

/// Waits for the images that a pipeline still waits for, as long as any item waits, and judges the rest without: for a
/// driver that ends. `told` gets each image that came.
pub fn name_rest<T: Doing>(
    pipeline: &mut Pipeline,
    stage: &mut Stage<T>,
    clock: fn() -> BootNs,
    output: &mut Output,
    mut told: impl FnMut(&ContainerImage),
) {
    let since = clock();
    loop {
        for image in images(pipeline, stage, clock()) {
            pipeline.name(&image, output);
            told(&image);
        }
        if pipeline.unnamed().next().is_none() || clock() > since.after(WAIT_NS) {
            return pipeline.give_up_naming(output);
        }
        stage.wait(ANSWER_INTERVAL);
    }
}

/// How often a driver that ends looks at its deadline while no answer comes.
pub const ANSWER_INTERVAL: Duration = Duration::from_millis(10);

/// The inode number of the agent's mount namespace, 0 when it cannot be read: then no path is taken for the host's.
#[must_use]
pub fn own_mount_namespace() -> u32 {
    use std::os::unix::fs::MetadataExt as _;
    std::fs::metadata("/proc/self/ns/mnt").map_or(0, |file| u32::try_from(file.ino()).unwrap_or_default())
}

impl ProcessFacts {
    /// Where it comes from: `cron`, `timer`, `login`, `container`; `None` when nothing says so. An ancestor says more
    /// than a control group: cron opens a session for each job.
    #[must_use]
    pub fn origin_name(&self) -> Option<&'static str> {
        let place = &self.who.place;
        self.origin
            .as_ref()
            .map(|origin| origin.kind.name())
            .or_else(|| self.who.timer.as_ref().map(|_| "timer"))
            .or_else(|| place.session.as_ref().map(|_| "login"))
            .or_else(|| place.container.as_ref().map(|_| "container"))
    }

    /// Why its program has no hash, when one was wanted.
    #[must_use]
    pub fn hash_missing(&self) -> Option<&'static str> {
        self.who.hash.as_ref().and_then(|hash| hash.as_ref().err()).map(|missing| missing.name())
    }

    /// The host's name of what the process calls `path`, when that is another: it is in a container whose files are
    /// known, in the mount namespace of the container's first process, and that is not the host's. In another one
    /// anything may be mounted.
    #[must_use]
    pub fn on_host(&self, path: &str) -> Option<String> {
        let container = self.who.container.as_ref().filter(|_| !self.who.has_host_mounts)?;
        (container.mnt_ns == Some(self.mnt_ns)).then(|| container.files.on_host(path)).flatten()
    }

    /// What its program would be called on the host, if nothing else were mounted there: to be looked at.
    fn exe_likely_on_host(&self) -> Option<String> {
        let container = self.who.container.as_ref().filter(|_| !self.who.has_host_mounts)?;
        container.files.on_host(&self.exe)
    }
}

/// Fills in what the paths of control groups say, and nothing that would have to be looked up.
pub fn tell_place(doing: &mut impl Doing) {
    doing.each_process(&mut |facts, _| facts.who.place = Place::of(&facts.cgroup, facts.shim.as_deref()));
}

impl Doing for Finding {
    fn each_process(&mut self, visit: &mut dyn FnMut(&mut ProcessFacts, bool)) {
        visit(&mut self.process, true);
        for ancestor in &mut self.ancestors {
            visit(ancestor, false);
        }
    }
}

impl Doing for EnrichedEvent {
    fn each_process(&mut self, visit: &mut dyn FnMut(&mut ProcessFacts, bool)) {
        let has_run = matches!(self.event.body, crate::event::Body::Exec(_));
        if let Some(process) = &mut self.process {
            visit(process, has_run);
        }
        if let Some(parent) = &mut self.parent {
            visit(parent, false);
        }
    }
}
