//! `cargo bench -p sensor-baseline`: what one verdict costs, against a baseline of a host with 20 services, alone and in
//! layers. Not the cost of an event on its way there. It may call the crate's public items.

use criterion::{BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use sensor_baseline::{Baseline, Floor, Layer, Layers, Verdict};
use std::hint::black_box;

#[path = "../tests/support/mod.rs"]
mod support;

fn judge(criterion: &mut Criterion) {
    let baseline = support::baseline();
    let mut group = criterion.benchmark_group("judge");
    group.throughput(Throughput::Elements(1));
    for (name, observation, expected) in support::observations() {
        assert_eq!(baseline.judge(&observation, Floor::built_in()), expected, "{name}");
        let kind = if expected == Verdict::Allowed { "known" } else { "novel" };
        group.bench_with_input(BenchmarkId::new(kind, name), &observation, |bencher, observation| {
            bencher.iter(|| baseline.judge(black_box(observation), Floor::built_in()));
        });
    }
    group.finish();
}

/// The same by three layers, of which the lowest retired something.
fn judge_by_layers(criterion: &mut Criterion) {
    let rules = "{exec: [/opt/a], retired: {exec: [/opt/b], write: [/opt/b]}}";
    let text = format!("fleet: v\nworkloads:\n  unit:s10.service:\n    /usr/sbin/s10: {rules}\n");
    let small = Baseline::parse(&text).expect("the text is a baseline");
    let named = [("vendor", small.clone()), ("fleet", support::baseline()), ("host", small)];
    let layers = Layers::new(named.into_iter().map(|(name, baseline)| Layer::new(name, baseline)).collect());
    let mut group = criterion.benchmark_group("judge_by_layers");
    group.throughput(Throughput::Elements(1));
    for (name, observation, expected) in support::observations() {
        assert_eq!(layers.judge(&observation, Floor::built_in()), expected, "{name}");
        let kind = if expected == Verdict::Allowed { "known" } else { "novel" };
        group.bench_with_input(BenchmarkId::new(kind, name), &observation, |bencher, observation| {
            bencher.iter(|| layers.judge(black_box(observation), Floor::built_in()));
        });
    }
    group.finish();
}

criterion_group!(benches, judge, judge_by_layers);
criterion_main!(benches);
