//! `cargo bench -p sensor-agent --bench stages`: what each stage of the agent costs for one record, from the ring's bytes to
//! the bytes on the wire. Judging is measured in `sensor-baseline/benches/judge.rs`. It may call the crates' public items.
//!
//! | group | from | to |
//! |---|---|---|
//! | `decode` | bytes of a record | event |
//! | `enrich` | bytes of a record | observation; so decoding is in it, and asking the floor's rules |
//! | `encode` | finding | item of the spool; and from there to the item on the wire |
//! | `spool_append` | item | committed, with the ack of the one before; on the disk of the temporary folder (`TMPDIR`) |

use criterion::{BatchSize, BenchmarkId, Criterion, Throughput, criterion_group, criterion_main};
use prost::Message as _;
use record::record_fixture::Who;
use sensor_agent::enrich::seed::{Seed, SeedCgroup, SeedProcess};
use sensor_agent::event::Event;
use sensor_agent::finding::Finding;
use sensor_agent::pipeline::{Output, Pipeline, PipelineConfig, Telling};
use sensor_agent::spool::keeper::{Clock, Keeper};
use sensor_agent::spool::{Epoch, NewItem, Seq, StoredItem};
use sensor_agent::wire::{item_message, spool_item};
use sensor_baseline::{Baseline, Layers};
use sensor_event::FileFlags;
use std::hint::black_box;
use std::time::Duration;

/// The unit tests' records. A folder of its own, so that the fixture's own module is found where it is.
#[path = "../src"]
#[expect(dead_code, reason = "the unit tests make more kinds of records")]
mod record {
    pub(crate) mod record_fixture;
}

fn decode(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("decode");
    group.throughput(Throughput::Elements(1));
    for (name, bytes) in records() {
        group.bench_with_input(name, &bytes, |bencher, bytes| {
            bencher.iter(|| {
                let record = sensor_event::decode(black_box(bytes)).expect("the fixture makes records");
                Event::from_record(&record)
            });
        });
    }
    group.finish();
}

fn enrich(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("enrich");
    group.throughput(Throughput::Elements(1));
    for (name, bytes) in records() {
        let (mut pipeline, mut out) = (pipeline(None), Output::default());
        group.bench_with_input(name, &bytes, |bencher, bytes| {
            bencher.iter(|| {
                out.clear();
                pipeline.handle(black_box(bytes), &mut out);
                black_box(&out);
            });
        });
        assert_eq!((out.observations.len(), out.findings.len()), (1, 0), "{name}");
    }
    group.finish();
}

fn encode(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("encode");
    group.throughput(Throughput::Elements(1));
    for (name, finding) in findings() {
        group.bench_with_input(BenchmarkId::new("spool_item", name), &finding, |bencher, finding| {
            bencher.iter(|| spool_item(black_box(finding), HOSTNAME));
        });
        let content = spool_item(&finding, HOSTNAME).content;
        let stored = StoredItem { first: Seq(7), seq: Seq(7), content };
        group.bench_with_input(BenchmarkId::new("wire_item", name), &stored, |bencher, stored| {
            let send = |stored| item_message(stored).encode_to_vec();
            bencher.iter_batched(|| stored.clone(), send, BatchSize::SmallInput);
        });
    }
    group.finish();
}

/// As the spool's thread does it: an urgent finding has a commit to itself, others share one. What an earlier commit
/// has accepted is acknowledged meanwhile, so the file does not grow.
fn spool_append(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("spool_append");
    for (name, finding) in findings() {
        let item = spool_item(&finding, HOSTNAME);
        for (kind, count) in [("alone", 1), ("shared", ITEMS_SHARED)] {
            // Of a shared commit the figure for one item, too.
            group.throughput(Throughput::Elements(count));
            group.bench_with_input(BenchmarkId::new(kind, name), &item, |bencher, item| {
                let folder = tempfile::tempdir().expect("the temporary folder can be written");
                let mut keeper =
                    Keeper::start(&folder.path().join("spool.db"), SPOOL_BYTES_MAX, || Epoch([7; 16]), NOW);
                let items = || vec![item.clone(); count as usize];
                bencher.iter_batched(items, |items| accept(&mut keeper, items), BatchSize::SmallInput);
                let health = keeper.health();
                assert_eq!((&health.degraded, health.pending_count), (&None, 0), "every item is committed");
            });
        }
    }
    group.finish();
}

