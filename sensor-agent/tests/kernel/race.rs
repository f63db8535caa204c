//! A thread rewrites the path or the socket address in the caller's memory while another thread's call runs: no record
//! may show what the kernel did not use. Not about the order of records. Skips where loading is not permitted. It may
//! call the agent's kernel module.
//!
//! The oracle is independent of what is tested: after each call the caller asks the kernel what the call did (`fstat` of
//! the descriptor, `getpeername` of the socket, who received the datagram, which name is gone), and writes it down,
//! with what the caller's memory holds then. The test compares the records one by one with the former. The same
//! comparison with the latter shows that it can fail: an agent that reads the caller's memory would be wrong so often.

use crate::raw_race::{self, RacingAddress, RacingName};
use crate::support::{Capture, Folder, actor};
use nix::libc;
use nix::sys::socket::{setsockopt, sockopt};
use sensor_agent::kernel::{HookState, HookStatus};
use sensor_event::{Header, Kind, LossReason, Part, PathFlags, PathSection, RecordBody, SocketBody};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::net::{Ipv4Addr, SocketAddr, SocketAddrV4, TcpListener, TcpStream, UdpSocket};
use std::os::fd::OwnedFd;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

/// What one call takes at most, on an emulated CPU that is not alone.
const ROUND_MAX: Duration = Duration::from_millis(5);

/// Calls of each kind, unless [`ROUNDS_VARIABLE`] says otherwise.
const ROUNDS: u32 = 100_000;

/// Overrides [`ROUNDS`], for machines that are emulated.
const ROUNDS_VARIABLE: &str = "SENSOR_TEST_ROUNDS";

/// How often as many calls are made at most, for one in which the caller's memory was rewritten in time.
const PATIENCE: usize = 10;

/// The names that are rewritten into one another: they differ in their last byte.
const NAMES: [&str; 2] = ["source-a", "source-b"];
const NEW_NAMES: [&str; 2] = ["target-c", "target-d"];

/// Where the actor writes down what the calls did: a line a call, what the kernel did and what the memory said.
const ROUNDS_FILE: &str = "rounds";

fn rounds() -> u32 {
    match std::env::var(ROUNDS_VARIABLE) {
        Ok(text) => text.parse().expect("SENSOR_TEST_ROUNDS is a number"),
        Err(_) => ROUNDS,
    }
}

/// What the calls did by the kernel's own word, and what the caller's memory said when they were done.
struct Rounds {
    pid: u32,
    truth: Vec<String>,
    memory: Vec<String>,
}

fn play(capture: &mut Capture, action: &str, folder: &Folder) -> Rounds {
    let mut child = actor(action, &folder.path).spawn().expect("the actor starts");
    let pid = child.id();
    capture.deadline += ROUND_MAX * rounds();
    capture.wait_for_exit(pid);
    assert!(child.wait().expect("the actor ends").success(), "{action}");
    let text = fs::read_to_string(folder.join(ROUNDS_FILE)).expect("the actor has written its rounds");
    let (truth, memory) = text
        .lines()
        .map(|line| line.split_once(' ').expect("two words"))
        .map(|(truth, memory)| (truth.to_owned(), memory.to_owned()))
        .unzip();
    let rounds = Rounds { pid, truth, memory };
    assert!(rounds.truth.len() >= self::rounds() as usize, "{action}");
    rounds
}

/// How long a datagram over loopback may take.
const DELIVERY_MAX: Duration = Duration::from_secs(10);

/// How often a word differs from the truth, call by call.
fn wrong(truth: &[String], claims: &[String], losses: &str) -> usize {
    assert_eq!(truth.len(), claims.len(), "one record a call, and none is lost: {losses}");
    truth.iter().zip(claims).filter(|(truth, claim)| truth != claim).count()
}

