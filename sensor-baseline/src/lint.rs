//! What is odd about a baseline that parses: entries without effect, and entries that allow more than a person may
//! mean. Changes nothing. May call: `baseline`, `entries`, `floor`, `layers`, `object`, `pattern`.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};

use crate::baseline::{Baseline, Disposition, Entry, Rules};
use crate::entries::EntrySet;
use crate::floor::Floor;
use crate::layers::{Layer, Layers};
use crate::model::{Action, Behaviour, Observation, Traits, UnixNs};
use crate::object::{Endpoint, Object, Protocol};
use crate::pattern::{Pattern, Ports};

/// An entry that a person should look at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Lint {
    /// The entry.
    pub entry: Entry,
    /// What is odd about it.
    pub oddity: Oddity,
}

/// What is odd about an entry.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Oddity {
    /// Another entry of the same kind holds all that this one holds.
    Covered {
        /// The other one.
        by: Pattern,
    },
    /// It allows what another entry denies or retired.
    Overruled {
        /// What the other one says.
        disposition: Disposition,
        /// The other one.
        by: Pattern,
    },
    /// It allows what a floor rule reports whatever a baseline says.
    Floor {
        /// Id of the rule.
        rule: String,
    },
    /// It allows programs by a template: whoever can write there chooses what runs.
    ExecTemplate,
    /// It allows all that lies below the root, or below a directory of the root.
    WholeTree,
    /// It allows every address.
    EveryAddress,
}

impl fmt::Display for Oddity {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Covered { by } => write!(formatter, "has no effect: {by} holds it too"),
            Self::Overruled { disposition: Disposition::Deny, by } => {
                write!(formatter, "has no effect: {by} is denied")
            }
            Self::Overruled { by, .. } => write!(formatter, "has no effect: {by} is retired"),
            Self::Floor { rule } => {
                write!(formatter, "has no effect: floor rule {rule} holds whatever a baseline allows")
            }
            Self::ExecTemplate => formatter
                .write_str("allows programs by a template: whoever can write there chooses what runs"),
            Self::WholeTree => formatter.write_str("allows a whole tree next to the root"),
            Self::EveryAddress => formatter.write_str("allows every address"),
        }
    }
}

impl fmt::Display for Lint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.entry, self.oddity)
    }
}

/// What is odd about a baseline, in the order of its text. Without effect can only be found what stands for one object:
/// what a template or a range holds is not compared with other templates and ranges.
#[must_use]
pub fn lint(baseline: &Baseline, floor: &Floor) -> Vec<Lint> {
    let odd = |entry: Entry| {
        let rules = baseline.rules(&entry.workload, &entry.subject)?;
        oddity(rules, &entry, floor).map(|oddity| Lint { entry, oddity })
    };
    baseline.entries().filter_map(odd).collect()
}

/// An entry of a layer that another layer leaves without effect.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LayerLint {
    /// The layer that the entry stands in.
    pub layer: String,
    /// The entry, and what is odd about it.
    pub lint: Lint,
    /// The layer of the other entry.
    pub by_layer: String,
}

impl fmt::Display for LayerLint {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}, in layer {}", self.layer, self.lint, self.by_layer)
    }
}

/// Which entries of layers others leave without effect: what one allows and any other denies, or a higher one retired. Not
/// what is odd about each layer alone.
#[must_use]
pub fn lint_layers(layers: &Layers) -> Vec<LayerLint> {
    let layers = layers.layers();
    let odd = |at: usize, entry: Entry| {
        let object = only_object(&entry.pattern).filter(|_| entry.disposition == Disposition::Allow)?;
        let overruling = |(place, other): (usize, &Layer)| {
            let rules = other.baseline.rules(&entry.workload, &entry.subject).filter(|_| place != at)?;
            let holding = |disposition| {
                let by = rules.set(disposition, entry.action)?.holding(&object).next()?.clone();
                Some(Oddity::Overruled { disposition, by })
            };
            let oddity = holding(Disposition::Deny)
                .or_else(|| holding(Disposition::Retired).filter(|_| place > at))?;
            Some((oddity, other.name.clone()))
        };
        let (oddity, by_layer) = layers.iter().enumerate().rev().find_map(overruling)?;
        let lint = Lint { entry: entry.clone(), oddity };
        Some(LayerLint { layer: layers[at].name.clone(), lint, by_layer })
    };
    let all = layers.iter().enumerate();
    all.flat_map(|(at, layer)| layer.baseline.entries().map(move |entry| (at, entry)))
        .filter_map(|(at, entry)| odd(at, entry))
        .collect()
}

