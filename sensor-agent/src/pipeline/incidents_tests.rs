//! Which findings are one incident, through the whole pipeline. Not the table of incidents. It may call the pipeline's public
//! functions and the record fixture.

use super::tests::{armed, feed, nginx, with};
use super::*;
use crate::record_fixture::Who;
use sensor_event::FileFlags;

/// The incidents of findings, in the order in which they come.
fn incidents(records: &[Vec<u8>]) -> Vec<String> {
    let mut pipeline = with(PipelineConfig { baseline: Some(armed()), ..PipelineConfig::default() });
    feed(&mut pipeline, records).findings.into_iter().map(|finding| finding.incident).collect()
}

#[test]
fn findings_of_one_subtree_are_one_incident() {
    let (worker, shell, tool) = (Who::new(20, 10), Who::new(30, 20), Who::new(31, 30));
    let other = Who::new(21, 10);
    let found = incidents(&[
        nginx().fork(worker),
        nginx().fork(other),
        worker.fork(shell),
        shell.exec("/usr/bin/dash", &["sh"]),
        shell.fork(tool),
        tool.exec("/usr/bin/id", &["id"]),
        shell.open("/srv/x", 0o101, FileFlags::CREATED),
        worker.fork(Who::new(32, 20)),
        Who::new(32, 20).exec("/usr/bin/perl", &["perl"]),
        other.fork(Who::new(33, 21)),
        Who::new(33, 21).exec("/usr/bin/awk", &["awk"]),
        nginx().listen(99),
    ]);
    assert_eq!(found.len(), 6);
    assert!(found[0].starts_with("10-") && found.iter().all(|incident| *incident == found[0]), "{found:?}");
}

#[test]
fn a_tree_whose_middle_has_ended_is_still_one_incident() {
    const SECOND: u64 = 1_000_000_000;
    let (shell, payload, tool) = (Who::new(30, 10), Who::new(40, 30), Who::new(50, 40));
    let found = incidents(&[
        nginx().at(SECOND).fork(shell),
        shell.at(SECOND).exec("/usr/bin/dash", &["sh"]),
        shell.at(2 * SECOND).fork(payload.at(2 * SECOND)),
        shell.at(3 * SECOND).exit(0),
        payload.at(90 * SECOND).exec("/tmp/payload", &["x"]),
        payload.at(91 * SECOND).fork(tool),
        tool.at(92 * SECOND).exec("/usr/bin/id", &["id"]),
    ]);
    assert!(found.len() >= 3 && found.iter().all(|incident| *incident == found[0]), "{found:?}");
}

#[test]
fn an_incident_ends_when_nothing_follows_for_a_while() {
    const MINUTE: u64 = 60_000_000_000;
    let shell = Who::new(20, 10);
    let found = incidents(&[
        nginx().at(MINUTE).fork(shell),
        shell.at(MINUTE).listen(1),
        shell.at(5 * MINUTE).listen(2),
        shell.at(9 * MINUTE).listen(3),
        shell.at(15 * MINUTE).listen(4),
    ]);
    assert_eq!(found.len(), 4);
    assert!(
        found[0] == found[1] && found[1] == found[2],
        "each within five minutes of the one before: {found:?}"
    );
    assert_ne!(found[2], found[3]);
}