/// Compares records with the truth; `is_callers_word` says that the records claim no more than what memory said.
fn judge(capture: &Capture, part: Part, rounds: &Rounds, claims: &[String], is_callers_word: bool) {
    let losses = format!("{:?}", capture.counters().losses().collect::<Vec<_>>());
    let (wrong_records, wrong_memory) =
        (wrong(&rounds.truth, claims, &losses), wrong(&rounds.truth, &rounds.memory, &losses));
    println!(
        "race: {}: {} calls; the caller's memory was wrong {wrong_memory} times, records {wrong_records} times{}",
        part.name(),
        claims.len(),
        if is_callers_word { ", each marked as the caller's word" } else { "" }
    );
    if std::thread::available_parallelism().is_ok_and(|processors| processors.get() > 1) {
        assert!(wrong_memory > 0, "nothing was rewritten in time: this run shows nothing");
    }
    if is_callers_word {
        return;
    }
    let first = rounds.truth.iter().zip(claims).find(|(truth, claim)| truth != claim);
    assert_eq!(wrong_records, 0, "for example {first:?}");
    let what = format!("{} calls while a thread rewrites their argument: what the kernel used", claims.len());
    let hook = hook(capture, part).expect("its records were there");
    crate::support::cell(part.kind(), hook.tier, &hook.hook, &what);
}

/// The hook that a part got, if it got one.
fn hook(capture: &Capture, part: Part) -> Option<&HookStatus> {
    capture.kernel.hooks().iter().find(|hook| hook.event == part.name() && hook.state == HookState::Attached)
}

/// Whether this kernel, tier and build have a hook for the part; says so if not.
fn is_hooked(capture: &Capture, part: Part) -> bool {
    let is_hooked = hook(capture, part).is_some();
    if !is_hooked {
        println!("race: {}: no hook here", part.name());
    }
    is_hooked
}

