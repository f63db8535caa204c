//! Judging takes no memory. Not its time: that is `benches/judge.rs`. It may call the crate's public items.

use sensor_baseline::{Baseline, Floor, Layer, Layers};

mod support;

#[test]
fn judging_allocates_nothing() {
    let baseline = support::baseline();
    for (name, observation, expected) in support::observations() {
        // Whatever is made once is made now.
        assert_eq!(baseline.judge(&observation, Floor::built_in()), expected, "{name}");
        let used = allocation_counter::measure(|| {
            for _ in 0..100 {
                assert_eq!(baseline.judge(&observation, Floor::built_in()), expected);
            }
        });
        assert_eq!(used.count_total, 0, "{expected:?} {name}");
    }
}

#[test]
fn judging_by_layers_allocates_nothing() {
    let vendor = "fleet: v\nworkloads:\n  unit:s10.service:\n    /usr/sbin/s10: {exec: [/opt/v], retired: {exec: [/opt/r]}}\n";
    let host = "fleet: h\nworkloads:\n  unit:s10.service:\n    /usr/sbin/s10: {exec: [/opt/h]}\n";
    let parsed = |text| Baseline::parse(text).expect("the text is a baseline");
    let layers = Layers::new(vec![
        Layer::new("vendor", parsed(vendor)),
        Layer::new("fleet", support::baseline()),
        Layer::new("host", parsed(host)),
    ]);
    for (name, observation, expected) in support::observations() {
        assert_eq!(layers.judge(&observation, Floor::built_in()), expected, "{name}");
        let used = allocation_counter::measure(|| {
            assert_eq!(layers.judge(&observation, Floor::built_in()), expected);
        });
        assert_eq!(used.count_total, 0, "{expected:?} {name}");
    }
}

#[test]
fn looking_for_silences_allocates_nothing() {
    let text = "[[silence]]\nrule = \"ssh-keys\"\nworkload = \"unit:s*.service\"\nobject = \"~/.ssh/*\"\nowner = \"ops\"\n\
                reason = \"a test\"\nexpires = 2100-01-01\n";
    let floor = Floor::with_files(&[("site.toml".to_owned(), text.to_owned())]).expect("the text is valid");
    let (_, keys, _) =
        support::observations().into_iter().find(|(name, ..)| *name == "write_floor").expect("is one");
    let used = allocation_counter::measure(|| {
        let held = floor.held(&keys);
        assert!(held.rule.is_none() && held.silenced.is_some_and(|rule| rule.id == "ssh-keys"));
    });
    assert_eq!(used.count_total, 0);
}
