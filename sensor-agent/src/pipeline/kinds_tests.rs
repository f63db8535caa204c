//! The kinds that came after programs, TCP and opens, through the whole pipeline. Not the stages' own tests. It may call
//! the pipeline's public functions and the record fixture.

use super::tests::{behaviours, feed, host, nginx};
use crate::record_fixture::Who;
use crate::record_fixture::kinds::ids;
use sensor_event::{FileFlags, Kind};

const WEB: &str = "unit:web.service /usr/sbin/nginx";

fn doings(records: &[Vec<u8>]) -> Vec<String> {
    let behaviours = behaviours(&feed(&mut host(), records));
    behaviours.iter().map(|text| text.trim_start_matches(WEB).trim_start().to_owned()).collect()
}

#[test]
fn only_traffic_is_a_udp_behaviour() {
    let who = nginx();
    assert_eq!(
        doings(&[
            who.udp(Kind::CONNECT, 53, 0),
            who.udp(Kind::SEND, 53, 0),
            who.udp(Kind::SEND, 0, 22),
            who.unix(Kind::CONNECT, "/run/docker.sock", 0),
            who.unix(Kind::LISTEN, "/run/x.sock", 0),
            who.packet_socket(0),
            who.accept(80),
        ]),
        ["connect udp 192.0.2.7 53"]
    );
}

#[test]
fn a_servers_answers_are_no_behaviour() {
    let send = |source: u16, destination: u16| {
        let mut record = nginx().udp(Kind::SEND, destination, 0);
        let at =
            size_of::<sensor_event::Header>() + std::mem::offset_of!(sensor_event::SocketBody, source_port);
        record[at..at + 2].copy_from_slice(&source.to_ne_bytes());
        record
    };
    assert_eq!(
        doings(&[send(53, 40_001), send(123, 123), send(5353, 40_002), send(0, 40_003)]),
        ["connect udp 192.0.2.7 123", "connect udp 192.0.2.7 40002", "connect udp 192.0.2.7 40003"]
    );
}

#[test]
fn names_that_are_made_and_files_that_are_cut_are_written() {
    let who = nginx();
    let name = |kind, path, result| who.name(kind, path, 0o755, ["t", ""], result);
    assert_eq!(
        doings(&[
            name(Kind::FILE_TRUNCATE, "/srv/a", 0),
            name(Kind::FILE_TRUNCATE, "/srv/b", 13),
            name(Kind::FILE_MKDIR, "/srv/d", 0),
            name(Kind::FILE_MKDIR, "/srv/d", 17),
            name(Kind::FILE_SYMLINK, "/srv/s", 0),
            who.two_names(Kind::FILE_LINK, "/srv/a", "/srv/a", "/srv/h", 0),
            name(Kind::FILE_CHMOD, "/srv/a", 0),
            name(Kind::FILE_CHOWN, "/srv/a", 0),
            name(Kind::FILE_SETXATTR, "/srv/a", 0),
            name(Kind::MOUNT, "/mnt", 0),
            who.mapped(Kind::EXEC_MAP, "/usr/lib/x.so", 5),
            who.mapped(Kind::MEMFD, "/memfd:x", 0),
            who.failed_open("/etc/shadow", 13),
            who.open("/srv/r", 0, FileFlags::default()),
        ]),
        ["write /srv/a", "write /srv/d", "write /srv/s", "write /srv/h"]
    );
}

#[test]
fn names_below_a_private_folder_are_ephemeral() {
    let who = nginx();
    let mkdir = |path, mode| who.name(Kind::FILE_MKDIR, path, mode, ["", ""], 0);
    let out = feed(
        &mut host(),
        &[
            mkdir("/tmp/x1", 0o755),
            who.open("/tmp/x1/f", 1, FileFlags::CREATED),
            mkdir("/tmp/x2", 0o700),
            who.open("/tmp/x2/d/f", 1, FileFlags::CREATED),
            who.open("/tmp/x2f", 1, FileFlags::CREATED),
            who.unlink("/tmp/x2", "f", 0),
            who.rename("/tmp/x2/f", "/tmp/g", 0),
        ],
    );
    let ephemeral: Vec<bool> = out.observations.iter().map(|(seen, _)| seen.traits.ephemeral).collect();
    assert_eq!(ephemeral, [false, false, true, true, false, true, true]);
}

fn fresh(records: &[Vec<u8>]) -> bool {
    let out = feed(&mut host(), records);
    out.observations.last().unwrap().0.traits.executable_is_fresh
}

fn script(path: &str) -> Vec<u8> {
    Who::new(20, 10).exec_script("/bin/dash", path, &["x"])
}

#[test]
fn a_write_through_a_hard_link_makes_every_name_fresh() {
    let who = nginx();
    let link = who.two_names(Kind::FILE_LINK, "/srv/a.sh", "/srv/a.sh", "/tmp/b.sh", 0);
    let write = who.open("/tmp/b.sh", 1, FileFlags::default());
    assert!(fresh(&[link.clone(), write.clone(), script("/srv/a.sh")]), "written by the other name");
    assert!(fresh(&[link.clone(), write.clone(), script("/tmp/b.sh")]));
    assert!(!fresh(&[link.clone(), script("/srv/a.sh")]), "a link writes nothing");
    assert!(!fresh(&[link.clone(), write, script("/srv/c.sh")]));
    let made = who.open("/srv/a.sh", 0o101, FileFlags::CREATED);
    assert!(fresh(&[made, link.clone(), script("/tmp/b.sh")]), "the new name is as fresh as the old");
    let renamed = who.two_names(Kind::FILE_RENAME, "/srv/a.sh", "/tmp/b.sh", "/tmp/c.sh", 0);
    let write = who.open("/tmp/c.sh", 1, FileFlags::default());
    assert!(fresh(&[link, renamed, write, script("/srv/a.sh")]), "the renamed link is a name of it still");
}