/// What each record of `pid` claims, in order.
fn claims(
    capture: &Capture,
    pid: u32,
    claim: impl Fn(&Header, &RecordBody<'_>) -> Option<String>,
) -> Vec<String> {
    capture.all(|header, body| (header.pid == pid).then(|| claim(header, body)).flatten())
}

#[test]
fn an_open_names_the_file_that_was_opened() {
    let Some(mut capture) = Capture::start_alone() else { return };
    let folder = Folder::new();
    for name in NAMES {
        fs::write(folder.join(name), "").expect("writable");
    }
    let rounds = play(&mut capture, "race/open", &folder);
    let names = BTreeMap::from(NAMES.map(|name| (absolute_text(&folder, name), name)));
    let claims = claims(&capture, rounds.pid, |_, body| match body {
        RecordBody::FileOpen(open) => {
            let path = walked_text(open.path);
            // The actor's own record of its rounds is not one of them.
            (!path.ends_with(ROUNDS_FILE)).then(|| match names.get(&path) {
                Some(name) => format!("{name}:{}", open.body.inode),
                None => path,
            })
        }
        _ => None,
    });
    judge(&capture, Part::of(Kind::FILE_OPEN), &rounds, &claims, false);
}

#[test]
fn an_unlink_names_the_file_that_went() {
    let Some(mut capture) = Capture::start_alone() else { return };
    let folder = Folder::new();
    let rounds = play(&mut capture, "race/unlink", &folder);
    let (claims, are_callers): (Vec<_>, Vec<_>) = capture
        .all(|header, body| match body {
            RecordBody::Unlink(unlink) if header.pid == rounds.pid => Some(name_text(unlink.name)),
            _ => None,
        })
        .into_iter()
        .unzip();
    judge(
        &capture,
        Part::of(Kind::FILE_UNLINK),
        &rounds,
        &claims,
        is_callers_word(&capture, Kind::FILE_UNLINK, &are_callers),
    );
}

#[test]
fn a_rename_names_the_files_that_changed() {
    let Some(mut capture) = Capture::start_alone() else { return };
    let folder = Folder::new();
    let rounds = play(&mut capture, "race/rename", &folder);
    let (claims, are_callers): (Vec<_>, Vec<_>) = capture
        .all(|header, body| match body {
            RecordBody::Rename(rename) if header.pid == rounds.pid => {
                let ((old, is_callers), (new, _)) = (name_text(rename.old_name), name_text(rename.new_name));
                Some((format!("{old}>{new}"), is_callers))
            }
            _ => None,
        })
        .into_iter()
        .unzip();
    judge(
        &capture,
        Part::of(Kind::FILE_RENAME),
        &rounds,
        &claims,
        is_callers_word(&capture, Kind::FILE_RENAME, &are_callers),
    );
}

#[test]
fn a_connect_of_tcp_names_the_peer() {
    let Some(mut capture) = Capture::start_alone() else { return };
    let folder = Folder::new();
    let rounds = play(&mut capture, "race/connect-tcp", &folder);
    let claims = claims(&capture, rounds.pid, |_, body| match body {
        RecordBody::Connect(socket) => Some(peer_text(&socket.body)),
        _ => None,
    });
    judge(&capture, Part::of(Kind::CONNECT), &rounds, &claims, false);
    // Whose header a result has is chance, so it is found by its ports, which are nobody else's.
    let results = capture.all(|_, body| match body {
        RecordBody::ConnectResult(socket) => {
            Some(peer_text(&socket.body)).filter(|peer| rounds.truth.contains(peer))
        }
        _ => None,
    });
    // A kernel may skip the program for some changes of state, as that of a micro VM does in soft interrupts that its init
    // happens to take. Each of them is counted.
    let counters = capture.counters();
    let missed: u64 = [Kind::CONNECT, Kind::CONNECT_RESULT]
        .map(|kind| counters.lost(kind, LossReason::Missed))
        .into_iter()
        .sum();
    if missed > 0 {
        println!("race: connect_result: {} of {}, {missed} missed", results.len(), rounds.truth.len());
        return assert!(results.len() as u64 + missed >= rounds.truth.len() as u64, "uncounted losses");
    }
    judge(&capture, Part::of(Kind::CONNECT_RESULT), &rounds, &results, false);
}

#[test]
fn a_connect_of_udp_names_the_peer() {
    let Some(mut capture) = Capture::start_alone() else { return };
    if !is_hooked(&capture, Part::CONNECT_UDP) {
        return;
    }
    let folder = Folder::new();
    let rounds = play(&mut capture, "race/connect-udp", &folder);
    let claims = claims(&capture, rounds.pid, |_, body| match body {
        RecordBody::Connect(socket) => Some(peer_text(&socket.body)),
        _ => None,
    });
    judge(&capture, Part::CONNECT_UDP, &rounds, &claims, false);
}

#[test]
fn a_send_names_who_it_goes_to() {
    let Some(mut capture) = Capture::start_alone() else { return };
    if !is_hooked(&capture, Part::of(Kind::SEND)) {
        return;
    }
    let folder = Folder::new();
    let rounds = play(&mut capture, "race/send", &folder);
    let claims = claims(&capture, rounds.pid, |_, body| match body {
        RecordBody::Send(socket) => Some(peer_text(&socket.body)),
        _ => None,
    });
    judge(&capture, Part::of(Kind::SEND), &rounds, &claims, false);
}

/// Whether the records of this kind are the caller's word: all of them in the tracepoint tier, none in a better one.
fn is_callers_word(capture: &Capture, kind: Kind, are_callers: &[bool]) -> bool {
    let hook = capture
        .kernel
        .hooks()
        .iter()
        .find(|hook| hook.event == kind.name())
        .expect("a hook that is required");
    let is_expected = hook.tier == "tracepoint";
    assert!(
        are_callers.iter().all(|is_callers| *is_callers == is_expected),
        "{}: {}",
        kind.name(),
        hook.tier
    );
    is_expected
}

/// A name, and whether it is the caller's word.
fn name_text(name: PathSection<'_>) -> (String, bool) {
    match name.caller() {
        Some(bytes) => (String::from_utf8_lossy(bytes).into_owned(), true),
        None => (walked_text(name).trim_start_matches('/').to_owned(), false),
    }
}

fn walked_text(path: PathSection<'_>) -> String {
    assert!(!path.reference.flags.contains(PathFlags::CALLER), "an opened file is walked");
    String::from_utf8_lossy(&crate::support::absolute(path)).into_owned()
}

fn absolute_text(folder: &Folder, name: &str) -> String {
    folder.join(name).to_str().expect("temporary folders have plain names").to_owned()
}

fn peer_text(socket: &SocketBody) -> String {
    let [a, b, c, d, ..] = socket.destination.0;
    SocketAddrV4::new(Ipv4Addr::new(a, b, c, d), socket.destination_port).to_string()
}

/// What the actor of this module does.
pub(crate) fn act(action: &str, folder: &Path) {
    std::env::set_current_dir(folder).expect("the folder is there");
    let lines = match action {
        "open" => open(),
        "unlink" => unlink(),
        "rename" => rename(),
        "connect-tcp" => connect_tcp(),
        "connect-udp" => connect_udp(),
        "send" => send(),
        _ => panic!("no action {action}"),
    };
    fs::write(ROUNDS_FILE, lines.join("\n")).expect("writable");
}

/// Runs `round` as often as asked, while `rewrite` runs in another thread, with 0 and 1 in turn. On a machine so busy that
/// nothing was rewritten in time, it goes on until something is, at most [`PATIENCE`] times as long.
fn while_rewriting(rewrite: impl Fn(usize) + Sync, mut round: impl FnMut() -> String) -> Vec<String> {
    let is_over = AtomicBool::new(false);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                rewrite(0);
                rewrite(1);
            }
        });
        let is_missed = |line: &String| line.split_once(' ').is_some_and(|(truth, memory)| truth != memory);
        let mut lines: Vec<String> = (0..rounds()).map(|_| round()).collect();
        let lines_max = lines.len() * PATIENCE;
        let mut has_missed = lines.iter().any(is_missed);
        while !has_missed && lines.len() < lines_max {
            lines.push(round());
            has_missed = lines.last().is_some_and(is_missed);
        }
        is_over.store(true, Ordering::Relaxed);
        lines
    })
}

