//! Built-in rules against their own examples and the manual; rules and silences of users. Not how conditions are told
//! from each other in detail: the examples of the rules do that. It may call everything of this crate.

use super::{FILES, Floor, FloorCause};
use crate::model::{Observation, Traits, UnixNs, Workload};
use crate::testing::{behaviour, observation};

const SHELL: Traits = Traits {
    acting_is_shell: true,
    acting_is_transparent: true,
    fileless: false,
    executable_is_fresh: false,
    ephemeral: false,
    folders_made: 0,
    target_folders_made: 0,
    object_from_caller: false,
    object_deleted: false,
};

fn with(text: &str) -> Result<Floor, super::FloorError> {
    Floor::with_files(&[("site.toml".to_owned(), text.to_owned())])
}

/// A rule of a user, with one part replaced.
fn rule(from: &str, to: &str) -> String {
    let text = r#"
attack_version = "19.1"
[[rule]]
id = "mail"
title = "mail sent past the relay"
techniques = [{ id = "T1048.003", name = "Exfiltration Over Unencrypted Non-C2 Protocol" }]
severity = "medium"
yields_to_allow = true
fires_on = [{ does = "connect tcp 192.0.2.1 25" }]
quiet_on = [{ does = "connect tcp 192.0.2.1 443" }]
[[rule.when]]
actions = ["connect"]
ports = ["25", "465-587"]
"#;
    assert!(text.contains(from), "{from}");
    text.replace(from, to)
}

fn silence(extra: &str) -> String {
    let text = "[[silence]]\nowner = \"ops\"\nreason = \"moving\"\nexpires = 2027-01-31\n";
    format!("{text}{extra}\n")
}

/// Nanoseconds of a day of January 2027.
fn january(day: u64) -> UnixNs {
    const FIRST_DAY: u64 = 20_819;
    UnixNs((FIRST_DAY + day - 1) * 24 * 60 * 60 * 1_000_000_000)
}

fn held(floor: &Floor, observation: &Observation) -> (Option<String>, Option<String>) {
    let held = floor.held(observation);
    let id = |rule: Option<&std::sync::Arc<super::FloorRule>>| rule.map(|rule| rule.id.clone());
    (id(held.rule), id(held.silenced))
}

#[test]
fn every_example_is_reported_under_its_own_rule() {
    let floor = Floor::built_in();
    let mut examples = 0;
    for rule in floor.rules() {
        for example in &rule.examples {
            let fired = floor.firing(example).map(|rule| rule.id.as_str());
            assert_eq!(fired, Some(rule.id.as_str()), "{}", example.behaviour);
            examples += 1;
        }
    }
    assert!(examples > floor.rules().len(), "each rule has one at least");
    assert!(floor.silences().is_empty(), "nothing is silent by default");
}

#[test]
fn built_in_rules_name_their_techniques_and_hard_ones_come_first() {
    let rules = Floor::built_in().rules();
    assert!(rules.is_sorted_by_key(|rule| rule.yields_to_allow));
    assert!(rules.iter().all(|rule| !rule.techniques.is_empty() && rule.attack_version == "19.1"));
    let sensitive: Vec<_> = Floor::built_in().sensitive_objects().collect();
    assert!(!sensitive.is_empty() && sensitive.iter().all(|object| !object.techniques.is_empty()));
}

#[test]
fn an_id_of_a_technique_has_one_name() {
    let rules = Floor::built_in().rules().iter().flat_map(|rule| rule.techniques.clone());
    let objects = Floor::built_in().sensitive_objects().flat_map(|object| object.techniques.clone());
    let mut names = std::collections::BTreeMap::new();
    for technique in rules.chain(objects) {
        let name = names.entry(technique.id.clone()).or_insert_with(|| technique.name.clone());
        assert_eq!(*name, technique.name, "{}", technique.id);
        let replaced = ["T1562", "T1070.001", "T1070.002"];
        assert!(!replaced.iter().any(|old| technique.id.starts_with(old)), "{} is replaced", technique.id);
    }
}

