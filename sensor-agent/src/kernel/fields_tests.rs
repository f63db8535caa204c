//! Tests of the fields on BTF made here, and on the trimmed BTF of the kernels in `tests/btf`: every field, what the
//! programs take from functions' signatures, and what it says when one is missing. Not of the reader.

use super::{Btf, Field, Need, exit_has_group_dead, resolve, resolve_arguments, resolve_one, secureexec_bit};
use crate::kernel::btf::tests::{Fixture, fixtures};
use crate::kernel::probes::{Attach, PROBES};
use sensor_event::{ARGUMENTS, FIELDS};

/// What a fixture was made of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum MadeOf {
    /// A kernel's own BTF.
    Kernel,
    /// A vmlinux.h: it has no functions.
    Header,
}

/// What is known of a kernel: its fixture's name, what that was made of, whether its `sched_process_exit` has
/// `group_dead`, and the bit of `linux_binprm.secureexec`.
type Known = (&'static str, MadeOf, bool, u32);

const KNOWN: &[Known] = &[
    ("5.10", MadeOf::Kernel, false, 322),
    ("5.15-next", MadeOf::Header, false, 322),
    ("6.1", MadeOf::Kernel, false, 322),
    ("6.6", MadeOf::Header, false, 322),
    ("6.9", MadeOf::Header, false, 322),
    ("6.12", MadeOf::Kernel, false, 322),
    ("6.16", MadeOf::Kernel, true, 322),
    ("6.18", MadeOf::Kernel, true, 322),
    ("6.18-microvm", MadeOf::Kernel, true, 322),
    ("6.19", MadeOf::Kernel, true, 322),
    ("7.0", MadeOf::Kernel, true, 322),
    ("7.2", MadeOf::Kernel, true, 450),
    ("7.3", MadeOf::Kernel, true, 450),
    ("7.3-arm64", MadeOf::Header, true, 450),
];

/// Optional fields and arguments that kernels lack: their fixtures' names, the globals, the reason. Arguments count for
/// the fixtures that have functions.
const ABSENT: &[(&[&str], &[&str], &str)] = &[
    (&["6.6", "6.9"], &["TASK_LOGINUID", "TASK_SESSIONID"], "built without CONFIG_AUDIT"),
    (
        &["7.3-arm64"],
        &["COMPAT_ARG0", "COMPAT_ARG1", "COMPAT_ARG2", "COMPAT_ARG3", "COMPAT_ARG4", "THREAD_STATUS"],
        "32-bit system calls use the same registers",
    ),
    (&["5.15-next"], &["IO_ACCEPT_SLOT", "IO_OPEN_SLOT"], "direct descriptors came with 5.15"),
    (&["5.10", "5.15-next"], &["IO_SOCKET_PROTOCOL", "IO_SOCKET_SLOT"], "io_uring makes sockets since 5.19"),
    (&["5.10", "6.1", "6.12"], &["URING_COMPLETE_CQE"], "told the entry's parts one by one before 6.16"),
    (
        &["5.10", "6.1"],
        &["VFS_SET_ACL_DENTRY", "VFS_SET_ACL_NAME", "VFS_SET_ACL_RESULT"],
        "access control lists are set by vfs_setxattr before 6.2",
    ),
    (&["5.10", "6.1", "6.12"], &["VFS_MKDIR_RETURNS_POINTER"], "vfs_mkdir returned a number before 6.15"),
    (KERNELS, &["VFS_RENAME_OLD"], "vfs_rename takes a renamedata since 5.12, and since an update of 5.10"),
    (KERNELS, &["MOVE_MOUNT_ARM64_RESULT"], "of arm64, and these kernels are of x86-64"),
    (
        BEFORE_7_0,
        &["DO_FILE_OPEN_DFD", "DO_FILE_OPEN_NAME", "DO_FILE_OPEN_OP", "DO_FILE_OPEN_RESULT"],
        "do_filp_open until 7.0",
    ),
    (
        SINCE_7_0,
        &["DO_FILP_OPEN_DFD", "DO_FILP_OPEN_NAME", "DO_FILP_OPEN_OP", "DO_FILP_OPEN_RESULT"],
        "do_file_open since 7.0",
    ),
    (BEFORE_7_0, &["FILENAME_RMDIR_RESULT"], "do_rmdir until 7.0"),
    (SINCE_7_0, &["DO_RMDIR_RESULT"], "filename_rmdir since 7.0"),
];

/// The fixtures that have functions.
const KERNELS: &[&str] =
    &["5.10", "6.1", "6.12", "6.16", "6.18", "6.18-microvm", "6.19", "7.0", "7.2", "7.3"];
const BEFORE_7_0: &[&str] = &["5.10", "6.1", "6.12", "6.16", "6.18", "6.18-microvm", "6.19"];
const SINCE_7_0: &[&str] = &["7.0", "7.2", "7.3"];

/// The arguments that programs take by position: tracepoints whose shape no [`sensor_event::ARGUMENTS`] looks up. The
/// first is the tracepoint's own.
const TRACEPOINTS: &[(&str, &str)] = &[
    ("cgroup_mkdir", "void*, cgroup*, char*"),
    ("inet_sock_set_state", "void*, sock*, int, int"),
    ("module_load", "void*, module*"),
    ("sched_process_exec", "void*, task_struct*, pid_t, linux_binprm*"),
    ("sched_process_exit", "void*, task_struct*"),
    ("sched_process_fork", "void*, task_struct*, task_struct*"),
    ("sys_enter", "void*, pt_regs*, long int"),
    ("sys_exit", "void*, pt_regs*, long int"),
];

/// Kernels without a tracepoint.
const NO_TRACEPOINT: &[(&str, &str, &str)] = &[("6.18-microvm", "module_load", "built without modules")];

fn sample() -> Btf {
    Btf::parse(crate::kernel::btf::tests::sample()).expect("the sample is BTF")
}

const fn field(paths: &'static [&'static str], need: Need) -> Field {
    Field { global: "GLOBAL", paths, need }
}

