//! Killed at any write: a child process appends and acknowledges as fast as it can and says what was accepted; it is
//! killed at arbitrary moments, and nothing that it said may be missing.

use sensor_agent::spool::{Content, Epoch, NewItem, Rank, Seq, Spool, SpoolOptions, Store};
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::Path;
use std::process::{Command, Stdio};

use crate::{EVERYTHING, ROOMY_BYTES, check_contiguous};

const CHILD: &str = "SENSOR_SPOOL_TEST_CHILD";
const ROUNDS: u64 = 25;
/// Items offered and not yet accepted, so that the queue never overflows.
const AHEAD_MAX: u64 = 500;

fn payload(seq: u64) -> String {
    format!("item {seq} {}", "x".repeat(usize::try_from(seq % 700).unwrap()))
}

/// Not a test of its own: the child of the one below.
#[test]
fn child_that_appends() {
    let Some(path) = std::env::var_os(CHILD) else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
    let spool = Spool::start(SpoolOptions { path: path.into(), bytes_max: ROOMY_BYTES }).unwrap();
    let (sender, reader) = (spool.sender(), spool.reader());
    let mut state = reader.state();
    let mut output = std::io::stdout();
    let mut next = state.borrow().holding.unwrap().last.0 + 1;
    loop {
        let holding = state.borrow_and_update().holding.unwrap();
        let accepted = holding.last.0;
        writeln!(output, "accepted {accepted}").unwrap();
        if accepted % 3 == 0 && accepted > 40 {
            let upto = accepted - 40;
            writeln!(output, "acking {upto}").unwrap();
            reader.acknowledge(holding.epoch, Seq(upto));
        }
        output.flush().unwrap();
        while next < accepted + AHEAD_MAX {
            // Some are urgent, so that commits of every size occur.
            let rank = Rank(if next % 50 == 0 { 5 } else { 2 });
            sender.append(NewItem {
                rank,
                time_ns: next,
                content: Content::Finding(payload(next).into_bytes()),
            });
            next += 1;
        }
        runtime.block_on(state.changed()).unwrap();
    }
}

/// What a child said before it was killed.
#[derive(Default)]
struct Said {
    accepted: u64,
    acking: u64,
}

fn run_child_and_kill_it(path: &Path, lines_before: u64) -> Said {
    let mut child = Command::new(std::env::current_exe().unwrap())
        .args(["kills::child_that_appends", "--exact", "--nocapture", "--test-threads=1"])
        .env(CHILD, path)
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    let output = BufReader::new(child.stdout.take().unwrap());
    let mut said = Said::default();
    let mut lines = 0;
    // The pipe still has what was said before the kill: all of it is read.
    for line in output.split(b'\n') {
        let line = String::from_utf8(line.unwrap()).unwrap();
        let number = |word: &str| line.split_once(word).and_then(|(_, number)| number.trim().parse().ok());
        if let Some(accepted) = number("accepted ") {
            said.accepted = accepted;
        }
        if let Some(acking) = number("acking ") {
            said.acking = acking;
        }
        lines += 1;
        if lines == lines_before {
            child.kill().unwrap();
        }
    }
    child.wait().unwrap();
    assert!(lines >= lines_before, "the child ended by itself");
    said
}

#[test]
fn every_accepted_item_survives_a_kill_at_any_write() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("spool.db");
    let mut acking = 0;
    let mut epoch: Option<Epoch> = None;
    for round in 0..ROUNDS {
        let said = run_child_and_kill_it(&path, 4 + round * 7 % 31);
        acking = acking.max(said.acking);
        let store = Store::open(&path, ROOMY_BYTES).expect("a kill damages nothing");
        let holding = store.holding();
        assert_eq!(*epoch.get_or_insert(holding.epoch), holding.epoch, "the numbering goes on");
        assert!(holding.last.0 >= said.accepted, "{} accepted, {} there", said.accepted, holding.last.0);
        assert!(holding.first.0 <= acking + 1, "only acknowledged items are gone");
        let items = store.read(holding.first, EVERYTHING).unwrap();
        check_contiguous(&items, holding.first, holding.last);
        for item in items {
            assert_eq!(item.content, Content::Finding(payload(item.seq.0).into_bytes()));
        }
    }
    assert!(acking > 0, "acks were among the writes");
}
