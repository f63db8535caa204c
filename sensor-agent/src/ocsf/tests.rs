//! The lines as they are, against `snapshot.jsonl` and `kinds.jsonl` next to this file. Not a schema check. It may call the pipeline
//! and the record fixture. To accept a change, run with `SNAPSHOT=write` and read the difference.

use super::*;
use crate::event::BootNs;
use crate::pipeline::{Output, Pipeline, PipelineConfig};
use crate::record_fixture::Who;
use crate::record_fixture::kinds::one_of_each;
use proptest::prelude::*;
use sensor_event::{FileFlags, PathFlags};

const OFFSET_NS: i64 = 1_700_000_000_000_000_000;

fn ocsf() -> Ocsf {
    let host = Host { hostname: "web-1".to_owned(), kernel_release: "6.18.0".to_owned() };
    Ocsf::new(host, OFFSET_NS)
}

fn lines(records: &[Vec<u8>]) -> String {
    let config =
        PipelineConfig { emit_events: true, boot_to_unix_offset_ns: OFFSET_NS, ..PipelineConfig::default() };
    let mut pipeline = Pipeline::new(config);
    let mut out = Output::default();
    for record in records {
        pipeline.handle(record, &mut out);
    }
    pipeline.tick(BootNs(u64::MAX), &mut out);
    let mut text = Vec::new();
    for event in &out.events {
        ocsf().write_line(event, &mut text);
    }
    String::from_utf8(text).expect("JSON is UTF-8")
}

#[test]
fn lines_are_those_of_the_snapshot() {
    let (shell, tool) = (Who::new(20, 10), Who::new(21, 20));
    let actual = lines(&[
        shell.exec("/usr/bin/dash", &["sh", "-c", "echo 'a\nb'"]),
        shell.fork(tool),
        tool.exec_script("/usr/bin/dash", "run.sh", &["sh", "run.sh"]),
        tool.exec_with("/tmp/gone", &["gone"], ExecFlags::default(), PathFlags::DELETED, ""),
        tool.connect(1, 80),
        tool.connect_result(1, 80, 0),
        tool.connect(2, 81),
        tool.connect_result(2, 81, 111),
        tool.connect(3, 82),
        tool.connect_result(3, 82, 110),
        tool.connect(4, 83),
        tool.listen(8080),
        tool.open("/srv/a", 0o101, FileFlags::CREATED),
        tool.open("/srv/a", 0o1001, FileFlags::default()),
        tool.open("/srv/a", 0o2001, FileFlags::default()),
        tool.unlink("/srv", "../x", 0),
        tool.unlink("/srv", "y", 13),
        tool.rename("/srv/a", "/srv/b", 0),
        tool.exit(0x300),
        shell.exit(9),
    ]);
    check_snapshot("snapshot.jsonl", include_str!("snapshot.jsonl"), &actual);
}

#[test]
fn every_kind_is_a_line_as_in_the_snapshot() {
    let actual = lines(&one_of_each());
    check_snapshot("kinds.jsonl", include_str!("kinds.jsonl"), &actual);
}

fn check_snapshot(name: &str, expected: &str, actual: &str) {
    if std::env::var_os("SNAPSHOT").is_some_and(|mode| mode == "write") {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/src/ocsf/");
        std::fs::write(folder.to_owned() + name, actual).unwrap();
    }
    for (line, (actual, expected)) in actual.lines().zip(expected.lines()).enumerate() {
        assert_eq!(actual, expected, "line {}", line + 1);
    }
    assert_eq!(actual.lines().count(), expected.lines().count());
}

proptest! {
    #[test]
    fn any_text_is_one_line_of_json(exe in "/[^\0/]{1,12}", argument in "[^\0]{0,12}") {
        let text = lines(&[Who::new(20, 10).exec(&exe, &["x", &argument])]);
        prop_assert_eq!(text.lines().count(), 1);
        let object: serde_json::Value = serde_json::from_str(&text).unwrap();
        let argv = object["unmapped"]["argv"][1].as_str().unwrap();
        prop_assert_eq!(sensor_baseline::text::unescape(argv).unwrap(), argument.as_bytes());
        let path = object["process"]["file"]["path"].as_str().unwrap();
        prop_assert_eq!(sensor_baseline::text::unescape(path).unwrap(), exe.as_bytes());
    }

    #[test]
    fn type_uid_follows_from_class_and_activity(kind in 0usize..43) {
        let who = Who::new(20, 10);
        let mut records = vec![who.exit(0), who.listen(1), who.unlink("/", "x", 0), who.exec("/x", &[])];
        records.extend(one_of_each());
        let record = records.swap_remove(kind);
        let object: serde_json::Value = serde_json::from_str(&lines(&[record])).unwrap();
        let number = |key: &str| object[key].as_u64().unwrap();
        prop_assert_eq!(number("type_uid"), number("class_uid") * 100 + number("activity_id"));
        prop_assert_eq!(number("category_uid"), number("class_uid") / 1000);
    }
}