#[test]
fn package_managers_and_log_rotation_need_no_entry_or_can_have_one() {
    let check = |action: &str, object: &str, subject: &str, expected: Option<&str>| {
        let mut seen = observation(behaviour(action, object), Traits::default());
        seen.behaviour.subject.0 = subject.to_owned();
        let rule = Floor::built_in().firing(&seen);
        assert_eq!(rule.map(|rule| rule.id.as_str()), expected, "{action} {object}");
        assert!(rule.is_none_or(|rule| rule.yields_to_allow), "{action} {object}");
    };
    let (dpkg, logrotate) = ("/usr/bin/dpkg", "/usr/sbin/logrotate");
    check("write", "/var/log/dpkg.log", dpkg, None);
    check("write", "/usr/bin/curl.dpkg-new", dpkg, None);
    check("rename", "/usr/bin/curl.dpkg-new -> /usr/bin/curl", dpkg, None);
    check("exec", "/var/lib/dpkg/info/curl.postinst", dpkg, None);
    check("write", "/etc/ld.so.cache~", "/usr/sbin/ldconfig", None);
    check("rename", "/etc/ld.so.cache~ -> /etc/ld.so.cache", "/usr/sbin/ldconfig", None);
    check("rename", "/var/log/syslog -> /var/log/syslog.1", logrotate, None);
    check("write", "/var/log/syslog", logrotate, None);
    check("delete", "/var/log/syslog.5.gz", logrotate, None);
    check("rename", "/var/log/wtmp -> /var/log/wtmp.1", logrotate, None);
    check("write", "/var/log/wtmp", logrotate, None);
    check("rename", "/etc/cron.d/php.dpkg-new -> /etc/cron.d/php", dpkg, Some("cron"));
    check("rename", "/etc/pam.d/x.dpkg-new -> /etc/pam.d/x", dpkg, Some("pam"));
}

#[test]
fn another_root_counts_for_what_a_shell_writes_only() {
    let firing = |action: &str, object: &str, traits: Traits| {
        let rule = Floor::built_in().firing(&observation(behaviour(action, object), traits));
        rule.map(|rule| rule.id.clone())
    };
    assert_eq!(firing("write", "/mnt/host/etc/cron.d/x", SHELL).as_deref(), Some("cron"));
    assert_eq!(firing("write", "/mnt/host/etc/cron.d/x", Traits::default()), None);
    assert_eq!(firing("exec", "/srv/tmp/.x", SHELL), None);
    assert_eq!(firing("exec", "/tmp/.x", SHELL).as_deref(), Some("exec-hidden"));
}

#[test]
fn a_rule_of_a_user_fires_behind_the_built_in_ones() {
    let floor = with(&rule("", "")).unwrap();
    let mail = observation(behaviour("connect", "tcp 10.0.0.9 500"), Traits::default());
    assert_eq!(held(&floor, &mail).0.as_deref(), Some("mail"));
    assert_eq!(floor.rule("mail").unwrap().file, "site.toml");
    assert!(Floor::built_in().firing(&mail).is_none(), "the built-in floor is as it was");
    let of_shell = Observation { traits: SHELL, ..mail };
    assert_eq!(held(&floor, &of_shell).0.as_deref(), Some("shell-connect"));
    let hard = with(&rule("yields_to_allow = true", "yields_to_allow = false")).unwrap();
    assert_eq!(held(&hard, &of_shell).0.as_deref(), Some("mail"), "what does not yield goes first");
}

#[test]
fn sensitive_objects_of_a_user_make_novelty_worse() {
    let text = r#"
[[sensitive]]
id = "site"
why = "customers see it"
fires_on = [{ does = "write /srv/www/x" }]
quiet_on = [{ does = "write /srv/x" }]
[[sensitive.when]]
actions = ["write"]
places = ["/srv/www/**"]
"#;
    let floor = with(text).unwrap();
    let write = observation(behaviour("write", "/srv/www/index.html"), Traits::default());
    let novel = crate::Verdict::Novel;
    assert_eq!(floor.severity(&write, &novel), crate::Severity::Medium);
    assert_eq!(Floor::built_in().severity(&write, &novel), crate::Severity::Low);
}

