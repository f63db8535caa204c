//! Texts that the reader takes and texts that it refuses, with the place and the words of each refusal.

use super::TEXT_BYTES_MAX;
use crate::baseline::Baseline;

/// Checks that a text is refused with `LINE:COLUMN MESSAGE`.
fn check(text: &str, expected: &str) {
    let error = Baseline::parse(text).expect_err(text);
    let refusal = format!("{}:{} {}", error.line, error.column, error.message());
    assert_eq!(refusal, expected, "{text}");
}

/// A mistake in rules below `unit:a.service`, `/usr/bin/a`, which begin at line 5, column 7.
fn check_rules(rules: &str, expected: &str) {
    check(&format!("fleet: web\nworkloads:\n  unit:a.service:\n    /usr/bin/a:\n      {rules}\n"), expected);
}

#[test]
fn block_and_flow_lists_quotes_and_comments_are_read() {
    let text = "# header\nfleet: \"web\"\nversion: 7\nworkloads:\n  unit:a.service:\n    '/usr/bin/a b':\n      exec: [/bin/sh, '/bin/a b'] # two\n      connect:\n        - tcp 10.0.0.0/8 5432-5433\n      deny: {write: [/etc/**]}\n  host: {}\n";
    let gaps = text.replace("\n", "\n\n  # gap\n \n").replace("'/usr/bin/a b'", "/usr/bin/a b");
    assert_eq!(Baseline::parse(&gaps), Baseline::parse(text));
    let baseline = Baseline::parse(text).unwrap();
    assert_eq!((baseline.fleet.as_str(), baseline.version, baseline.entry_count()), ("web", Some(7), 4));
    assert_eq!(baseline.workloads().count(), 2);
}

#[test]
fn mistakes_at_the_top_are_named_with_their_place() {
    let empty = "1:1 expected a baseline with fleet and workloads, found an empty document";
    for (text, expected) in [
        ("", empty),
        ("# only a comment\n", empty),
        ("- a\n", "1:1 expected a map with the keys fleet, version, workloads and learning, found a list"),
        ("workloads: {}\n", "1:1 expected the key fleet, found a baseline without it"),
        ("fleet: web\n", "1:1 expected the key workloads, found a baseline without it"),
        (
            "fleet: x\nfleeet: x\n",
            "2:1 expected one of the keys fleet, version, workloads and learning, found \"fleeet\"",
        ),
        (
            "fleet: x\nfleet: x\n",
            "2:1 expected every key once, found a second \"fleet\" (the first is on line 1)",
        ),
        ("fleet: 1\n", "1:8 expected the name of a fleet (in quotes, to make it a text), found the number 1"),
        ("fleet:\nworkloads: {}\n", "1:6 expected the name of a fleet, found nothing"),
        ("fleet: x\nversion: two\n", "2:10 expected a version number from 1, found \"two\""),
        ("fleet: x\nversion: 0\n", "2:10 expected a version number from 1, found the number 0"),
        ("fleet: x\nversion: -1\n", "2:10 expected a version number from 1, found the number -1"),
        ("fleet: x\nworkloads: []\n", "2:12 expected a map of workloads ({} for none), found a list"),
        ("fleet: x\nworkloads: {}\n---\nfleet: y\n", "3:1 expected one document, found a second one"),
        ("fleet: &a x\n", "1:8 expected everything written out, found an anchor (&NAME)"),
        (
            "a: &a x\nb: *a\n",
            "1:1 expected one of the keys fleet, version, workloads and learning, found \"a\"",
        ),
        ("fleet: !!str x\n", "1:8 expected no type tags, found the tag tag:yaml.org,2002:!str"),
        (
            "fleet: a\n  b\nworkloads: {}\n",
            "1:8 expected a text on one line, found \"a b\" over more than one",
        ),
        ("fleet: |-\n  a\nworkloads: {}\n", "2:3 expected a text on one line, found a block text (| or >)"),
        (
            "fleet: x\nworkloads: {}\nlearning:\n  host: [write]\n",
            "4:3 expected a workload that is listed under workloads, found host, which is not there: it is learned as a whole",
        ),
        (
            "fleet: x\nworkloads: {host: {}}\nlearning: {host: [writes]}\n",
            "3:19 expected one of exec, connect, listen, write, delete and rename, found \"writes\"",
        ),
        (
            "fleet: x\nworkloads: {host: {}}\nlearning: {host: [write, write]}\n",
            "3:26 expected every action once, found a second \"write\"",
        ),
        (
            "fleet: x\nworkloads: {host: {}}\nlearning: {host: write}\n",
            "3:18 expected a list of actions, such as [write, delete], found \"write\"",
        ),
        ("fleet: x\nworkloads:\n\thost: {}\n", "3:1 expected spaces as indentation, found a tab"),
    ] {
        check(text, expected);
    }
}