/// The worst first: no effect before too much effect.
fn oddity(rules: &Rules, entry: &Entry, floor: &Floor) -> Option<Oddity> {
    if let Some(object) = only_object(&entry.pattern) {
        if entry.disposition == Disposition::Allow {
            for disposition in [Disposition::Deny, Disposition::Retired] {
                let set = rules.set(disposition, entry.action);
                if let Some(by) = set.and_then(|set| set.holding(&object).next().cloned()) {
                    return Some(Oddity::Overruled { disposition, by });
                }
            }
            if let Some(rule) = held_by_floor(entry, &object, floor) {
                return Some(Oddity::Floor { rule });
            }
        }
        let covering = |set: &EntrySet| set.holding(&object).find(|other| **other != entry.pattern).cloned();
        if let Some(by) = rules.set(entry.disposition, entry.action).and_then(covering) {
            return Some(Oddity::Covered { by });
        }
    }
    (entry.disposition == Disposition::Allow).then(|| width(entry)).flatten()
}

/// What an allow entry that holds many objects allows too much of.
fn width(entry: &Entry) -> Option<Oddity> {
    match &entry.pattern {
        Pattern::Path(path) if entry.action == Action::Exec && !path.is_literal() => {
            Some(Oddity::ExecTemplate)
        }
        Pattern::Path(path) if is_whole_tree(path.as_str()) => Some(Oddity::WholeTree),
        Pattern::Rename { from, to } if is_whole_tree(from.as_str()) || is_whole_tree(to.as_str()) => {
            Some(Oddity::WholeTree)
        }
        Pattern::Connect { network, .. } if network.is_everything() => Some(Oddity::EveryAddress),
        _ => None,
    }
}

/// Whether a template holds all that is below the root, or below a directory of the root.
fn is_whole_tree(path: &str) -> bool {
    let mut names = path.split('/').skip(1);
    let (first, second) = (names.next(), names.next());
    first == Some("**") || (second == Some("**") && names.next().is_none())
}

/// The one object that a pattern holds.
fn only_object(pattern: &Pattern) -> Option<Object> {
    match pattern {
        Pattern::Path(path) if path.is_literal() => Some(Object::Path(path.clone())),
        Pattern::Rename { from, to } if from.is_literal() && to.is_literal() => {
            Some(Object::Rename { from: from.clone(), to: to.clone() })
        }
        Pattern::Connect { protocol, network, ports: Ports::One(port) } => {
            let address = network.only_address()?;
            Some(Object::Endpoint(Endpoint { protocol: *protocol, address, port: *port }))
        }
        // On every address: only another entry for every address holds that too.
        Pattern::Listen { address, ports: Ports::One(port) } => {
            let address = address.unwrap_or(IpAddr::V4(Ipv4Addr::UNSPECIFIED));
            Some(Object::Endpoint(Endpoint { protocol: Protocol::Tcp, address, port: *port }))
        }
        _ => None,
    }
}

/// The floor rule that reports the object by itself, whatever else is known of the act, and does not yield.
fn held_by_floor(entry: &Entry, object: &Object, floor: &Floor) -> Option<String> {
    let Entry { workload, subject, action, .. } = entry.clone();
    let behaviour = Behaviour { workload, subject, action, object: object.clone() };
    let observation = Observation { behaviour, traits: Traits::default(), time: UnixNs::default() };
    floor.firing(&observation).filter(|rule| !rule.yields_to_allow).map(|rule| rule.id.clone())
}

#[cfg(test)]
mod tests {
    use super::{lint, lint_layers};
    use crate::layers::{Layer, Layers};
    use crate::testing::baseline;