#[test]
fn a_bad_file_is_refused_with_file_rule_and_value() {
    let check = |text: &str, expected: &str| {
        assert_eq!(with(text).expect_err(expected).to_string(), expected);
    };
    check("[[rule]\n", "site.toml:1:8: unclosed array table, expected `]`");
    check(
        &rule("ports =", "portz ="),
        "site.toml:13:1: unknown field `portz`, expected one of `actions`, `places`, `hidden`, `ports`, `networks`, \
         `reachable`, `subjects`, `workloads`, `except_workloads`, `traits`, `without_traits`",
    );
    check(&rule("\"connect\"", "\"conect\""), ACTION_EXPECTED);
    check(&rule("\"mail\"", "\"cron\""), "site.toml: rule cron: the id is taken, in built-in floor.toml");
    check(
        &rule("\"mail\"", "\"Mail\""),
        "site.toml: rule Mail: id: expected lower-case letters, digits and hyphens, at most 64, found \"Mail\"",
    );
    check(
        &rule("465-587", "587-465"),
        "site.toml: rule mail: ports: expected a port range whose first port is the lower one, found \"587-465\"",
    );
    check(
        &rule("ports = [\"25\", \"465-587\"]", "places = [\"/etc\"]"),
        "site.toml: rule mail: actions: expected exec, write, delete, rename_from and rename_to only, with places or \
         hidden, found \"connect or listen\"",
    );
    check(
        &rule("ports = [\"25\", \"465-587\"]", ""),
        "site.toml: rule mail: when: expected places, hidden, ports, networks, reachable, subjects or traits beside \
         the actions, found \"a condition that holds for every object\"",
    );
    check(
        &rule("ports = [\"25\", \"465-587\"]", "ports = []"),
        "site.toml: rule mail: ports: expected at least one, found \"[]\"",
    );
    check(
        &rule("[\"connect\"]\nports = [\"25\", \"465-587\"]", "[\"exec\"]\nplaces = [\"tmp/x\"]"),
        "site.toml: rule mail: places: expected an absolute path, found \"tmp/x\"",
    );
    check(
        &rule("\"medium\"", "\"informational\""),
        "site.toml: rule mail: severity: expected low, medium, high or critical, found \"informational\"",
    );
    check(
        &rule("T1048.003", "T148"),
        "site.toml: rule mail: techniques: expected an ATT&CK technique such as T1053 or T1053.003, found \"T148\"",
    );
    check(
        &rule("attack_version = \"19.1\"", ""),
        "site.toml: rule mail: techniques: expected attack_version at the top of the file, for the release that the \
         id is of, found \"T1048.003\"",
    );
    let long = " ".repeat(super::FLOOR_TEXT_BYTES_MAX + 1);
    check(&long, "site.toml:1:1: expected at most 1048576 bytes, found 1048577");
}

const ACTION_EXPECTED: &str = "site.toml:12:12: unknown variant `conect`, expected one of `exec`, `connect`, `listen`, \
                               `write`, `delete`, `rename_from`, `rename_to`";

#[test]
fn a_rule_whose_example_says_otherwise_is_refused_with_the_example() {
    let check = |text: &str, expected: &str| {
        assert_eq!(with(text).expect_err(expected).to_string(), expected);
    };
    check(
        &rule("\"connect tcp 192.0.2.1 25\"", "\"connect tcp 192.0.2.1 24\""),
        "site.toml: rule mail: fires_on: the rule does not fire on \"connect tcp 192.0.2.1 24\"",
    );
    check(
        &rule("\"connect tcp 192.0.2.1 443\"", "\"connect tcp 192.0.2.1 465\""),
        "site.toml: rule mail: quiet_on: the rule fires on \"connect tcp 192.0.2.1 465\"",
    );
    for (key, line) in [
        ("fires_on", "fires_on = [{ does = \"connect tcp 192.0.2.1 25\" }]"),
        ("quiet_on", "quiet_on = [{ does = \"connect tcp 192.0.2.1 443\" }]"),
    ] {
        check(&rule(line, ""), &format!("site.toml: rule mail: {key}: at least one example is needed"));
    }
    check(
        &rule("connect tcp 192.0.2.1 25", "dial 25"),
        "site.toml: rule mail: does: expected ACTION OBJECT such as exec /bin/sh, found \"dial 25\"",
    );
    check(
        &rule("connect tcp 192.0.2.1 443", "exec /bin/*"),
        "site.toml: rule mail: does: expected a name without wildcards, found \"exec /bin/*\"",
    );
}

