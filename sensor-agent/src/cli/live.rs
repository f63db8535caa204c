//! The parts that `watch`, `learn` and `judge` share: a pipeline fed from batches. Not the capture. It may call
//! `pipeline`, `who` and `recording` (start).

use super::capture::{Batch, boot_now};
use crate::enrich::process_table::Scope;
use crate::event::Identity;
use crate::pipeline::{Output, Pipeline, PipelineConfig, Telling};
use crate::recording::Start;
use crate::sigma::Rules;
use crate::who::{self, Doing, Stage};
use sensor_baseline::{Floor, Layers};
use std::collections::BTreeMap;
use std::sync::Arc;

/// What a subcommand wants of its pipeline.
#[derive(Debug)]
pub(super) struct Wish {
    pub(super) baseline: Option<Layers>,
    pub(super) floor: Arc<Floor>,
    pub(super) scope: Scope,
    pub(super) emit_events: bool,
    /// Whether somebody tells the images of containers.
    pub(super) are_containers_named: bool,
    pub(super) rules: Arc<Rules>,
    /// How often the same finding is told. Nobody here wants it counted.
    pub(super) telling: Telling,
}

impl Wish {
    /// Judges by nothing but the floor, emits no events, names containers, and tells each finding once.
    pub(super) fn new(floor: Arc<Floor>, scope: Scope) -> Self {
        Self {
            baseline: None,
            floor,
            scope,
            emit_events: false,
            are_containers_named: true,
            rules: Arc::default(),
            telling: Telling::Once,
        }
    }
}

/// A pipeline for this host, seeded.
pub(super) fn pipeline(start: &Start, wish: Wish) -> Pipeline {
    let own: Option<Identity> = start.own_identity();
    let mut pipeline = Pipeline::new(PipelineConfig {
        baseline: wish.baseline,
        floor: wish.floor,
        scope: wish.scope,
        own,
        boot_to_unix_offset_ns: start.boot_to_unix_offset_ns,
        emit_events: wish.emit_events,
        telling: wish.telling,
        are_containers_named: wish.are_containers_named,
        rules: wish.rules,
        verdicts: None,
    });
    pipeline.seed(start.seed.clone());
    pipeline
}

/// Feeds a batch, then lets time pass up to where the batch ends. `stage` tells the images of containers.
pub(super) fn feed<T: Doing>(
    pipeline: &mut Pipeline,
    stage: &mut Stage<T>,
    batch: &Batch,
    output: &mut Output,
) {
    output.clear();
    if let Some(rescan) = &batch.rescan {
        pipeline.reconcile(rescan.clone());
    }
    for record in batch.records() {
        pipeline.handle(record, output);
    }
    for image in who::images(pipeline, stage, boot_now()) {
        pipeline.name(&image, output);
    }
    pipeline.tick(batch.upto, output);
}

/// Judges what still waits for the image of its container.
pub(super) fn feed_rest<T: Doing>(pipeline: &mut Pipeline, stage: &mut Stage<T>, output: &mut Output) {
    output.clear();
    who::name_rest(pipeline, stage, boot_now, output, |_| {});
}

/// Tells what went wrong on the way, if anything did.
pub(super) fn print_troubles(pipeline: &Pipeline, more: BTreeMap<&'static str, u64>) {
    let mut counters = pipeline.counters();
    counters.extend(more);
    for (rule, count) in pipeline.silenced() {
        say!("counted findings_silenced{{rule={rule}}}={count}");
    }
    for name in TROUBLES {
        if let Some(count) = counters.get(name).filter(|count| **count > 0) {
            say!("counted {name}={count}");
        }
    }
}

/// Counters that an operator should see when they are not zero.
const TROUBLES: [&str; 11] = [
    "records_undecodable",
    "records_unknown_kind",
    "observations_of_unknown",
    "observations_unnamed",
    "processes_evicted",
    "exits_repeated",
    "cgroups_evicted",
    "fresh_files_evicted",
    "who_passed_incomplete{reason=late}",
    "who_passed_incomplete{reason=full}",
    "who_refused{reason=queue_full}",
];
