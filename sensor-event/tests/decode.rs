//! Tests of the decoder: total over any bytes, exact on records made here. Not of the kernel side, which the agent's
//! native tests cover. It may call the crate's public interface.

use proptest::prelude::{any, prop};
use proptest::{prop_assert, prop_assert_eq, proptest};
use sensor_event::{
    COUNTERS_LEN, CgroupBody, Counter, CredsBody, DecodeError, ExecBody, ExecFlags, ExitBody, FIELDS,
    FileBody, FileFlags, ForkBody, Header, Kind, LossReason, ModuleBody, NameBody, NamespaceBody, PathFlags,
    PathRef, RECORD_BYTES_MAX, RECORD_VERSION, RecordBody, RenameBody, SocketBody, TargetBody, Tier,
    counter_index, decode,
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

fn exec(kind: Kind) -> Vec<u8> {
    let body = ExecBody {
        flags: ExecFlags::SCRIPT,
        argc: 2,
        exe: path(11, PathFlags::default()),
        cgroup: path(10, PathFlags::default()),
        filename_len: 2,
        interpreter_len: 3,
        argv_len: 4,
        ..ExecBody::new_zeroed()
    };
    record(kind, &body, b"sh\0bin\0usr\0a.service\0./iiia\0b\0")
}

fn file(kind: Kind) -> Vec<u8> {
    let body = FileBody {
        flags: FileFlags::CREATED,
        path: path(4, PathFlags::DELETED),
        name: path(1, PathFlags::CALLER),
        ..FileBody::new_zeroed()
    };
    record(kind, &body, b"f\0d\0n")
}

fn name(kind: Kind) -> Vec<u8> {
    let body = NameBody {
        base: path(2, PathFlags::default()),
        name: path(3, PathFlags::CALLER),
        flags: FileFlags::DIRECTORY,
        text_len: 2,
        second_text_len: 3,
        ..NameBody::new_zeroed()
    };
    record(kind, &body, b"d\0a/bttsss")
}

fn rename(kind: Kind) -> Vec<u8> {
    let body = RenameBody {
        old_name: path(2, PathFlags::CALLER),
        new_base: path(2, PathFlags::default()),
        new_name: path(1, PathFlags::CALLER),
        ..RenameBody::new_zeroed()
    };
    record(kind, &body, b"/ad\0b")
}

fn socket(kind: Kind) -> Vec<u8> {
    let body = SocketBody { path: path(2, PathFlags::ABSTRACT), ..SocketBody::new_zeroed() };
    record(kind, &body, b"ab")
}

fn cgroup() -> Vec<u8> {
    record(Kind::CGROUP, &CgroupBody { id: 7, path: path(4, PathFlags::default()) }, b"b\0a\0")
}

fn exit() -> Vec<u8> {
    record(Kind::EXIT, &ExitBody { wait_status: 256, reserved: 0 }, b"")
}

/// One of each kind, in numeric order.
fn samples() -> Vec<Vec<u8>> {
    Kind::ALL
        .into_iter()
        .map(|kind| match kind {
            Kind::EXEC | Kind::PROCESS => exec(kind),
            Kind::FORK => record(kind, &ForkBody::new_zeroed(), b""),
            Kind::EXIT => exit(),
            Kind::FILE_OPEN | Kind::EXEC_MAP | Kind::MEMFD => file(kind),
            Kind::FILE_RENAME | Kind::FILE_LINK => rename(kind),
            Kind::CREDS => record(kind, &CredsBody::new_zeroed(), b""),
            Kind::PTRACE | Kind::VM_WRITE => record(kind, &TargetBody::new_zeroed(), b""),
            Kind::MODULE_LOAD => record(kind, &ModuleBody::new_zeroed(), b""),
            Kind::BPF_LOAD => record(kind, &sensor_event::BpfBody::new_zeroed(), b""),
            Kind::NAMESPACE => record(kind, &NamespaceBody::new_zeroed(), b""),
            Kind::CGROUP => cgroup(),
            Kind::CONNECT
            | Kind::CONNECT_RESULT
            | Kind::LISTEN
            | Kind::ACCEPT
            | Kind::SEND
            | Kind::SOCKET => socket(kind),
            _ => name(kind),
        })
        .collect()
}

#[test]
fn sections_come_apart_as_they_were_put_together() {
    let bytes = exec(Kind::EXEC);
    let RecordBody::Exec(exec) = decode(&bytes).expect("it is an exec").body else { panic!("not an exec") };
    assert_eq!(exec.exe.leaf_first().collect::<Vec<_>>(), [&b"sh"[..], b"bin", b"usr"]);
    assert_eq!(exec.cwd.leaf_first().count(), 0);
    assert_eq!(exec.cgroup.leaf_first().collect::<Vec<_>>(), [b"a.service"]);
    assert_eq!((exec.filename, exec.interpreter, exec.argv), (&b"./"[..], &b"iii"[..], &b"a\0b\0"[..]));
    assert_eq!(exec.exe.caller(), None);

    let bytes = cgroup();
    let RecordBody::Cgroup(cgroup) = decode(&bytes).expect("it is a cgroup").body else {
        panic!("not a cgroup")
    };
    assert_eq!((cgroup.body.id, cgroup.path.leaf_first().collect::<Vec<_>>()), (7, vec![&b"b"[..], b"a"]));

    let bytes = name(Kind::FILE_UNLINK);
    let RecordBody::Unlink(unlink) = decode(&bytes).expect("it is an unlink").body else {
        panic!("not an unlink")
    };
    assert_eq!((unlink.base.leaf_first().count(), unlink.name.caller()), (1, Some(&b"a/b"[..])));
    assert_eq!(unlink.name.leaf_first().count(), 0, "a caller's name has no walked components");
    assert_eq!((unlink.text, unlink.second_text), (&b"tt"[..], &b"sss"[..]));

    let bytes = rename(Kind::FILE_RENAME);
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
        for counter in [Counter::Seen, Counter::Submitted, Counter::Cached].into_iter().chain(lost) {
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
        which in 0..Kind::ALL.len(),
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
                let sections = unlink.base.bytes.len() + unlink.name.bytes.len();
                let texts = unlink.text.len() + unlink.second_text.len();
                prop_assert_eq!(sections + texts, len - size_of::<Header>() - size_of::<NameBody>());
            }
            _ => {}
        }
    }
}