#[test]
fn a_silence_holds_in_its_scope_until_its_day() {
    let text = silence(
        "rule = \"cron\"\nworkload = \"unit:backup-*.service\"\nsubject = \"/usr/bin/b*\"\nobject = \"/etc/cron.d/b-*\"",
    );
    let floor = with(&text).unwrap();
    let check =
        |workload: &str, subject: &str, (action, object): (&str, &str), time: UnixNs, expected: bool| {
            let mut seen = Observation { time, ..observation(behaviour(action, object), Traits::default()) };
            (seen.behaviour.workload, seen.behaviour.subject.0) =
                (Workload(workload.to_owned()), subject.to_owned());
            let cron = Some("cron".to_owned());
            let expected = if expected { (None, cron) } else { (cron, None) };
            assert_eq!(held(&floor, &seen), expected, "{}", seen.behaviour);
            assert_eq!(floor.firing(&seen).unwrap().id, "cron", "what is silent is not learned all the same");
        };
    let (workload, subject, write) =
        ("unit:backup-a.service", "/usr/bin/backup", ("write", "/etc/cron.d/b-1"));
    check(workload, subject, write, january(1), true);
    check(workload, subject, ("rename", "/etc/cron.d/.tmp -> /etc/cron.d/b-1"), january(1), true);
    check(workload, subject, ("rename", "/etc/cron.d/b-1 -> /etc/cron.d/evil"), january(1), false);
    check(workload, subject, ("write", "/etc/cron.d/c-1"), january(1), false);
    check("unit:web.service", subject, write, january(1), false);
    check(workload, "/usr/bin/x", write, january(1), false);
    check(workload, subject, write, UnixNs(january(31).0 - 1), true);
    check(workload, subject, write, january(31), false);
    assert!(!floor.silences()[0].is_expired(january(30)) && floor.silences()[0].is_expired(january(31)));
}

#[test]
fn a_silence_of_one_name_of_a_rename_is_not_one_of_the_other() {
    let text = silence("rule = \"audit-config\"\nworkload = \"host\"\nobject = \"/etc/audit/a\"");
    let floor = with(&text).unwrap();
    let mut both = observation(behaviour("rename", "/etc/audit/a -> /etc/audit/b"), Traits::default());
    both.behaviour.workload = Workload("host".to_owned());
    assert_eq!(held(&floor, &both).0.as_deref(), Some("audit-config"));
    both.behaviour.object = behaviour("rename", "/etc/audit/a -> /tmp/b").object;
    assert_eq!(held(&floor, &both).0, None);
}

#[test]
fn endpoints_are_silenced_by_network_and_port() {
    let text = silence("rule = \"shell-connect\"\nworkload = \"host\"\nobject = \"tcp 10.0.0.0/8 443\"");
    let floor = with(&text).unwrap();
    let held_at = |object: &str| {
        let mut seen = observation(behaviour("connect", object), SHELL);
        seen.behaviour.workload = Workload("host".to_owned());
        held(&floor, &seen).0
    };
    assert_eq!(held_at("tcp 10.0.0.1 443"), None);
    assert_eq!(held_at("tcp 10.0.0.1 80").as_deref(), Some("shell-connect"));
    assert_eq!(held_at("tcp 192.0.2.1 443").as_deref(), Some("shell-connect"));
}

#[test]
fn a_silenced_rule_leaves_the_next_rule_and_the_baseline_in_force() {
    let both = format!(
        "{}{}",
        silence("rule = \"exec-hidden\"\nworkload = \"unit:a.service\""),
        rule("[\"connect\"]\nports = [\"25\", \"465-587\"]", "[\"exec\"]\nplaces = [\"/tmp/**\"]")
            .replace("attack_version = \"19.1\"\n", "")
            .replace("techniques = [{ id = \"T1048.003\", name = \"Exfiltration Over Unencrypted Non-C2 Protocol\" }]\n", "")
            .replace("connect tcp 192.0.2.1 25", "exec /tmp/x")
            .replace("connect tcp 192.0.2.1 443", "exec /bin/x"),
    );
    let hidden = observation(behaviour("exec", "/tmp/.x"), Traits::default());
    let expected = (Some("mail".to_owned()), Some("exec-hidden".to_owned()));
    assert_eq!(held(&with(&both).unwrap(), &hidden), expected);

    let floor = with(&silence("rule = \"exec-hidden\"\nworkload = \"unit:a.service\"")).unwrap();
    let check = |rules: &str, expected: crate::Verdict, severity: crate::Severity| {
        let verdict = crate::testing::baseline(rules).judge(&hidden, &floor);
        assert_eq!(verdict, expected, "{rules}");
        assert_eq!(floor.severity(&hidden, &verdict), severity, "{rules}");
    };
    check("exec: [/tmp/.x]", crate::Verdict::Allowed, crate::Severity::Informational);
    let nameless = with(&both).unwrap();
    let (empty, verdict) =
        (crate::Baseline::empty("web"), crate::Verdict::Floor(nameless.rule("mail").unwrap().clone()));
    let summary = empty.explain(&hidden, &verdict).summary;
    assert!(summary.ends_with("mail sent past the relay; no entry allows it"), "{summary}");
    check("exec: [/bin/ls]", crate::Verdict::Novel, crate::Severity::Medium);
    check("deny: {exec: [/tmp/**]}", crate::Verdict::Denied, crate::Severity::High);
    let learning = crate::Baseline::empty("web").judge(&hidden, &floor);
    assert_eq!(learning, crate::Verdict::Learning);
    let mut learner = crate::Learner::default().with_floor(floor.into());
    assert!(matches!(learner.observe(&hidden), crate::Learned::Refused(crate::Refusal::Floor(_))));
}