fn last_byte(name: &str) -> u8 {
    *name.as_bytes().last().expect("a name has bytes")
}

fn open() -> Vec<String> {
    let inodes = NAMES.map(|name| fs::metadata(name).expect("the test has written it").ino());
    let text = |index: usize| format!("{}:{}", NAMES[index], inodes[index]);
    let name = RacingName::new(NAMES[0]);
    while_rewriting(
        |index| name.set_last(last_byte(NAMES[index])),
        || {
            let file = File::from(raw_race::open_to_write(&name).expect("both files can be opened"));
            let memory = usize::from(name.now() != 'a');
            let inode = file.metadata().expect("an open file has metadata").ino();
            let truth = inodes.iter().position(|of| *of == inode).expect("one of the two files");
            format!("{} {}", text(truth), text(memory))
        },
    )
}

fn unlink() -> Vec<String> {
    // Names come back as links to another, which makes no record that could be taken for one of an unlink.
    fs::write("kept", "").expect("writable");
    let name = RacingName::new(NAMES[0]);
    for name in NAMES {
        fs::hard_link("kept", name).expect("the name is free");
    }
    while_rewriting(
        |index| name.set_last(last_byte(NAMES[index])),
        || {
            raw_race::unlink(&name).expect("both names are there");
            let memory = NAMES[usize::from(name.now() != 'a')];
            let truth = NAMES.into_iter().find(|name| !Path::new(name).exists()).expect("one name is gone");
            fs::hard_link("kept", truth).expect("the name is free");
            format!("{truth} {memory}")
        },
    )
}

fn rename() -> Vec<String> {
    fs::write("kept", "").expect("writable");
    for name in NAMES {
        // Two files: a rename of one link of a file to another of the same does nothing.
        fs::write(name, "").expect("writable");
    }
    let (old, new) = (RacingName::new(NAMES[0]), RacingName::new(NEW_NAMES[0]));
    while_rewriting(
        |index| {
            old.set_last(last_byte(NAMES[index]));
            new.set_last(last_byte(NEW_NAMES[index]));
        },
        || {
            raw_race::rename(&old, &new).expect("both names are there");
            let (old_byte, new_byte) = (old.now(), new.now());
            let memory = (NAMES[usize::from(old_byte != 'a')], NEW_NAMES[usize::from(new_byte != 'c')]);
            let truth = (
                NAMES.into_iter().find(|name| !Path::new(name).exists()).expect("one name is gone"),
                NEW_NAMES.into_iter().find(|name| Path::new(name).exists()).expect("one name has come"),
            );
            fs::hard_link(truth.1, truth.0).expect("the name is free");
            fs::remove_file(truth.1).expect("the name is there");
            format!("{}>{} {}>{}", truth.0, truth.1, memory.0, memory.1)
        },
    )
}

