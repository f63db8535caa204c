//! A baseline of a host with 20 services of 300 entries each, and what they do. It may call the crate's public items.

use sensor_baseline::{
    Action, Baseline, Behaviour, Floor, Object, Observation, Subject, Traits, UnixNs, Verdict, Workload,
};
use std::fmt::Write as _;

const SERVICES: usize = 20;
/// Literal files that each service writes.
const FILES: usize = 250;

/// Each service runs programs, serves, talks to a network, and writes files by name and by template.
pub(crate) fn baseline() -> Baseline {
    let mut text = "fleet: web\nworkloads:\n".to_owned();
    for service in 0..SERVICES {
        let files: Vec<String> =
            (0..FILES).map(|file| format!("/var/lib/s{service}/data/file{file}.db")).collect();
        let templates: Vec<String> =
            (0..20).map(|part| format!("/var/log/s{service}/part{part}-*.log")).collect();
        let programs: Vec<String> = (0..20).map(|program| format!("/usr/bin/tool{program}")).collect();
        writeln!(
            text,
            "  unit:s{service}.service:\n    /usr/sbin/s{service}:\n      exec: [{}]\n      connect: [tcp 10.0.0.0/8 5432, udp \
             10.0.0.2 53, tcp 127.0.0.1 ephemeral]\n      listen: [tcp 80, tcp 443]\n      write: [{}, {}]\n      delete: \
             [/run/s{service}/*.tmp]\n      rename: [/var/log/s{service}/a.log -> /var/log/s{service}/a.log.<num>]",
            programs.join(", "),
            files.join(", "),
            templates.join(", "),
        )
        .expect("writing to memory does not fail");
    }
    Baseline::parse(&text).expect("the text is a baseline")
}

/// What the middle service does, by name, with what the baseline thinks of it.
pub(crate) fn observations() -> Vec<(&'static str, Observation, Verdict)> {
    let service = SERVICES / 2;
    let of = |action: &str, object: &str, expected: Verdict| {
        let action = Action::parse(action).expect("an action");
        let behaviour = Behaviour {
            workload: Workload(format!("unit:s{service}.service")),
            subject: Subject(format!("/usr/sbin/s{service}")),
            action,
            object: Object::parse(action, object).expect("an object"),
        };
        (Observation { behaviour, traits: Traits::default(), time: UnixNs(1) }, expected)
    };
    let named = |name, (observation, expected)| (name, observation, expected);
    let held = |rule: &str| {
        Verdict::Floor(Floor::built_in().rule(rule).expect("a rule that comes with the sensor").clone())
    };
    let known = || Verdict::Allowed;
    vec![
        named("exec", of("exec", "/usr/bin/tool7", known())),
        named("listen", of("listen", "tcp 0.0.0.0 443", known())),
        named("connect_network", of("connect", "tcp 10.9.8.7 5432", known())),
        named("write_literal", of("write", &format!("/var/lib/s{service}/data/file200.db"), known())),
        named("write_template", of("write", &format!("/var/log/s{service}/part19-web.log"), known())),
        named("delete_template", of("delete", &format!("/run/s{service}/x.tmp"), known())),
        named(
            "rename_template",
            of("rename", &format!("/var/log/s{service}/a.log -> /var/log/s{service}/a.log.7"), known()),
        ),
        named("exec", of("exec", "/usr/bin/id", Verdict::Novel)),
        named("write", of("write", "/srv/www/shell.php", Verdict::Novel)),
        named("write_floor", of("write", "/home/u/.ssh/authorized_keys", held("ssh-keys"))),
    ]
}
