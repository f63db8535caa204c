//! The parts that `watch`, `learn` and `judge` share: a pipeline fed from batches. Not the capture. It may call
//! `pipeline` and `recording` (start).

use super::capture::Batch;
use crate::enrich::process_table::Scope;
use crate::event::Identity;
use crate::pipeline::{Output, Pipeline, PipelineConfig};
use crate::recording::Start;
use sensor_baseline::Baseline;
use std::collections::BTreeMap;

/// What a subcommand wants of its pipeline.
#[derive(Debug)]
pub(super) struct Wish {
    pub(super) baseline: Option<Baseline>,
    pub(super) scope: Scope,
    pub(super) emit_events: bool,
    /// For how long the same finding is told once. Who counts repetitions itself wants `u64::MAX`.
    pub(super) repeat_ns: u64,
}

/// A pipeline for this host, seeded.
pub(super) fn pipeline(start: &Start, wish: Wish) -> Pipeline {
    let own: Option<Identity> = start.own_identity();
    let mut pipeline = Pipeline::new(PipelineConfig {
        baseline: wish.baseline,
        scope: wish.scope,
        own,
        boot_to_unix_offset_ns: start.boot_to_unix_offset_ns,
        emit_events: wish.emit_events,
        repeat_ns: wish.repeat_ns,
    });
    pipeline.seed(start.seed.clone());
    pipeline
}

/// Feeds a batch, then lets time pass up to where the batch ends.
pub(super) fn feed(pipeline: &mut Pipeline, batch: &Batch, output: &mut Output) {
    output.clear();
    if let Some(rescan) = &batch.rescan {
        pipeline.reconcile(rescan.clone());
    }
    for record in batch.records() {
        pipeline.handle(record, output);
    }
    pipeline.tick(batch.upto, output);
}

/// Tells what went wrong on the way, if anything did.
pub(super) fn print_troubles(pipeline: &Pipeline, more: BTreeMap<&'static str, u64>) {
    let mut counters = pipeline.counters();
    counters.extend(more);
    for name in TROUBLES {
        if let Some(count) = counters.get(name).filter(|count| **count > 0) {
            say!("counted {name}={count}");
        }
    }
}

/// Counters that an operator should see when they are not zero.
const TROUBLES: [&str; 10] = [
    "records_undecodable",
    "records_unknown_kind",
    "observations_of_unknown",
    "processes_evicted",
    "exits_repeated",
    "cgroups_evicted",
    "fresh_files_evicted",
    "who_passed_incomplete{reason=late}",
    "who_passed_incomplete{reason=full}",
    "who_refused{reason=queue_full}",
];