#[test]
fn renamed_member_is_found_by_its_other_name() {
    static FIELD: Field = field(&["outer.renamed", "outer.a"], Need::Required);
    assert_eq!(resolve_one(&sample(), &FIELD, "6.1").expect("it is there"), ("GLOBAL", 4));
}

#[test]
fn missing_optional_field_is_absent() {
    static FIELD: Field = field(&["outer.missing"], Need::Optional);
    assert_eq!(resolve_one(&sample(), &FIELD, "6.1").expect("it is optional"), ("GLOBAL", Field::ABSENT));
}

#[test]
fn missing_required_field_is_named_with_type_and_kernel() {
    static FIELD: Field = field(&["outer.missing", "other.first"], Need::Required);
    let error = resolve_one(&sample(), &FIELD, "6.1.0-test").expect_err("it is required").to_string();
    for part in ["6.1.0-test", "GLOBAL", "outer.missing", "other.first"] {
        assert!(error.contains(part), "{error}");
    }
    assert!(resolve(&sample(), "6.1").is_err(), "this is no kernel");
}

fn known(name: &str) -> &'static Known {
    KNOWN.iter().find(|known| known.0 == name).unwrap_or_else(|| panic!("{name}: nothing is known of it"))
}

#[test]
fn every_field_and_argument_is_in_every_kernel_or_known_to_be_absent() {
    for Fixture { name, release, btf, .. } in fixtures() {
        let mut resolved = resolve(&btf, &release).unwrap_or_else(|error| panic!("{name}: {error}"));
        assert_eq!(resolved.len(), FIELDS.len());
        if known(&name).1 == MadeOf::Kernel {
            resolved.extend(resolve_arguments(&btf));
        }
        resolved.retain(|(_, place)| *place == Field::ABSENT);
        let mut absent: Vec<&str> = resolved.into_iter().map(|(global, _)| global).collect();
        let mut expected: Vec<&str> = ABSENT
            .iter()
            .filter(|(kernels, ..)| kernels.contains(&name.as_str()))
            .flat_map(|(_, globals, _)| globals.iter().copied())
            .collect();
        absent.sort_unstable();
        expected.sort_unstable();
        assert_eq!(absent, expected, "{name}: what is absent, and what is expected to be");
    }
}

