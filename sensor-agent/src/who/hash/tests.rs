//! Files of the test's own, hashed by name and through a process. Not how a file is found, which `program` tests. It
//! may call the parent module, and perl, which can take a lease.

use super::*;
use crate::enrich::process_table::TICK_NS;
use crate::enrich::seed::{kernel_dev, own_identity};
use nix::sys::stat::Mode;
use sensor_baseline::text::escape;
use std::os::unix::ffi::OsStrExt as _;
use std::path::Path;
use std::process::{Command, Stdio};

/// Of a program that was executed at the end of time, and so has not changed since.
fn wanted(path: &Path, identity: Identity) -> Wanted {
    let stat = nix::sys::stat::stat(path).unwrap();
    let file = FileId { dev: kernel_dev(stat.st_dev), inode: stat.st_ino };
    let key = HashKey { identity, file, is_named: true };
    Wanted { key, names: vec![escape(path.as_os_str().as_bytes())], ran: BootNs(u64::MAX) }
}

const END: Clock = Clock { now: UnixNs(u64::MAX), boot_to_unix_ns: 0 };

/// Asks, and reads as fast as the budget allows.
fn hash(hasher: &mut Hasher, wanted: &Wanted, clock: Clock) -> Hash {
    if let Some((_, hash)) = hasher.add(wanted, clock).pop() {
        return hash;
    }
    loop {
        let (never, begun) = (crossbeam_channel::never::<()>(), hasher.next_in().expect("there is a job"));
        // Nobody sends: this waits.
        let _timeout = never.recv_timeout(begun);
        if let Some((_, hash)) = hasher.step().pop() {
            return hash;
        }
    }
}

const NOBODY: Identity = Identity { pid: u32::MAX, start_time_ns: 1 };

#[test]
fn the_hash_is_that_of_the_file_and_is_read_once() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("abc");
    std::fs::write(&path, "abc").unwrap();
    let mut hasher = Hasher::default();
    // FIPS 180-2, appendix B.1.
    let expected = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
    let program = wanted(&path, NOBODY);
    assert_eq!(hash(&mut hasher, &program, END).as_deref(), Ok(expected));
    let read = hasher.bytes_read();
    assert_eq!(hash(&mut hasher, &program, END).as_deref(), Ok(expected));
    assert_eq!((read, hasher.bytes_read()), (3, 3));
    std::fs::write(&path, "abcd").unwrap();
    assert_ne!(hash(&mut hasher, &program, END).as_deref(), Ok(expected), "same inode");
}

#[test]
fn another_file_under_the_name_is_not_hashed() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("program");
    std::fs::write(&path, "one").unwrap();
    let program = wanted(&path, NOBODY);
    std::fs::write(folder.path().join("other"), "two").unwrap();
    std::fs::rename(folder.path().join("other"), &path).unwrap();
    assert_eq!(hash(&mut Hasher::default(), &program, END), Err(NoHash::Gone));
}

#[test]
fn a_file_that_may_have_changed_after_the_program_ran_is_not_hashed_by_name() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("program");
    std::fs::write(&path, "one").unwrap();
    let stat = nix::sys::stat::stat(&path).unwrap();
    let changed = stat.st_ctime.unsigned_abs() * 1_000_000_000 + stat.st_ctime_nsec.unsigned_abs();
    let check = |ran: u64, expected: Option<NoHash>| {
        // An offset of one second between the clocks.
        let program = Wanted { ran: BootNs(ran - 1_000_000_000), ..wanted(&path, NOBODY) };
        let clock = Clock { boot_to_unix_ns: 1_000_000_000, ..END };
        assert_eq!(hash(&mut Hasher::default(), &program, clock).err(), expected, "{ran}");
    };
    check(1_000_000_000_000_000_000, Some(NoHash::Changed));
    check(changed, Some(NoHash::Changed));
    check(changed + 10_000_000, Some(NoHash::Changed));
    check(changed + 10_000_001, None);
}

