//! Tests of the decoder: total over any bytes, exact on records made here. Not of the kernel side, which the agent's
//! native tests cover. It may call the crate's public interface.

use proptest::prelude::{any, prop};
use proptest::{prop_assert, prop_assert_eq, proptest};
use sensor_event::{
    Address, COUNTERS_LEN, Counter, DecodeError, ExecBody, ExecFlags, ExitBody, FIELDS, Family, FileBody,
    FileFlags, ForkBody, Header, Kind, LossReason, PathFlags, PathRef, RECORD_BYTES_MAX, RECORD_VERSION,
    RecordBody, RenameBody, SocketBody, Tier, UnlinkBody, counter_index, decode,
};
use std::collections::BTreeSet;
use zerocopy::{FromZeros, Immutable, IntoBytes};

fn record(kind: Kind, body: &(impl IntoBytes + Immutable), tail: &[u8]) -> Vec<u8> {
    let mut header = Header::new_zeroed();
    header.kind = kind;
    header.version = RECORD_VERSION;
    header.tier = Tier::TRACEPOINT;
    header.time_ns = 7;
    header.len = (size_of::<Header>() + body.as_bytes().len() + tail.len()) as u32;
    [header.as_bytes(), body.as_bytes(), tail].concat()
}

fn path(len: usize, flags: PathFlags) -> PathRef {
    PathRef { len: len as u16, flags, ..PathRef::default() }
}

fn exec() -> Vec<u8> {
    let body = ExecBody {
        inode: 1,
        dev: 2,
        mode: 0o100_755,
        flags: ExecFlags::SCRIPT,
        argc: 2,
        exe: path(11, PathFlags::default()),
        cwd: path(0, PathFlags::default()),
        cgroup: path(10, PathFlags::default()),
        filename_len: 2,
        interpreter_len: 3,
        argv_len: 4,
        reserved: 0,
    };
    record(Kind::EXEC, &body, b"sh\0bin\0usr\0a.service\0./iiia\0b\0")
}

fn file() -> Vec<u8> {
    let body = FileBody {
        inode: 1,
        dev: 2,
        mode: 3,
        open_flags: 4,
        flags: FileFlags::CREATED,
        path: path(4, PathFlags::DELETED),
    };
    record(Kind::FILE_OPEN, &body, b"f\0d\0")
}

fn unlink() -> Vec<u8> {
    let body = UnlinkBody {
        base: path(2, PathFlags::default()),
        name: path(3, PathFlags::CALLER),
        result: 2,
        flags: FileFlags::DIRECTORY,
    };
    record(Kind::FILE_UNLINK, &body, b"d\0a/b")
}

fn rename() -> Vec<u8> {
    let caller = PathFlags::CALLER;
    let body = RenameBody {
        old_base: path(0, PathFlags::default()),
        old_name: path(2, caller),
        new_base: path(2, PathFlags::default()),
        new_name: path(1, caller),
        result: 0,
        rename_flags: 1,
    };
    record(Kind::FILE_RENAME, &body, b"/ad\0b")
}

fn socket(kind: Kind) -> Vec<u8> {
    let body = SocketBody {
        socket: 1,
        source: Address([0; 16]),
        destination: Address([1; 16]),
        source_port: 2,
        destination_port: 3,
        family: Family::INET6,
        protocol: 6,
        result: 111,
        reserved: 0,
    };
    record(kind, &body, b"")
}

fn fork() -> Vec<u8> {
    let body = ForkBody {
        child_start_time_ns: 1,
        child_parent_start_time_ns: 2,
        child_cgroup_id: 3,
        child_pid: 4,
        child_ppid: 5,
    };
    record(Kind::FORK, &body, b"")
}

fn exit() -> Vec<u8> {
    record(Kind::EXIT, &ExitBody { wait_status: 256, reserved: 0 }, b"")
}

/// One of each kind.
fn samples() -> Vec<Vec<u8>> {
    let sockets = [Kind::CONNECT, Kind::CONNECT_RESULT, Kind::LISTEN].map(socket);
    [exec(), fork(), exit(), file(), unlink(), rename()].into_iter().chain(sockets).collect()
}