#[test]
fn mistakes_in_names_are_named_with_their_place() {
    let workload =
        "expected a workload: unit:NAME, session:NAME, container:IMAGE, cgroup:/PATH, command:NAME or host";
    for (text, expected) in [
        ("  unti:a: {}", format!("3:3 {workload}, found \"unti:a\"")),
        ("  'unit:': {}", format!("3:3 {workload}, found \"unit:\"")),
        (
            "  host: {}\n  host: {}",
            "4:3 expected every workload once, found a second \"host\" (the first is on line 3)".to_owned(),
        ),
        (
            "  host:\n    /a: {}\n    /a: {}",
            "5:5 expected every subject once, found a second \"/a\" (the first is on line 4)".to_owned(),
        ),
        ("  host:", "3:7 expected a map of subjects ({} for none), found nothing".to_owned()),
        (
            "  host: {/a: [/b]}",
            "3:14 expected a map of actions, such as {exec: [/bin/sh]}, found a list".to_owned(),
        ),
    ] {
        check(&format!("fleet: web\nworkloads:\n{text}\n"), &expected);
    }
}

#[test]
fn mistakes_in_entries_are_named_with_their_place() {
    let actions = "one of exec, connect, listen, write, delete, rename, deny and retired";
    check_rules("exce: [/bin/sh]", &format!("5:7 expected {actions}, found \"exce\""));
    for (rules, expected) in [
        ("exec: /bin/sh", "5:13 expected a list of exec entries ([] for none), found \"/bin/sh\""),
        ("exec: {}", "5:13 expected a list of exec entries ([] for none), found a map"),
        ("exec: [bin/sh]", "5:14 expected an absolute path, found \"bin/sh\""),
        ("exec:\n        - /bin/sh\n        - bin/sh", "7:11 expected an absolute path, found \"bin/sh\""),
        ("exec: [{a: b}]", "5:14 expected an absolute path, found a map"),
        (
            "listen: [80]",
            "5:16 expected tcp PORT or tcp ADDRESS PORT (in quotes, to make it a text), found the number 80",
        ),
        (
            "listen: [tcp 99999]",
            "5:16 expected a port from 1 to 65535, a range FIRST-LAST, or ephemeral, found \"99999\"",
        ),
        (
            "connect: [tcp 10.0.0.1/8 1]",
            "5:17 expected a CIDR whose bits below the prefix are zero, found \"10.0.0.1/8\"",
        ),
        ("rename: [/a]", "5:16 expected /OLD/PATH -> /NEW/PATH, found \"/a\""),
        (
            "write: [/a, /a]",
            "5:19 expected every entry once, found \"/a\", which is listed under its action already",
        ),
        (
            "deny: {write: [/a]}\n      write: [/a]",
            "6:15 expected every entry once, found \"/a\", which is listed under deny already",
        ),
        (
            "deny: {deny: {}}",
            "5:14 expected one of exec, connect, listen, write, delete and rename, found \"deny\"",
        ),
        ("write: [*a]", "5:15 expected YAML, found while parsing node, found unknown anchor"),
    ] {
        check_rules(rules, expected);
    }
}

#[test]
fn an_action_whose_last_entry_was_taken_away_has_none() {
    let text = |rules: &str| format!("fleet: web\nworkloads:\n  host:\n    /bin/x:\n      {rules}\n");
    for rules in
        ["exec:\n      write: [/a]", "write: [/a]\n      exec: ~", "deny:\n        exec:\n      write: [/a]"]
    {
        let parsed = Baseline::parse(&text(rules)).unwrap();
        assert_eq!(parsed, Baseline::parse(&text("write: [/a]")).unwrap(), "{rules}");
    }
}

#[test]
fn bounds_hold() {
    let long = format!("fleet: web\nworkloads: {{}}\n#{}", "x".repeat(TEXT_BYTES_MAX));
    assert!(Baseline::parse(&long).unwrap_err().message().starts_with("expected at most 16777216 bytes"));
    let deep = format!("fleet: {}", "[".repeat(100_000));
    assert!(Baseline::parse(&deep).is_err());
    let name = format!("fleet: {}\nworkloads: {{}}\n", "x".repeat(20_000));
    assert!(Baseline::parse(&name).unwrap_err().message().contains("found 20000 bytes"));
}

proptest::proptest! {
    #[test]
    fn no_text_makes_the_reader_panic(text in "[a-z:/ \\n\\t{}\\[\\]&*!#'\"<>-]{0,200}") {
        let _ = Baseline::parse(&text);
        let _ = Baseline::parse(&format!("fleet: web\nworkloads:\n  host:\n    /a:\n      {text}"));
    }
}