/// Addresses that are rewritten into one another: other addresses and other ports.
fn peers(ports: [u16; 2]) -> [SocketAddrV4; 2] {
    [
        SocketAddrV4::new(Ipv4Addr::LOCALHOST, ports[0]),
        SocketAddrV4::new(Ipv4Addr::new(127, 0, 0, 2), ports[1]),
    ]
}

fn connect_tcp() -> Vec<String> {
    let listeners: [TcpListener; 2] =
        [(); 2].map(|()| TcpListener::bind("0.0.0.0:0").expect("a port is free"));
    let ports = [0, 1].map(|at: usize| listeners[at].local_addr().expect("bound").port());
    let peers = peers(ports);
    let address = RacingAddress::new(peers[0]);
    while_rewriting(
        |index| address.set(peers[index]),
        || {
            let socket = raw_race::socket(libc::SOCK_STREAM).expect("a socket");
            raw_race::connect(&socket, &address).expect("both peers listen");
            let memory = address.now();
            let socket = TcpStream::from(socket);
            let truth = socket.peer_addr().expect("it is connected");
            let listener = usize::from(truth.port() != ports[0]);
            drop(listeners[listener].accept().expect("the connection has come"));
            // No port is kept waiting for late packets.
            let linger = libc::linger { l_onoff: 1, l_linger: 0 };
            setsockopt(&socket, sockopt::Linger, &linger).expect("a TCP socket can be told to reset");
            format!("{truth} {memory}")
        },
    )
}

fn connect_udp() -> Vec<String> {
    // Nobody needs to be there.
    let peers = peers([UDP_PORTS_UNUSED[0], UDP_PORTS_UNUSED[1]]);
    let address = RacingAddress::new(peers[0]);
    while_rewriting(
        |index| address.set(peers[index]),
        || {
            let socket = raw_race::socket(libc::SOCK_DGRAM).expect("a socket");
            raw_race::connect(&socket, &address).expect("a UDP socket connects to anything");
            let memory = address.now();
            let truth = UdpSocket::from(socket).peer_addr().expect("it is connected");
            format!("{truth} {memory}")
        },
    )
}

fn send() -> Vec<String> {
    let receivers = bound_receivers();
    let addresses = receivers.each_ref().map(|receiver| match receiver.local_addr().expect("bound") {
        SocketAddr::V4(address) => address,
        SocketAddr::V6(_) => unreachable!("bound to IPv4"),
    });
    let address = RacingAddress::new(addresses[0]);
    while_rewriting(
        |index| address.set(addresses[index]),
        || {
            let socket: OwnedFd = raw_race::socket(libc::SOCK_DGRAM).expect("a socket");
            raw_race::send_to(&socket, &address).expect("both peers are there");
            let memory = address.now();
            // Loopback delivers before the call returns, unless the processor is too busy.
            let since = Instant::now();
            let truth = loop {
                let has_it = |receiver: &UdpSocket| receiver.recv(&mut [0; 8]).is_ok();
                match receivers.iter().position(has_it) {
                    Some(truth) => break truth,
                    None => assert!(since.elapsed() < DELIVERY_MAX, "neither of the two has it"),
                }
            };
            format!("{} {memory}", addresses[truth])
        },
    )
}

fn bound_receivers() -> [UdpSocket; 2] {
    ["127.0.0.1:0", "127.0.0.2:0"].map(|address| {
        let receiver = UdpSocket::bind(address).expect("a port is free");
        receiver.set_nonblocking(true).expect("a socket can be made not to wait");
        receiver
    })
}

/// Ports of UDP that a connect names; nothing is sent there.
const UDP_PORTS_UNUSED: [u16; 2] = [9, 10];