#[test]
fn a_file_without_a_name_is_fresh_by_the_name_it_gets() {
    let who = nginx();
    let unnamed = who.open("/tmp/#77", 0o20_200_002, FileFlags::default());
    let link = who.two_names(Kind::FILE_LINK, "/tmp/#77", "/proc/self/fd/3", "/tmp/run.sh", 0);
    assert!(fresh(&[unnamed, link, script("/tmp/run.sh")]));
}

#[test]
fn exchanged_names_exchange_their_freshness() {
    let who = nginx();
    let made = who.open("/tmp/new.sh", 0o101, FileFlags::CREATED);
    let exchange = who.two_names(Kind::FILE_RENAME, "/tmp/new.sh", "/tmp/new.sh", "/srv/old.sh", 2);
    assert!(fresh(&[made.clone(), exchange.clone(), script("/srv/old.sh")]));
    assert!(!fresh(&[made.clone(), exchange, script("/tmp/new.sh")]));
    let plain = who.two_names(Kind::FILE_RENAME, "/tmp/new.sh", "/tmp/new.sh", "/srv/old.sh", 0);
    assert!(fresh(&[made, plain, script("/srv/old.sh")]));
}

#[test]
fn an_exec_tells_which_capabilities_it_gained() {
    let (who, child) = (nginx(), Who::new(20, 10));
    let gained = |records: &[Vec<u8>]| feed(&mut host(), records).events.last().unwrap().capabilities_gained;
    let user = who.creds(ids(0), ids(33), 0xff, 0x3);
    assert_eq!(gained(&[user.clone(), who.exec_gaining("/bin/su", 0xf)]), Some(0xc), "after a change of ids");
    assert_eq!(
        gained(&[user.clone(), who.fork(child), child.exec_gaining("/bin/su", 0x7)]),
        Some(0x4),
        "inherited"
    );
    assert_eq!(
        gained(&[who.exec_gaining("/bin/a", 0x1), who.exec_gaining("/bin/b", 0x3)]),
        Some(0x2),
        "after an exec"
    );
    assert_eq!(
        gained(&[who.found("/usr/sbin/nginx"), who.exec_gaining("/bin/b", 0x7f)]),
        Some(0x40),
        "as scanned"
    );
    assert_eq!(gained(&[Who::new(30, 31).exec_gaining("/bin/b", 0x3)]), None, "nothing is known from before");
}

#[test]
fn changed_ids_and_namespaces_are_those_of_the_events_that_follow() {
    let who = nginx();
    let out = feed(
        &mut host(),
        &[
            who.creds(ids(0), ids(33), 1, 1),
            who.unshare(0x2_0000, 4_026_532_000, 0),
            who.unshare(0x2_0000, 5, 1),
        ],
    );
    let facts: Vec<_> = out.events.iter().map(|event| event.process.clone().unwrap()).collect();
    assert_eq!((facts[0].uid, facts[0].euid, facts[0].gid), (33, 33, 33));
    assert_eq!(
        (facts[1].mnt_ns, facts[2].mnt_ns),
        (4_026_532_000, 0),
        "the header is newer, what failed is nothing"
    );
}

#[test]
fn a_process_that_is_reached_into_is_named() {
    let (who, child) = (nginx(), Who::new(20, 10));
    let reach = |target| who.reach(Kind::PTRACE, target, 16, 0);
    let out = feed(&mut host(), &[who.fork(child), reach(child), reach(Who::new(77, 1))]);
    let targets: Vec<_> =
        out.events[1..].iter().map(|event| event.target.as_ref().map(|facts| facts.pid)).collect();
    assert_eq!(targets, [Some(20), None]);
}

#[test]
fn the_kernels_scan_is_the_word_on_what_proc_had_told() {
    let mut pipeline = host();
    let exact = Who { start_time_ns: 10_000_777, ..nginx() };
    let out = feed(
        &mut pipeline,
        &[exact.found("/usr/sbin/nginx"), Who::new(50, 10).found("/usr/bin/new"), Who::new(2, 0).found("")],
    );
    let facts: Vec<_> = out.events.iter().map(|event| event.process.clone().unwrap()).collect();
    assert_eq!((facts[0].start_time_ns, facts[0].argv.len()), (10_000_777, 1), "arguments stay");
    assert_eq!(
        (facts[1].exe.as_str(), facts[1].cgroup.as_str()),
        ("/usr/bin/new", "/system.slice/web.service")
    );
    assert_eq!(facts[2].exe, "[kernel]");
    assert_eq!(pipeline.counters()["processes_unknown"], 0);
    let out = feed(&mut pipeline, &[Who::new(50, 10).listen(80)]);
    assert_eq!(behaviours(&out), ["unit:web.service /usr/bin/new listen tcp 127.0.0.1 80"]);
}
