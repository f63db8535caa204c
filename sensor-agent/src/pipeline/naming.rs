//! Containers by the image that they run: whoever starts one gives it an id that never comes back, so that a baseline can
//! only be of its image. Not the look-up: a driver asks, and what is done meanwhile waits here, in order. It may call
//! `enrich`, `event` and the baseline crate's types.
//!
//! What waits longer than [`HELD_NS_MAX`], or is more than [`HELD_MAX`], is judged under the container's id, and counted:
//! no baseline lists that, so that floor rules alone speak.

use crate::enrich::Process;
use crate::enrich::recent::Recent;
use crate::enrich::workload::{container_workload, image_workload};
use crate::event::{BootNs, Tier};
use crate::sigma::Rule;
use crate::who::place::{ContainerRef, Place};
use sensor_baseline::{Observation, Workload};
use serde::{Deserialize, Serialize};
use std::collections::VecDeque;
use std::sync::Arc;

/// Which image a container runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ContainerImage {
    /// The workload that the container is by its id.
    pub container: Workload,
    /// The image as its runtime has it, `docker.io/library/nginx:1.27`; `None` when that cannot be told.
    pub image: Option<String>,
}

impl ContainerImage {
    /// What the look-up of a container gave.
    #[must_use]
    pub fn of(container: &ContainerRef, image: Option<&str>) -> Self {
        Self { container: container_workload(container), image: image.map(str::to_owned) }
    }
}

/// Something that was done, with what a verdict on it needs.
#[derive(Debug)]
pub(super) struct Act {
    /// What was done.
    pub(super) observation: Observation,
    /// The rules that it meets.
    pub(super) rules: Vec<Arc<Rule>>,
    /// Who did it, as it was then.
    pub(super) process: Process,
    /// Its program or its workload was a guess.
    pub(super) is_of_unknown: bool,
    /// Hook tier the facts come from.
    pub(super) tier: Tier,
}

/// What a process's workload is called.
pub(super) enum Name {
    /// This.
    Known(Workload),
    /// It is no container, or nobody can tell its image: as the process table has it.
    Own,
    /// It was asked for.
    Awaited,
}

/// Names of containers, and what waits for them.
#[derive(Debug)]
pub(super) struct Naming {
    is_answered: bool,
    names: Recent<Workload, Workload>,
    nameless: Recent<Workload, ()>,
    awaited: Vec<(ContainerRef, Workload)>,
    held: VecDeque<(BootNs, Act)>,
    given_up_count: u64,
}

impl Naming {
    /// `is_answered`: whether somebody looks containers up. Otherwise nothing waits.
    pub(super) fn new(is_answered: bool) -> Self {
        Self {
            is_answered,
            names: Recent::new(CONTAINERS_MAX, u64::MAX),
            nameless: Recent::new(CONTAINERS_MAX, NAMELESS_NS),
            awaited: Vec::new(),
            held: VecDeque::new(),
            given_up_count: 0,
        }
    }

    /// What a process's workload is called; asks when that is not known.
    pub(super) fn of(&mut self, process: &Process, now: BootNs) -> Name {
        let workload = &process.workload;
        if !is_container(workload) {
            return Name::Own;
        }
        if let Some(name) = self.names.find(workload, now) {
            return Name::Known(name.clone());
        }
        if !self.is_answered || self.nameless.find(workload, now).is_some() {
            return Name::Own;
        }
        if !self.awaited.iter().any(|(_, awaited)| awaited == workload) {
            let path = process.placement.path.as_deref().unwrap_or_default();
            let container = Place::of(path, process.ancestry.shim.as_deref()).container;
            match container {
                Some(container) if self.awaited.len() < AWAITED_MAX => {
                    self.awaited.push((container, workload.clone()));
                }
                _ => return Name::Own,
            }
        }
        Name::Awaited
    }

    /// Containers that have to be looked up.
    pub(super) fn awaited(&self) -> impl Iterator<Item = &ContainerRef> {
        self.awaited.iter().map(|(container, _)| container)
    }

    /// Keeps an act until the name of its workload is known. Gives back the oldest one when there is no room.
    pub(super) fn hold(&mut self, act: Act, now: BootNs) -> Option<Act> {
        self.held.push_back((now, act));
        let is_full = self.held.len() > HELD_MAX;
        let oldest = is_full.then(|| self.held.pop_front()).flatten();
        self.given_up_count += u64::from(is_full);
        oldest.map(|(_, act)| act)
    }

    /// Takes an answer. What waited for it goes to `pass`, in order.
    pub(super) fn answer(&mut self, answer: &ContainerImage, now: BootNs, mut pass: impl FnMut(Act)) {
        let container = &answer.container;
        self.awaited.retain(|(_, awaited)| awaited != container);
        let name = answer.image.as_deref().and_then(image_workload);
        match &name {
            Some(name) => self.names.put(container.clone(), name.clone(), now),
            None => self.nameless.put(container.clone(), (), now),
        }
        for (since, mut act) in std::mem::take(&mut self.held) {
            if act.process.workload != *container {
                self.held.push_back((since, act));
                continue;
            }
            if let Some(name) = &name {
                act.observation.behaviour.workload = name.clone();
            }
            pass(act);
        }
    }

    /// Passes on what has waited for too long.
    pub(super) fn expire(&mut self, now: BootNs, mut pass: impl FnMut(Act)) {
        while let Some((_, act)) = self.held.pop_front_if(|(since, _)| now > since.after(HELD_NS_MAX)) {
            // What follows does not wait as well.
            self.nameless.put(act.process.workload.clone(), (), now);
            self.given_up_count += 1;
            pass(act);
        }
    }

    /// Passes on everything that waits: nobody answers any more.
    pub(super) fn give_up(&mut self, pass: impl FnMut(Act)) {
        self.given_up_count += self.held.len() as u64;
        self.held.drain(..).map(|(_, act)| act).for_each(pass);
    }

    /// Acts that were judged under a container's id for want of its image.
    pub(super) const fn given_up_count(&self) -> u64 {
        self.given_up_count
    }
}

/// Whether a workload is a container.
pub(super) fn is_container(workload: &Workload) -> bool {
    workload.0.starts_with("container:")
}

/// Containers whose image is known at most, and those without one.
const CONTAINERS_MAX: usize = 8_192;
/// Containers that are looked up at once at most; another one is judged under its id.
const AWAITED_MAX: usize = 1_024;
/// Acts that wait at most.
const HELD_MAX: usize = 8_192;
/// Longest time that an act waits: ten seconds, in which a runtime that is slow is asked several times.
const HELD_NS_MAX: u64 = 10_000_000_000;
/// After how long a container without an image is asked for again.
const NAMELESS_NS: u64 = 2_000_000_000;