#[test]
fn a_silence_as_narrow_as_an_entry_stands_in_for_it() {
    let wide = "rule = \"exec-hidden\"\nworkload = \"unit:a.service\"";
    let hidden = observation(behaviour("exec", "/tmp/.x"), Traits::default());
    let narrow = format!("{wide}\nsubject = \"{}\"\nobject = \"/tmp/.x\"", hidden.behaviour.subject.0);
    let check = |silences: &str, rules: &str, object: &str, expected: crate::Verdict| {
        let hidden = observation(behaviour("exec", object), Traits::default());
        let verdict = crate::testing::baseline(rules).judge(&hidden, &with(silences).unwrap());
        assert_eq!(verdict, expected, "{silences} {rules} {object}");
    };
    let hidden_rule = crate::Verdict::Floor(Floor::built_in().rule("exec-hidden").unwrap().clone());
    let (narrow, wide) = (silence(&narrow), silence(wide));
    check(&narrow, "exec: [/bin/ls]", "/tmp/.x", crate::Verdict::Allowed);
    check(&narrow, "exec: [/bin/ls]", "/tmp/.y", hidden_rule);
    check(&wide, "exec: [/bin/ls]", "/tmp/.x", crate::Verdict::Novel);
    check(&narrow, "deny: {exec: [/tmp/**]}", "/tmp/.x", crate::Verdict::Denied);
    // So stands what was withheld for the rule in a candidate.
    check(&narrow, "retired: {exec: [/tmp/.x]}", "/tmp/.x", crate::Verdict::Allowed);
    let hard = narrow.replace("exec-hidden", "fileless-exec");
    let floor = with(&hard).unwrap();
    let fileless = observation(behaviour("exec", "/tmp/.x"), Traits { fileless: true, ..Traits::default() });
    let held = floor.held(&fileless);
    assert_eq!(held.silenced.map(|rule| rule.id.as_str()), Some("fileless-exec"));
    assert!(!held.is_excused, "no entry would do what this silence would stand for");
}

#[test]
fn a_silence_may_be_of_a_sigma_rule() {
    const ID: &str = "123e4567-e89b-12d3-a456-426614174000";
    let of = |rule: &str, more: &str| {
        silence(&format!("rule = \"{rule}\"\nworkload = \"unit:a.service\"\n{more}"))
    };
    let floor = with(&of(ID, "object = \"/etc/*\"")).unwrap();
    let holds = |id: &str, action: &str, object: &str, time: UnixNs| {
        let seen = Observation { time, ..observation(behaviour(action, object), Traits::default()) };
        floor.silence_of_sigma(id, &seen).is_some()
    };
    assert!(holds(ID, "exec", "/etc/x", january(1)) && holds(ID, "rename", "/tmp/x -> /etc/x", january(1)));
    assert!(!holds(ID, "rename", "/etc/x -> /tmp/x", january(1)), "the new name counts");
    assert!(!holds("another", "exec", "/etc/x", january(1)) && !holds(ID, "exec", "/bin/x", january(1)));
    assert!(!holds(ID, "exec", "/etc/x", january(31)));
    assert_eq!(with(&of("Its Title", "")).unwrap().sigma_silences().count(), 1);
    let wide = with(&of(ID, "").replace("unit:a", "unit:*")).unwrap_err().to_string();
    assert!(
        wide.starts_with(&format!("site.toml: silence of {ID}: workload: the rule yields to nothing")),
        "{wide}"
    );
    let nameless = with(&of(" ", "")).unwrap_err().to_string();
    assert_eq!(nameless, "site.toml: silence of  : rule: expected a text on one line, found \" \"");
}

