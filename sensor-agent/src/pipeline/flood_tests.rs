//! A hostile program against the tables of the pipeline and the learner. Not a benchmark: paired parts of one run are
//! compared. It may call the pipeline's public functions, the record fixture, and the learner.

use super::tests::{nginx, with};
use super::*;
use sensor_baseline::{Learner, LearnerLimits};
use sensor_event::FileFlags;
use std::time::{Duration, Instant};

const O_CREAT_WRONLY: u32 = 0o101;
const NAMES: usize = 1_000_000;

/// A name of letters only, which no template generalises.
fn name(number: usize) -> String {
    let digits = number.to_string();
    let letters: String = digits.bytes().map(|digit| char::from(digit - b'0' + b'a')).collect();
    format!("/srv/{letters}")
}

#[test]
fn a_million_names_neither_outgrow_the_bound_nor_slow_the_pipeline() {
    let mut pipeline = with(PipelineConfig::default());
    let mut learner = Learner::new(LearnerLimits::default());
    let mut out = Output::default();
    let mut run = |from: usize, upto: usize| {
        let mut spent = Duration::ZERO;
        for number in from..upto {
            let record = nginx().open(&name(number), O_CREAT_WRONLY, FileFlags::default());
            let begun = Instant::now();
            pipeline.handle(&record, &mut out);
            for (observation, _) in out.observations.drain(..) {
                learner.observe(&observation);
            }
            out.clear();
            spent += begun.elapsed();
        }
        spent
    };
    // Tables fill within the first tenth.
    let early = run(0, NAMES / 10);
    run(NAMES / 10, NAMES - NAMES / 10);
    let late = run(NAMES - NAMES / 10, NAMES);
    let limits = LearnerLimits::default();
    let bound = limits.dimension_behaviours_max;
    assert!((bound * 9 / 10..=bound).contains(&learner.len()), "{}", learner.len());
    let counters = learner.counters();
    assert_eq!(counters.evicted as usize + learner.len(), NAMES, "{counters:?}");
    // A table that is walked for each name makes it thousands of times slower.
    assert!(late < 5 * early, "the first names took {early:?}, as many at the end {late:?}");
}
