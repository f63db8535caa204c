//! Small rules of our own against facts, and folders of them. Not the engine's own tests. It may call the parent module,
//! and reads a folder of public rules where there is one.

use super::*;
use crate::event::Arguments;
use std::path::{Path, PathBuf};

const SHELL: &str = r"
title: A shell runs a pipe
id: 00000000-0000-0000-0000-000000000001
level: high
tags: [attack.execution, attack.t1059.004, attack.T1105]
logsource: { product: linux, category: process_creation }
detection:
    selection:
        Image|endswith: /sh
        CommandLine|contains|all: ['curl ', '| sh']
        ParentImage|startswith: /usr/sbin/
    filter:
        User: '1000'
    condition: selection and not filter
";
const CRON: &str = r"
title: A job
id: job
logsource: { category: file_event }
detection:
    selection:
        TargetFilename|startswith: /etc/cron.d/
    condition: selection
";
const PORT: &str = r"
title: A port
id: port
level: critical
logsource: { product: linux, category: network_connection }
detection:
    selection:
        Initiated: 'true'
        DestinationPort: [4444, 1337]
        DestinationIp|cidr: 10.0.0.0/8
    condition: selection
";

fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = folder.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    folder
}

fn read(folder: &Path) -> Loaded {
    load(&[folder.to_owned()], Severity::Informational).unwrap()
}

fn rules() -> Rules {
    let folder = folder(&[("a.yml", SHELL), ("deep/b.yaml", CRON), ("c.yml", PORT)]);
    let loaded = read(folder.path());
    assert!(loaded.refused.is_empty(), "{:?}", loaded.refused);
    loaded.rules
}

/// A rule that is loaded but for what replaces its only selection or log source.
fn rule(logsource: &str, selection: &str) -> String {
    format!(
        "title: T\nid: x\nlogsource: {{ {logsource} }}\ndetection:\n    a:\n        {selection}\n    condition: a\n"
    )
}

fn exec(pid: u32, euid: u32, argv: &[&str], parent: Option<&str>, rules: &Rules) -> Vec<Arc<Rule>> {
    let (argv, parent_argv) = (argv.iter().collect::<Arguments>(), Arguments::default());
    let parent = parent.map(|exe| Parent { pid: 1, exe, argv: &parent_argv });
    let doing = Doing::Exec { argv: &argv, cwd: "/", login_uid: None, parent };
    rules.met(&Facts::new(pid, euid, "/usr/bin/sh", doing))
}

fn file(target: &str, rules: &Rules) -> usize {
    rules.met(&Facts::new(1, 0, "/usr/bin/vi", Doing::File { target })).len()
}

fn connection(address: &str, port: u16, rules: &Rules) -> usize {
    let address = address.parse().unwrap();
    let doing = Doing::Connection { address, port, protocol: "tcp" };
    rules.met(&Facts::new(1, 0, "/usr/bin/nc", doing)).len()
}

#[test]
fn a_rule_sees_program_arguments_parent_and_user() {
    let rules = rules();
    assert_eq!(rules.len(), 3);
    let argv = ["sh", "-c", "curl x | sh"];
    let met = exec(7, 0, &argv, Some("/usr/sbin/nginx"), &rules);
    let expected = Rule {
        id: "00000000-0000-0000-0000-000000000001".into(),
        title: "A shell runs a pipe".to_owned(),
        level: Severity::High,
        techniques: vec!["T1059.004".to_owned(), "T1105".to_owned()],
    };
    assert_eq!(met, [Arc::new(expected)]);
    assert!(exec(7, 0, &["sh", "-c", "curl x"], Some("/usr/sbin/nginx"), &rules).is_empty());
    assert!(exec(7, 0, &argv, Some("/usr/bin/make"), &rules).is_empty());
    assert!(exec(7, 0, &argv, None, &rules).is_empty(), "an unknown parent is absent");
    assert!(exec(7, 1000, &argv, Some("/usr/sbin/nginx"), &rules).is_empty(), "the filter");
}

#[test]
fn a_rule_sees_files_and_connections() {
    let rules = rules();
    assert_eq!((file("/etc/cron.d/x", &rules), file("/etc/cron.daily/x", &rules)), (1, 0));
    assert_eq!(connection("10.1.2.3", 4444, &rules), 1);
    assert_eq!(connection("::ffff:10.1.2.3", 1337, &rules), 1);
    assert_eq!(connection("10.1.2.3", 443, &rules), 0);
    assert_eq!(connection("192.0.2.1", 4444, &rules), 0);
}

#[test]
fn a_rule_sees_what_was_escaped_and_not_what_was_forgotten() {
    let text = rule("category: process_creation", r"CommandLine|re: '\\d|\n'");
    let folder = folder(&[("a.yml", &text)]);
    let rules = read(folder.path()).rules;
    assert_eq!(exec(1, 0, &["sh", r"\x5cd"], None, &rules).len(), 1);
    assert_eq!(exec(1, 0, &["sh", r"a\x0ab"], None, &rules).len(), 1);
    assert_eq!(exec(1, 0, &["sh", "d"], None, &rules).len(), 0);
    let forgotten = Arguments::forgotten();
    let doing = Doing::Exec { argv: &forgotten, cwd: "/", login_uid: None, parent: None };
    assert_eq!(rules.met(&Facts::new(1, 0, "/bin/sh", doing)), []);
}