#[test]
fn a_bad_silence_is_refused() {
    let check = |text: &str, expected: &str| {
        assert_eq!(with(text).expect_err(expected).to_string(), expected);
    };
    let hard = "rule = \"fileless-exec\"\nworkload = \"unit:a-*.service\"";
    check(
        &silence(hard),
        "site.toml: silence of fileless-exec: workload: the rule yields to nothing, so its workload must be named \
         exactly, found \"unit:a-*.service\"",
    );
    assert!(with(&silence(&hard.replace("-*", ""))).is_ok());
    let of = |extra: &str| silence(&format!("rule = \"cron\"\nworkload = \"host\"\n{extra}"));
    check(&of("").replace("cron", "corn"), "site.toml: silence of corn: there is no such rule");
    check(
        &of("").replace("host", "*"),
        "site.toml: silence of cron: workload: expected a workload such as unit:NAME, container:ID, session:user or \
         host, found \"*\"",
    );
    check(
        &of("").replace("\"ops\"", "\" \""),
        "site.toml: silence of cron: owner: expected a text on one line, found \" \"",
    );
    check(
        &of("").replace("2027-01-31", "2027-01-31T10:00:00Z"),
        "site.toml: silence of cron: expires: expected a day from 1970 to 2553, such as 2027-01-31, found \"2027-01-31T10:00:00Z\"",
    );
    check(
        &of("object = \"cron.d\""),
        "site.toml: silence of cron: object: expected tcp or udp, ADDRESS-OR-CIDR, and PORT, PORT-PORT or ephemeral, \
         found \"cron.d\"",
    );
    for key in ["owner", "reason", "expires", "rule", "workload"] {
        let full = of("");
        let line = full.lines().find(|line| line.starts_with(key)).unwrap();
        let error = with(&full.replace(line, "")).unwrap_err();
        assert!(matches!(error.cause, FloorCause::Text { .. }), "{error}");
        assert!(error.to_string().contains(&format!("missing field `{key}`")), "{error}");
    }
}

#[test]
fn the_examples_of_the_manual_are_valid() {
    let manual = include_str!("../../../docs/floor-rules.md");
    let blocks = manual.split("```toml\n").skip(1).map(|rest| rest.split("```").next().unwrap());
    let floor = with(&blocks.collect::<String>()).unwrap();
    assert!(floor.rule("web-server-shell").is_some());
    assert_eq!(floor.silences().len(), 1);
    for key in
        ["places", "hidden", "ports", "networks", "reachable", "subjects", "workloads", "without_traits"]
    {
        assert!(manual.contains(&format!("`{key}`")), "{key}");
    }
}

#[test]
fn days_are_counted_right() {
    for (day, expected) in
        [("1970-01-01", 0), ("2000-02-29", 11_016), ("2000-03-01", 11_017), ("2027-01-31", 20_849)]
    {
        let text = silence("rule = \"cron\"\nworkload = \"host\"").replace("2027-01-31", day);
        let until = with(&text).unwrap().silences()[0].until;
        assert_eq!(until, UnixNs(expected * 24 * 60 * 60 * 1_000_000_000), "{day}");
    }
}

#[test]
fn the_manual_lists_rules_and_sensitive_objects_as_they_are() {
    let manual = include_str!("../../../docs/baseline-format.md");
    let check = |id: &str, end: &str| {
        let row = manual.lines().find(|line| line.starts_with(&format!("| `{id}` |")));
        let row = row.unwrap_or_else(|| panic!("{id} is not in the manual"));
        assert!(row.ends_with(end), "{row}: expected {end}");
    };
    let floor = Floor::built_in();
    for rule in floor.rules() {
        let yields = if rule.yields_to_allow { "yes" } else { "no" };
        let techniques = rule.technique_ids().collect::<Vec<_>>().join(", ");
        check(&rule.id, &format!("| {techniques} | {} | {yields} |", rule.severity.name()));
    }
    for object in floor.sensitive_objects() {
        let techniques: Vec<_> = object.techniques.iter().map(|technique| technique.id.as_str()).collect();
        check(&object.id, &format!("| {} | {} |", object.why, techniques.join(", ")));
    }
    let after = manual.split_once("## Floor rules").unwrap().1;
    let rows = after.lines().filter(|line| line.starts_with("| `")).count();
    assert_eq!(rows, floor.rules().len() + floor.sensitive_objects().count());
    assert!(after.contains("release 19.1") && FILES.len() == 2);
}
