//! `cargo bench -p sensor-baseline`: what one verdict costs, against a baseline of a host with 20 services. Not the cost of
//! an event on its way there. It may call the crate's public items.

use criterion::{BenchmarkId, Criterion, criterion_group, criterion_main};
use sensor_baseline::{Floor, Verdict};
use std::hint::black_box;

#[path = "../tests/support/mod.rs"]
mod support;

fn judge(criterion: &mut Criterion) {
    let baseline = support::baseline();
    let mut group = criterion.benchmark_group("judge");
    for (name, observation, expected) in support::observations() {
        assert_eq!(baseline.judge(&observation, Floor::built_in()), expected, "{name}");
        let kind = if expected == Verdict::Allowed { "known" } else { "novel" };
        group.bench_with_input(BenchmarkId::new(kind, name), &observation, |bencher, observation| {
            bencher.iter(|| baseline.judge(black_box(observation), Floor::built_in()));
        });
    }
    group.finish();
}

criterion_group!(benches, judge);
criterion_main!(benches);
