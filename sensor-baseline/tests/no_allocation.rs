//! Judging takes no memory. Not its time: that is `benches/judge.rs`. It may call the crate's public items.

use sensor_baseline::Floor;

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