#[test]
fn a_running_program_is_found_without_its_name() {
    let (own, exe) = (own_identity().unwrap(), std::env::current_exe().unwrap());
    let mut hasher = Hasher::default();
    let expected = hash(&mut Hasher::default(), &wanted(&exe, NOBODY), END).unwrap();
    let unnamed = Wanted { names: Vec::new(), ..wanted(&exe, own) };
    assert_eq!(hash(&mut hasher, &unnamed, END), Ok(expected));
    let reused = Identity { start_time_ns: own.start_time_ns + TICK_NS, ..own };
    let another = Wanted { names: Vec::new(), ..wanted(&exe, reused) };
    assert_eq!(hash(&mut hasher, &another, END), Err(NoHash::Gone), "another process of that pid");
}

/// The clock stands where nothing has settled yet: as if the program had been built, executed and hashed at once.
#[test]
fn a_program_that_was_just_built_has_a_hash_while_it_runs_and_it_is_not_kept() {
    let (own, exe) = (own_identity().unwrap(), std::env::current_exe().unwrap());
    let just_built = Clock { now: UnixNs(1), boot_to_unix_ns: 0 };
    let running = Wanted { names: Vec::new(), ran: BootNs(1), ..wanted(&exe, own) };
    let mut hasher = Hasher::new(FILE_BYTES_MAX, u64::MAX);
    hash(&mut hasher, &running, just_built).unwrap();
    let read = hasher.bytes_read();
    hash(&mut hasher, &running, just_built).unwrap();
    assert_eq!(hasher.bytes_read(), 2 * read, "what may have been overwritten since is read again");
    let ended = Wanted { ran: BootNs(1), ..wanted(&exe, NOBODY) };
    assert_eq!(hash(&mut hasher, &ended, just_built), Err(NoHash::Changed));
}

#[test]
fn what_is_read_right_after_a_change_counts_only_if_it_still_runs() {
    let path = Path::new("/bin/sleep");
    let mut child = Command::new(path).arg("1000").spawn().unwrap();
    let pid = child.id();
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    let ticks: u64 =
        stat.rsplit_once(')').unwrap().1.split_ascii_whitespace().nth(19).unwrap().parse().unwrap();
    let identity = Identity { pid, start_time_ns: ticks * TICK_NS };
    let just_built = Clock { now: UnixNs(1), boot_to_unix_ns: 0 };
    let mut hasher = Hasher::new(FILE_BYTES_MAX, u64::MAX);
    assert_eq!(hasher.add(&Wanted { names: Vec::new(), ..wanted(path, identity) }, just_built), []);
    child.kill().unwrap();
    child.wait().unwrap();
    let mut answers = Vec::new();
    while hasher.next_in().is_some() {
        answers.extend(hasher.step());
    }
    assert_eq!(answers[0].1, Err(NoHash::Changed));
}

#[test]
fn a_large_file_and_a_pipe_have_none() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("large");
    std::fs::write(&path, "12345").unwrap();
    let mut hasher = Hasher::new(4, BYTES_PER_SECOND);
    assert_eq!(hash(&mut hasher, &wanted(&path, NOBODY), END), Err(NoHash::TooLarge));
    let pipe = folder.path().join("pipe");
    nix::unistd::mkfifo(&pipe, Mode::S_IRUSR).unwrap();
    assert_eq!(hash(&mut hasher, &wanted(&pipe, NOBODY), END), Err(NoHash::Gone));
}

#[test]
fn a_lease_on_a_program_holds_nothing_up() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("leased");
    std::fs::write(&path, "leased").unwrap();
    // F_SETLEASE is 1024, F_WRLCK 1. Perl ends with its input.
    let script = "$SIG{IO} = 'IGNORE'; $| = 1; open(F, '+<', $ARGV[0]) or die; \
                  fcntl(F, 1024, 1) or die \"$!\"; print \"x\"; <STDIN>";
    let perl = Command::new("perl")
        .args(["-e", script])
        .arg(&path)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn();
    let Ok(mut perl) = perl else {
        println!("skipped: perl is not installed");
        return;
    };
    let mut byte = [0];
    if perl.stdout.take().unwrap().read(&mut byte).unwrap() == 0 {
        println!("skipped: this file system gives no leases");
        return;
    }
    let begun = Instant::now();
    let hash = hash(&mut Hasher::default(), &wanted(&path, NOBODY), END);
    perl.wait().unwrap();
    assert_eq!(hash, Err(NoHash::Unreadable));
    assert!(begun.elapsed() < Duration::from_secs(10), "{:?}", begun.elapsed());
}

