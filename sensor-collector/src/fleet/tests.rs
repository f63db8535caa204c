//! How a baseline's text becomes the next version. What needs a store is tested over HTTP, in `tests/`.

use super::{FleetError, Push, as_version, check_text, with_version};
use sensor_baseline::Baseline;

fn push(yaml: &str) -> Push {
    Push {
        fleet: "web".to_owned(),
        yaml: yaml.to_owned(),
        author: String::new(),
        note: String::new(),
        base: None,
    }
}

#[test]
fn the_stored_version_replaces_the_one_in_the_file_and_nothing_else() {
    let check = |yaml: &str, expected: &str| assert_eq!(with_version(yaml, 7), expected);
    check(
        "# c\nfleet: web\nversion: 3 # old\nworkloads: {}\n",
        "# c\nfleet: web\nversion: 7 # old\nworkloads: {}\n",
    );
    check("fleet: web # ours\nworkloads: {}\n", "fleet: web # ours\nversion: 7\nworkloads: {}\n");
    check("workloads: {}\nfleet: web", "workloads: {}\nfleet: web\nversion: 7\n");
    check("versions: 3\n  version: 3\n", "versions: 3\n  version: 3\n");
}

#[test]
fn what_is_stored_can_be_read_whatever_form_the_file_has() {
    for yaml in [
        "fleet: web\n\"version\": 3\nworkloads: {}\n",
        "fleet:\n  web\nworkloads: {}\n",
        "{fleet: web, version: 3, workloads: {}}\n",
        "fleet: web\nversion:\n  3\nworkloads: {}\n",
        "fleet: web\r\nversion: 3\r\nworkloads: {}\r\n",
    ] {
        let stored = as_version(yaml, 7).unwrap_or_else(|error| panic!("{yaml:?}: {error}"));
        let read = Baseline::parse(&stored).unwrap_or_else(|error| panic!("{yaml:?}: {stored:?}: {error}"));
        assert_eq!((read.version, read.fleet.as_str()), (Some(7), "web"), "{yaml:?}");
    }
}

#[test]
fn another_fleets_baseline_is_refused_where_it_says_so() {
    let error = check_text(&push("# a comment\nfleet: db\nworkloads: {}\n")).unwrap_err();
    assert!(matches!(error, FleetError::Invalid { line: 2, column: 1, .. }), "{error:?}");
    assert!(error.to_string().contains("expected fleet \"web\", found \"db\""), "{error}");
}

#[test]
fn an_oversized_text_is_refused_before_it_is_read() {
    let error = check_text(&push(&" ".repeat(super::BASELINE_BYTES_MAX + 1))).unwrap_err();
    assert!(matches!(error, FleetError::TooLarge { .. }), "{error:?}");
}
