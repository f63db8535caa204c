//! The lines as people see them, against `snapshot.txt` next to this file. Not the pipeline. To accept a change, run with
//! `SNAPSHOT=write` and read the difference.

use super::*;
use crate::event::BootNs;
use crate::pipeline::{Output, Pipeline, PipelineConfig};
use crate::record_fixture::kinds::one_of_each;

#[test]
fn every_kind_is_a_line_as_in_the_snapshot() {
    let config = PipelineConfig { emit_events: true, ..PipelineConfig::default() };
    let (mut pipeline, mut out) = (Pipeline::new(config), Output::default());
    for record in one_of_each() {
        pipeline.handle(&record, &mut out);
    }
    pipeline.tick(BootNs(u64::MAX), &mut out);
    let mut lines = Vec::new();
    out.events.iter().for_each(|event| write_line(event, &mut lines));
    let actual = String::from_utf8(lines).unwrap();
    if std::env::var_os("SNAPSHOT").is_some_and(|mode| mode == "write") {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/src/cli/watch_text/snapshot.txt");
        std::fs::write(path, &actual).unwrap();
    }
    for (actual, expected) in actual.lines().zip(include_str!("snapshot.txt").lines()) {
        assert_eq!(actual, expected);
    }
    assert_eq!(actual.lines().count(), one_of_each().len());
}
