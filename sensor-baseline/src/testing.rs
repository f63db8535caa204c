//! Short ways to make values in this crate's tests. Not part of the crate. May call: everything public.

use proptest::prelude::{Just, Strategy, any, prop_oneof};

use crate::{
    Action, Baseline, Behaviour, Disposition, Entry, Object, Observation, Pattern, Subject, Traits, UnixNs,
    Workload, text,
};

/// A behaviour of `/usr/bin/a` in `unit:a.service`.
pub(crate) fn behaviour(action: &str, object: &str) -> Behaviour {
    let action = Action::parse(action).unwrap();
    Behaviour {
        workload: Workload("unit:a.service".to_owned()),
        subject: Subject("/usr/bin/a".to_owned()),
        action,
        object: Object::parse(action, object).unwrap(),
    }
}

pub(crate) fn observation(behaviour: Behaviour, traits: Traits) -> Observation {
    Observation { behaviour, traits, time: UnixNs(1) }
}

/// A baseline whose one subject, `/usr/bin/a` in `unit:a.service`, has these rules.
pub(crate) fn baseline(rules: &str) -> Baseline {
    let rules = if rules.starts_with('{') { rules.to_owned() } else { format!("{{{rules}}}") };
    Baseline::parse(&format!("fleet: web\nworkloads:\n  unit:a.service:\n    /usr/bin/a: {rules}\n")).unwrap()
}

/// Paths that are awkward in every way a kernel allows.
pub(crate) fn any_path() -> impl Strategy<Value = String> {
    let name = prop_oneof![
        "[a-z]{1,3}",
        "[a-zA-Z0-9_.-]{1,20}",
        proptest::collection::vec(any::<u8>(), 1..6).prop_map(|bytes| text::escape(&bytes)),
        "[ #:,'\"*<>&!\\[\\]{}|%@`-]{1,6}".prop_map(|odd| text::escape(odd.as_bytes())),
    ];
    let name = name.prop_map(|name| {
        let name = name.replace('/', "s");
        if matches!(name.as_str(), "." | "..") { "d".to_owned() } else { name }
    });
    proptest::collection::vec(name, 1..4).prop_map(|names| format!("/{}", names.join("/")))
}

/// Any object with its action.
pub(crate) fn any_object() -> impl Strategy<Value = (Action, Object)> {
    let endpoint = |protocol| {
        (any::<std::net::IpAddr>(), 1..=u16::MAX)
            .prop_map(move |(address, port)| Object::Endpoint(crate::Endpoint { protocol, address, port }))
    };
    prop_oneof![
        (prop_oneof![Just(Action::Exec), Just(Action::Write), Just(Action::Delete)], any_path())
            .prop_map(|(action, path)| (action, Object::path(&path))),
        (any_path(), any_path()).prop_map(|(from, to)| (Action::Rename, Object::rename(&from, &to))),
        (prop_oneof![Just(Action::Connect), Just(Action::Listen)], endpoint(crate::Protocol::Tcp)),
        (Just(Action::Connect), endpoint(crate::Protocol::Udp)),
    ]
}

/// Observations of a few workloads and subjects.
pub(crate) fn observations() -> impl Strategy<Value = Vec<Observation>> {
    let one = (0..3_u8, 0..3_u8, any_object(), any::<bool>(), 0..9_u64).prop_map(
        |(workload, subject, (action, object), ephemeral, time)| Observation {
            behaviour: Behaviour {
                workload: Workload(format!("unit:{workload}.service")),
                subject: Subject(format!("/usr/bin/{subject}")),
                action,
                object,
            },
            traits: Traits { ephemeral, ..Traits::default() },
            time: UnixNs(time),
        },
    );
    proptest::collection::vec(one, 0..12)
}

/// Any baseline, names of any characters included.
pub(crate) fn any_baseline() -> impl Strategy<Value = Baseline> {
    let name = prop_oneof!["[a-z0-9]{1,4}", any::<String>(), "[-:# '\"{}\\[\\],&*!|>%@`~?\\n\\t]{1,6}"];
    let name = name.prop_map(|name| if name.is_empty() { "x".to_owned() } else { name });
    let disposition =
        prop_oneof![Just(Disposition::Allow), Just(Disposition::Deny), Just(Disposition::Retired)];
    let entry = (name.clone(), name.clone(), disposition, any_object());
    let version = proptest::option::of(1..u64::MAX);
    let action = proptest::sample::select(Action::ALL.to_vec());
    let learning = proptest::collection::vec(action, 0..3);
    let entries = proptest::collection::vec(entry, 0..12);
    (name.clone(), version, entries, proptest::option::of(name), learning).prop_map(
        |(fleet, version, entries, armed, learning)| {
            let mut baseline = Baseline { fleet, version, ..Baseline::default() };
            for (workload, subject, disposition, (action, object)) in entries {
                let pattern = Pattern::of(action, &object);
                let (workload, subject) = (Workload(format!("unit:{workload}")), Subject(subject));
                let entry = Entry { workload, subject, disposition, action, pattern };
                let listed = baseline
                    .entries()
                    .any(|other| Entry { disposition: entry.disposition, ..other.clone() } == entry);
                if !listed {
                    baseline.insert(entry);
                }
            }
            let workloads: Vec<Workload> = baseline.workloads().take(2).cloned().collect();
            for (workload, action) in workloads.into_iter().zip(learning) {
                baseline.leave_learning(workload, action);
            }
            if let Some(armed) = armed {
                baseline.arm(Workload(format!("cgroup:/{armed}")));
            }
            baseline
        },
    )
}