#[test]
fn a_login_is_a_number_and_absent_without_one() {
    let text = rule("category: process_creation", "LogonId: 0\n        CurrentDirectory: /tmp");
    let folder = folder(&[("a.yml", &text)]);
    let rules = read(folder.path()).rules;
    let argv = Arguments::default();
    let met = |login_uid| {
        let doing = Doing::Exec { argv: &argv, cwd: "/tmp", login_uid, parent: None };
        rules.met(&Facts::new(1, 0, "/bin/sh", doing)).len()
    };
    assert_eq!((met(Some(0)), met(Some(5)), met(None)), (1, 0, 0));
}

#[test]
fn what_cannot_be_supplied_is_named_and_stops_nothing() {
    let cases = [
        (rule("category: dns_query", "QueryName: x"), "its log source is category dns_query"),
        (
            rule("category: file_event, product: windows", "Image: x"),
            "its log source is product windows, category file_event",
        ),
        (
            rule("product: linux, service: auditd", "type: x"),
            "its log source is product linux, service auditd",
        ),
        (rule("category: file_event", "Hashes: x"), "file_event events do not have the field Hashes"),
        (
            rule("category: network_connection", "DestinationHostname|endswith: .example"),
            "network_connection events do not have the field DestinationHostname",
        ),
        (
            rule("category: process_creation", "User: www-data"),
            "User www-data: only root and user numbers are known",
        ),
        (rule("category: process_creation", "CommandLine|re: '('"), "regex parse error"),
        (
            rule("category: process_creation", "- word").replace("T\n", "T2\n"),
            "it looks for words in any field, and events are no free text",
        ),
        ("title: [".to_owned(), "YAML parse error"),
        ("- 1".to_owned(), "Document is not a YAML mapping"),
        (
            rule("category: file_event", "Image: x")
                .replace("title: T", &format!("title: {}", "t".repeat(300))),
            "its title is longer than 256 bytes",
        ),
        (
            rule("category: file_event", "Image|fieldref: UnknownField"),
            "file_event events do not have the field UnknownField",
        ),
        (
            rule("category: file_event", "Image|expand: '%x%'"),
            "|expand of \"%x%\": no placeholder has a value",
        ),
    ];
    for (text, expected) in cases {
        let folder = folder(&[("bad.yml", &text), ("good.yml", CRON)]);
        let loaded = read(folder.path());
        let [refused] = &loaded.refused[..] else { panic!("{text}: {:?}", loaded.refused) };
        let reason = refused.reason.to_string();
        assert!(reason.contains(expected), "{text}: {reason}");
        assert!(!reason.contains('\n'), "{reason}");
        assert_eq!(refused.file, folder.path().join("bad.yml"));
        assert_eq!((loaded.rules.len(), loaded.rules.refused_count()), (1, 1), "{text}");
        assert_eq!(file("/etc/cron.d/x", &loaded.rules), 1, "{text}: the others match still");
    }
}

#[test]
fn a_field_can_be_compared_with_another() {
    let text = rule("category: process_creation", "Image|fieldref: ParentImage");
    let folder = folder(&[("a.yml", &text)]);
    let rules = read(folder.path()).rules;
    let met = |parent| exec(1, 0, &["sh"], Some(parent), &rules).len();
    assert_eq!((met("/usr/bin/sh"), met("/usr/bin/vi")), (1, 0));
}