#[test]
fn reading_takes_as_long_as_the_budget_says() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("x");
    std::fs::write(&path, vec![7; 50_000]).unwrap();
    let mut hasher = Hasher::new(FILE_BYTES_MAX, 500_000);
    let begun = Instant::now();
    hash(&mut hasher, &wanted(&path, NOBODY), END).unwrap();
    assert!(begun.elapsed() >= Duration::from_millis(90), "{:?}", begun.elapsed());
}

#[test]
fn a_small_program_overtakes_a_large_one_and_one_reading_serves_all() {
    let folder = tempfile::tempdir().unwrap();
    let (large, small) = (folder.path().join("large"), folder.path().join("small"));
    std::fs::write(&large, vec![7; 4 * CHUNK_BYTES]).unwrap();
    std::fs::write(&small, "small").unwrap();
    let mut hasher = Hasher::default();
    let another = Identity { pid: u32::MAX - 1, ..NOBODY };
    for identity in [NOBODY, another] {
        assert_eq!(hasher.add(&wanted(&large, identity), END), []);
    }
    assert!(hasher.step().is_empty());
    assert_eq!(hasher.add(&wanted(&small, NOBODY), END), []);
    // Gone by name, and still open.
    std::fs::remove_file(&small).unwrap();
    let mut order = Vec::new();
    while hasher.next_in().is_some() {
        order.extend(hasher.step().into_iter().map(|(key, hash)| (key, hash.is_ok())));
    }
    let expected = [NOBODY, another].map(|identity| (wanted(&large, identity).key, true));
    assert_eq!(order.len(), 3);
    assert_eq!((order[0].1, &order[1..]), (false, &expected[..]), "what was unlinked meanwhile has changed");
    assert_eq!(hasher.bytes_read(), 4 * CHUNK_BYTES as u64 + 5);
}

/// A hasher that has no room: with files of 1000 bytes and more, the last the largest, asked for at `now`.
fn full_hasher(folder: &Path, now: UnixNs, identity: Identity) -> Hasher {
    let mut hasher = Hasher::default();
    for number in 0..JOBS_MAX {
        let path = folder.join(format!("large{number}"));
        std::fs::File::create(&path).unwrap().set_len(1_000 + number as u64).unwrap();
        // Nobody runs them: they are found by name.
        assert_eq!(hasher.add(&wanted(&path, identity), Clock { now, ..END }), [], "{number}");
    }
    hasher
}

#[test]
fn many_large_programs_keep_no_small_one_out() {
    let folder = tempfile::tempdir().unwrap();
    let now = UnixNs(u64::MAX / 2);
    let mut hasher = full_hasher(folder.path(), now, NOBODY);
    let clock = Clock { now, ..END };
    let path = folder.path().join("next");
    std::fs::write(&path, vec![0; 5_000]).unwrap();
    let next = wanted(&path, NOBODY);
    assert_eq!(hasher.add(&next, clock), [(next.key.clone(), Err(NoHash::Refused))], "larger than all");
    std::fs::write(&path, "small").unwrap();
    let largest = wanted(&folder.path().join(format!("large{}", JOBS_MAX - 1)), NOBODY);
    assert_eq!(hasher.add(&next, clock), [(largest.key, Err(NoHash::Refused))]);
    let first = hasher.step().pop().or_else(|| hasher.step().pop()).unwrap();
    assert_eq!((first.0, first.1.is_ok()), (next.key, true));
}

#[test]
fn what_nobody_waits_for_makes_room() {
    let folder = tempfile::tempdir().unwrap();
    let (asked, own) = (UnixNs(u64::MAX / 2), own_identity().unwrap());
    let later = Clock { now: UnixNs(asked.0 + WAIT_NS + 1), ..END };
    let path = folder.path().join("larger than all");
    std::fs::write(&path, vec![0; 5_000]).unwrap();
    let next = wanted(&path, NOBODY);
    let displaced = full_hasher(folder.path(), asked, NOBODY).add(&next, later);
    assert_eq!(displaced.len(), JOBS_MAX, "all of them have ended");
    assert!(displaced.iter().all(|(_, hash)| *hash == Err(NoHash::Late)));
    let refused = full_hasher(folder.path(), asked, own).add(&next, later);
    assert_eq!(refused, [(next.key, Err(NoHash::Refused))], "those that run may be asked for again");
}