#[test]
fn sections_come_apart_as_they_were_put_together() {
    let bytes = exec();
    let RecordBody::Exec(exec) = decode(&bytes).expect("it is an exec").body else { panic!("not an exec") };
    assert_eq!(exec.exe.leaf_first().collect::<Vec<_>>(), [&b"sh"[..], b"bin", b"usr"]);
    assert_eq!(exec.cwd.leaf_first().count(), 0);
    assert_eq!(exec.cgroup.leaf_first().collect::<Vec<_>>(), [b"a.service"]);
    assert_eq!((exec.filename, exec.interpreter, exec.argv), (&b"./"[..], &b"iii"[..], &b"a\0b\0"[..]));
    assert_eq!(exec.exe.caller(), None);

    let bytes = unlink();
    let RecordBody::Unlink(unlink) = decode(&bytes).expect("it is an unlink").body else {
        panic!("not an unlink")
    };
    assert_eq!((unlink.base.leaf_first().count(), unlink.name.caller()), (1, Some(&b"a/b"[..])));
    assert_eq!(unlink.name.leaf_first().count(), 0, "a caller's name has no walked components");

    let bytes = rename();
    let RecordBody::Rename(rename) = decode(&bytes).expect("it is a rename").body else {
        panic!("not a rename")
    };
    assert_eq!((rename.old_name.caller(), rename.new_name.caller()), (Some(&b"/a"[..]), Some(&b"b"[..])));
    assert_eq!(rename.new_base.leaf_first().collect::<Vec<_>>(), [b"d"]);
}

#[test]
fn every_kind_has_a_body_and_a_row_of_counters() {
    let kinds: BTreeSet<Kind> =
        samples().iter().map(|bytes| decode(bytes).expect("a sample decodes").header.kind).collect();
    assert!(kinds.iter().copied().eq(Kind::ALL));
    let mut cells = BTreeSet::new();
    for kind in Kind::ALL {
        let lost = LossReason::ALL.map(Counter::Lost);
        for counter in [Counter::Seen, Counter::Submitted].into_iter().chain(lost) {
            assert!(
                cells.insert(counter_index(kind, counter)),
                "{} {counter:?} shares its cell",
                kind.name()
            );
        }
    }
    assert!(cells.last().is_some_and(|cell| *cell < COUNTERS_LEN));
}

#[test]
fn cut_record_is_refused_at_every_length() {
    for sample in samples() {
        for len in 0..sample.len() {
            assert!(decode(&sample[..len]).is_err(), "{len} of {} bytes", sample.len());
            let mut shorter = sample[..len].to_vec();
            if let Some(stated) = shorter.get_mut(..4) {
                stated.copy_from_slice(&(len as u32).to_ne_bytes());
            }
            assert!(decode(&shorter).is_err(), "{len} of {} bytes, stated", sample.len());
        }
    }
}

#[test]
fn long_record_is_refused() {
    for mut sample in samples() {
        sample.push(0);
        let (stated, found) = (sample.len() - 1, sample.len());
        assert_eq!(decode(&sample), Err(DecodeError::Length { stated, found }));
        sample[..4].copy_from_slice(&(found as u32).to_ne_bytes());
        assert!(matches!(decode(&sample), Err(DecodeError::Tail { .. })));
    }
    let huge = vec![0xff; RECORD_BYTES_MAX + 1];
    assert!(matches!(decode(&huge), Err(DecodeError::Length { .. })));
}

#[test]
fn other_version_is_refused_and_other_kind_is_a_value() {
    let mut sample = exit();
    sample[std::mem::offset_of!(Header, kind)] = 200;
    assert_eq!(decode(&sample).expect("it decodes").body, RecordBody::Unknown(Kind(200)));
    sample[std::mem::offset_of!(Header, version)] = RECORD_VERSION + 1;
    assert_eq!(decode(&sample), Err(DecodeError::Version(RECORD_VERSION + 1)));
}

#[test]
fn fields_have_names_of_their_own_and_paths_that_can_be_walked() {
    let names: BTreeSet<&str> = FIELDS.iter().map(|field| field.global).collect();
    assert_eq!(names.len(), FIELDS.len());
    for field in FIELDS {
        for path in field.paths {
            assert!(path.split('.').count() >= 2 && path.split('.').all(|part| !part.is_empty()), "{path}");
        }
    }
}

proptest! {
    #[test]
    fn any_bytes_decode_or_are_refused(bytes in prop::collection::vec(any::<u8>(), 0..400)) {
        prop_assert!(decode(&bytes).is_err() || bytes.len() >= size_of::<Header>());
    }

    #[test]
    fn damaged_record_never_panics(
        which in 0..9usize,
        damage in prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8),
    ) {
        let mut bytes = samples().swap_remove(which);
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        let len = bytes.len();
        bytes[..4].copy_from_slice(&(len as u32).to_ne_bytes());
        match decode(&bytes).map(|record| record.body) {
            Ok(RecordBody::Exec(exec)) => {
                let components: usize = exec.exe.leaf_first().map(<[u8]>::len).sum();
                prop_assert!(components <= usize::from(exec.body.exe.len));
            }
            Ok(RecordBody::Unlink(unlink)) => {
                prop_assert_eq!(unlink.base.bytes.len() + unlink.name.bytes.len(), len - size_of::<Header>() - size_of::<UnlinkBody>());
            }
            _ => {}
        }
    }
}