#[test]
fn control_characters_are_told_escaped_and_never_raw() {
    let refused = |text: &str| {
        let folder = folder(&[("bad.yml", text), ("good.yml", PORT)]);
        let loaded = read(folder.path());
        let [refused] = &loaded.refused[..] else { panic!("{text}: {:?}", loaded.refused) };
        assert_eq!(loaded.rules.len(), 1, "the other is in force");
        (refused.title.clone(), refused.reason.to_string())
    };
    let (title, reason) = refused(&CRON.replace("A job", r#""A\e[2Jjob""#));
    assert_eq!(title, r"A\u{1b}[2Jjob");
    assert_eq!(reason, r#"its title is no text on one line: "A\u{1b}[2Jjob""#);
    let (title, reason) = refused(&CRON.replace("id: job", r#"id: "j\nob""#));
    assert_eq!((&*title, &*reason), ("A job", r#"its id is no text on one line: "j\nob""#));
    let (_, reason) = refused(&CRON.replace("file_event", r#""dns\e""#));
    assert_eq!(reason, r"its log source is category dns\u{1b}");
    let (_, reason) = refused(&CRON.replace("TargetFilename|startswith", r#""Hash\ees""#));
    assert_eq!(reason, r"file_event events do not have the field Hash\u{1b}es");
}

#[test]
fn dashes_that_stand_for_too_many_texts_are_refused_before_they_are_compiled() {
    let of = |values: &[String]| {
        let selection = format!("CommandLine|windash|contains: ['{}']", values.join("', '"));
        let text = rule("category: process_creation", &selection);
        let folder = folder(&[("dash.yml", &text), ("good.yml", CRON)]);
        let loaded = read(folder.path());
        let reasons: Vec<_> = loaded.refused.iter().map(|refused| refused.reason.to_string()).collect();
        (loaded.rules.len(), reasons)
    };
    let dashes = |count| format!("a{}", " -b".repeat(count));
    let refused = |value: &str| {
        (1, vec![format!("|windash makes more than 10000 texts of its values, as of {value:?}")])
    };
    assert_eq!(of(&[dashes(5), dashes(5), dashes(5)]), (2, vec![]), "9,375 texts");
    assert_eq!(of(&[dashes(5), dashes(5), dashes(5), dashes(4), dashes(1)]), refused(&dashes(1)));
    assert_eq!(of(&vec![dashes(8); 200]), refused(&dashes(8)));
    assert_eq!(of(&[dashes(100)]), refused(&dashes(100)[..64]), "and more than a number can tell");
    let long = format!("{}{}", dashes(5), "x".repeat(500));
    assert_eq!(of(std::slice::from_ref(&long)), refused(&long[..64]), "each is long");
}

#[test]
fn a_repeated_id_names_the_file_that_has_it() {
    let folder = folder(&[("a.yml", CRON), ("b.yml", CRON), ("c.txt", CRON), (".d.yml", CRON)]);
    let loaded = read(folder.path());
    let [refused] = &loaded.refused[..] else { panic!("{:?}", loaded.refused) };
    let first = folder.path().join("a.yml");
    assert_eq!(refused.reason.to_string(), format!("its id job is that of a rule in {}", first.display()));
    assert_eq!((refused.title.as_str(), loaded.rules.len()), ("A job", 1));
}

#[test]
fn rules_below_the_level_are_counted_and_one_without_a_level_is_medium() {
    let folder = folder(&[("a.yml", SHELL), ("b.yml", CRON), ("c.yml", PORT)]);
    let at = |level| {
        let loaded = load(&[folder.path().to_owned()], level).unwrap();
        (loaded.rules.len(), loaded.below_level_count, loaded.refused.len())
    };
    assert_eq!(at(Severity::Medium), (3, 0, 0));
    assert_eq!(at(Severity::High), (2, 1, 0));
    assert_eq!(at(Severity::Critical), (1, 2, 0));
}

#[test]
fn odd_folders_end_and_say_what_was_left_out() {
    let folder = folder(&[("a.yml", CRON), ("huge.yml", &"#".repeat((1 << 20) + 1))]);
    std::os::unix::fs::symlink(folder.path(), folder.path().join("loop")).unwrap();
    std::os::unix::fs::symlink("nowhere", folder.path().join("gone.yml")).unwrap();
    std::os::unix::fs::symlink("a.yml", folder.path().join("b.yml")).unwrap();
    nix::unistd::mkfifo(&folder.path().join("pipe.yml"), nix::sys::stat::Mode::S_IRWXU).unwrap();
    let deep: PathBuf = std::iter::repeat_n("d", 18).collect();
    std::fs::create_dir_all(folder.path().join(deep)).unwrap();
    let loaded = read(folder.path());
    let mut reasons: Vec<String> = loaded
        .refused
        .iter()
        .map(|refused| refused.reason.to_string().replace(&folder.path().display().to_string(), "F"))
        .collect();
    reasons.sort();
    assert_eq!(
        reasons,
        [
            "cannot be read: No such file or directory (os error 2)",
            "cannot be read: not a file",
            "its id job is that of a rule in F/a.yml",
            "longer than 1048576 bytes",
            "more than 16 folders deep: not looked into",
        ]
    );
    assert_eq!(loaded.rules.len(), 1);
    let missing = load(&[folder.path().join("missing")], Severity::Low).unwrap_err().to_string();
    assert!(missing.ends_with("missing: No such file or directory (os error 2)"), "{missing}");
}

#[test]
fn public_rules_load_but_for_those_that_need_a_host_name() {
    let Some(folder) = std::env::var_os("SENSOR_SIGMA_RULES").map(PathBuf::from) else {
        println!("skipped: SENSOR_SIGMA_RULES names no folder of SigmaHQ's rules/linux");
        return;
    };
    let loaded = read(&folder);
    for refused in &loaded.refused {
        let reason = refused.reason.to_string();
        assert!(reason.contains("DestinationHostname"), "{}: {reason}", refused.file.display());
    }
    for (category, least) in Category::ALL.into_iter().zip([100, 5, 1]) {
        assert!(loaded.rules.count_of(category) >= least, "{}", category.name());
    }
}