fn accept(keeper: &mut Keeper, items: Vec<NewItem>) {
    let holding = keeper.holding().expect("the spool has a file");
    if holding.items() > 0 {
        keeper.acknowledge(holding.epoch, holding.last, NOW);
    }
    items.into_iter().for_each(|item| keeper.push(item, NOW));
    keeper.commit(NOW);
}

/// What a web server does, by name.
fn records() -> [(&'static str, Vec<u8>); 3] {
    let server = Who::new(SERVER_PID, 1);
    let file = "/var/cache/nginx/proxy/c/29/b7f54b2df7773722d382f4809d65029c";
    [
        ("exec", server.exec("/usr/sbin/nginx", &ARGV)),
        ("open_write", server.open(file, O_CREAT_WRONLY, FileFlags::default())),
        ("connect", server.connect(1, 5432)),
    ]
}

/// The same as findings of a baseline that has none of it.
fn findings() -> Vec<(&'static str, Finding)> {
    let text = "fleet: web\nworkloads:\n  unit:web.service:\n    /usr/sbin/nginx: {exec: [/opt/a], write: [/opt/b]}\n";
    let baseline = Baseline::parse(text).expect("the text is a baseline");
    let mut pipeline = pipeline(Some(baseline.into()));
    let mut find = |(name, bytes): (&'static str, Vec<u8>)| {
        let mut out = Output::default();
        pipeline.handle(&bytes, &mut out);
        (name, out.findings.pop().expect("the baseline has none of it"))
    };
    records().into_iter().map(&mut find).collect()
}

/// A pipeline that has seen a host start: its first process and as many services as a server has.
fn pipeline(baseline: Option<Layers>) -> Pipeline {
    let mut pipeline =
        Pipeline::new(PipelineConfig { baseline, telling: Telling::Always, ..PipelineConfig::default() });
    let services = (SERVER_PID..SERVER_PID + SERVICES).map(|pid| process(pid, 1, "/usr/sbin/nginx"));
    pipeline.seed(Seed {
        processes: std::iter::once(process(1, 0, "/usr/lib/systemd/systemd")).chain(services).collect(),
        cgroups: vec![SeedCgroup { id: 1, path: CGROUP.to_owned() }],
        taken_ns: 0,
    });
    pipeline
}

fn process(pid: u32, ppid: u32, exe: &str) -> SeedProcess {
    SeedProcess {
        pid,
        ppid,
        start_time_ns: Who::new(pid, ppid).start_time_ns,
        exe: exe.to_owned(),
        argv: ARGV.iter().collect(),
        cwd: "/srv".to_owned(),
        comm: "nginx".to_owned(),
        cgroup: CGROUP.to_owned(),
        cgroup_id: 1,
        ..SeedProcess::default()
    }
}

const HOSTNAME: &str = "web-1.example.net";
const CGROUP: &str = "/system.slice/web.service";
const SERVER_PID: u32 = 10;
const SERVICES: u32 = 300;
const ARGV: [&str; 5] =
    ["/usr/sbin/nginx", "-c", "/etc/nginx/nginx.conf", "-g", "daemon on; master_process on;"];
const O_CREAT_WRONLY: u32 = 0o101;
const ITEMS_SHARED: u64 = 100;
const SPOOL_BYTES_MAX: u64 = 64 << 20;
/// The keeper is told to commit and not asked whether it is time, so one moment does.
const NOW: Clock = Clock { monotonic: Duration::ZERO, unix_ns: 0 };

criterion_group!(benches, decode, enrich, encode, spool_append);
criterion_main!(benches);