    fn check(rules: &str, expected: &[&str]) {
        let found: Vec<String> =
            lint(&baseline(rules), crate::Floor::built_in()).iter().map(ToString::to_string).collect();
        let expected: Vec<String> =
            expected.iter().map(|line| format!("unit:a.service /usr/bin/a {line}")).collect();
        assert_eq!(found, expected, "{rules}");
    }

    #[test]
    fn entries_without_effect_are_named_with_what_takes_it() {
        check(
            "write: [/var/log/a.log, /var/log/*.log]",
            &["allow write /var/log/a.log: has no effect: /var/log/*.log holds it too"],
        );
        check(
            "connect: [tcp 10.0.0.1 80, tcp 10.0.0.0/8 80, udp 10.0.0.1 80]",
            &["allow connect tcp 10.0.0.1 80: has no effect: tcp 10.0.0.0/8 80 holds it too"],
        );
        check(
            "listen: [tcp 127.0.0.1 80, tcp 80, tcp 81]",
            &["allow listen tcp 127.0.0.1 80: has no effect: tcp 80 holds it too"],
        );
        check(
            "{exec: [/bin/sh, /bin/ls], deny: {exec: [/bin/s*]}}",
            &["allow exec /bin/sh: has no effect: /bin/s* is denied"],
        );
        check(
            "{rename: [/a -> /b], retired: {rename: [/* -> /b]}}",
            &["allow rename /a -> /b: has no effect: /* -> /b is retired"],
        );
        check(
            "write: [/etc/ld.so.preload, /etc/cron.d/backup]",
            &[
                "allow write /etc/ld.so.preload: has no effect: floor rule ld-preload holds whatever a baseline allows",
            ],
        );
    }

    #[test]
    fn entries_that_another_layer_leaves_without_effect_are_named() {
        let of = |name: &str, rules: &str| Layer::new(name, baseline(rules));
        let lints = lint_layers(&Layers::new(vec![
            of("vendor", "{exec: [/bin/sh, /bin/ls, /bin/*], retired: {exec: [/bin/id]}}"),
            of("fleet", "{exec: [/bin/id, /bin/cat], retired: {exec: [/bin/ls]}}"),
            of("host", "deny: {exec: [/bin/*h, /bin/cat]}"),
        ]));
        let lints: Vec<String> = lints.iter().map(ToString::to_string).collect();
        let allow = "unit:a.service /usr/bin/a allow exec";
        let expected = [
            format!("vendor: {allow} /bin/ls: has no effect: /bin/ls is retired, in layer fleet"),
            format!("vendor: {allow} /bin/sh: has no effect: /bin/*h is denied, in layer host"),
            format!("fleet: {allow} /bin/cat: has no effect: /bin/cat is denied, in layer host"),
        ];
        assert_eq!(lints, expected);
    }

    #[test]
    fn listeners_on_every_address_are_compared() {
        let effect = "allow listen tcp 80: has no effect:";
        check("listen: [tcp 80, tcp 1-1024]", &[&format!("{effect} tcp 1-1024 holds it too")]);
        check("{listen: [tcp 80], deny: {listen: [tcp 80-90]}}", &[&format!("{effect} tcp 80-90 is denied")]);
        check("listen: [tcp 80, tcp 127.0.0.1 1-1024]", &[]);
    }

    #[test]
    fn entries_that_allow_too_much_are_named() {
        check(
            "exec: [/usr/bin/python3.*, /usr/bin/python3]",
            &[
                "allow exec /usr/bin/python3.*: allows programs by a template: whoever can write there chooses what runs",
            ],
        );
        check(
            "write: [/etc/**, /srv/www/**]",
            &["allow write /etc/**: allows a whole tree next to the root"],
        );
        check("connect: [tcp 0.0.0.0/0 443]", &["allow connect tcp 0.0.0.0/0 443: allows every address"]);
        check("deny: {exec: [/tmp/**], write: [/**], connect: [tcp 0.0.0.0/0 25]}", &[]);
    }
}