#[test]
fn shapes_that_changed_are_told_apart() {
    for Fixture { name, btf, .. } in fixtures() {
        let (_, _, group_dead, secureexec) = known(&name);
        assert_eq!(exit_has_group_dead(&btf), *group_dead, "{name}: group_dead");
        assert_eq!(secureexec_bit(&btf), *secureexec, "{name}: secureexec");
    }
}

#[test]
fn tracepoints_have_the_arguments_that_programs_take_by_position() {
    for Fixture { name, btf, .. } in fixtures() {
        for (tracepoint, expected) in TRACEPOINTS {
            if NO_TRACEPOINT.iter().any(|(kernel, without, _)| *kernel == name && without == tracepoint) {
                continue;
            }
            let parameters = btf.typedef_function(&format!("btf_trace_{tracepoint}"));
            let found: Vec<String> = parameters
                .unwrap_or_else(|| panic!("{name}: no tracepoint {tracepoint}"))
                .iter()
                .map(|parameter| format!("{}{}", parameter.type_name, "*".repeat(parameter.pointers)))
                .collect();
            // A parameter that was added behind them does no harm.
            assert!(found.join(", ").starts_with(expected), "{name}: {tracepoint}: {found:?}");
        }
    }
}

#[test]
fn every_hook_of_the_table_is_known_here() {
    let programs = PROBES.iter().flat_map(|probe| probe.hooks).flat_map(|hook| hook.iter());
    for program in programs {
        if let Attach::BtfTracepoint(name) | Attach::RawTracepoint(name) = program.attach {
            let typedef = format!("btf_trace_{name}");
            assert!(
                TRACEPOINTS.iter().any(|(known, _)| *known == name)
                    || ARGUMENTS.iter().any(|argument| argument.function == typedef),
                "{name}: add its arguments to TRACEPOINTS, and it to functions.txt"
            );
        }
    }
}

#[test]
fn every_required_field_that_goes_missing_is_named() {
    let newest = fixtures().into_iter().find(|fixture| fixture.name == "7.3");
    let Fixture { release, bytes, .. } = newest.expect("the newest kernel has a fixture");
    for field in FIELDS.iter().filter(|field| field.need == Need::Required) {
        let mut without = bytes.clone();
        for path in field.paths {
            rename_last_member(&mut without, path);
        }
        let btf = Btf::parse(without).expect("a name does not matter to the layout");
        let error = resolve_one(&btf, field, &release).expect_err(field.global).to_string();
        for part in [release.as_str(), field.global, field.paths[0]] {
            assert!(error.contains(part), "{part}: {error}");
        }
        assert!(resolve(&btf, &release).is_err(), "{}: some field is missing", field.global);
    }
}

/// Makes the name of a path's last member another, wherever the name is used.
fn rename_last_member(btf: &mut [u8], path: &str) {
    let member = path.rsplit('.').next().and_then(|last| last.split('[').next()).expect("a path has members");
    let string = format!("\0{member}\0");
    let found = btf.windows(string.len()).rposition(|window| window == string.as_bytes());
    if let Some(at) = found {
        btf[at + 1] = b'?';
    }
}

#[test]
fn fixture_of_the_running_kernel_says_what_the_kernel_says() {
    let running = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let Some(fixture) = fixtures().into_iter().find(|fixture| fixture.release == running.trim()) else {
        println!("skipped: no fixture is of the running kernel {}", running.trim());
        return;
    };
    let whole =
        std::fs::read("/sys/kernel/btf/vmlinux").expect("the fixture was made from a kernel with BTF");
    let whole = Btf::parse(whole).expect("the kernel's BTF is BTF");
    let release = &fixture.release;
    assert_eq!(
        resolve(&fixture.btf, release).expect("the fixture has every field"),
        resolve(&whole, release).expect("the kernel has every field")
    );
    assert_eq!(resolve_arguments(&fixture.btf), resolve_arguments(&whole), "trim the fixture again");
    for name in
        ["vfs_unlink", "vfs_rename", "vfs_mkdir", "security_path_rename", "inet_csk_accept", "tcp_v4_connect"]
    {
        assert_eq!(fixture.btf.function_parameters(name), whole.function_parameters(name), "{name}");
        assert_eq!(fixture.btf.function_result(name), whole.function_result(name), "{name}");
    }
}
