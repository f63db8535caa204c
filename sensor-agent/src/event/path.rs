//! Kernel paths to text: turned root first, caller's names joined to their base and folded. Not path policy and
//! no file system access. It may call the event and baseline (text) crates.

use sensor_baseline::text::{escape, escape_onto};
use sensor_event::{PathFlags, PathRef, PathSection};
use std::fmt;

/// A path as escaped text, with what is known about how it was obtained.
///
/// A path whose components nearest the root are missing (too deep, or a read failed) starts with a component
/// that no file can have, so that it never reads as another path: `/\x00.../leaf`. The same goes for a path of more
/// than a name in a mount that is attached nowhere: it begins at that mount, not at the root.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct KernelPath {
    /// Escaped, absolute in the mount namespace.
    pub text: String,
    /// Properties.
    pub flags: PathFlags,
    /// The same path as a process in a chroot sees it, when it differs.
    pub in_chroot: Option<String>,
}

impl KernelPath {
    /// A path walked by the kernel.
    #[must_use]
    pub fn walked(section: PathSection<'_>) -> Self {
        let flags = section.reference.flags;
        if flags.contains(PathFlags::ABSTRACT) {
            return Self { text: format!("@{}", escape(section.bytes)), flags, in_chroot: None };
        }
        // A name that nothing is said of: as it was given, which may be relative.
        if let Some(given) = section.caller() {
            return Self { text: escape(given), flags, in_chroot: None };
        }
        let (root_first, count) = (section.leaf_first().rev(), section.leaf_first().count());
        let below = usize::from(section.reference.root_components);
        let is_in_chroot = section.reference.root_components != PathRef::ROOT_NOT_MET && below < count;
        let in_chroot = is_in_chroot.then(|| render(false, root_first.clone().skip(count - below)));
        // A memfd has no more than its name.
        let is_rootless = if count > 1 { is_rootless(flags) } else { is_incomplete(flags) };
        Self { text: render(is_rootless, root_first), flags, in_chroot }
    }

    /// A name from a caller, made absolute: `base` is where it starts, for an absolute one the task's root. Folds `.`,
    /// `..` and repeated `/` lexically, never above the task's root. A name that is the kernel's own is one component below
    /// `base`, or none.
    #[must_use]
    pub fn joined(base: PathSection<'_>, name: PathSection<'_>) -> Self {
        let Some(given) = name.caller() else { return Self::walked(base).below(name) };
        let mut base_components: Vec<&[u8]> = base.leaf_first().collect();
        base_components.reverse();
        let is_absolute = given.starts_with(b"/");
        let below_root = match base.reference.root_components {
            PathRef::ROOT_NOT_MET if is_absolute => 0,
            PathRef::ROOT_NOT_MET => base_components.len(),
            below => usize::from(below),
        };
        let root_len = base_components.len().saturating_sub(below_root);
        if is_absolute {
            base_components.truncate(root_len);
        }
        let folded = fold(base_components, root_len, given);
        let flags = name.reference.flags.union(base.reference.flags);
        let is_rootless = is_rootless(flags);
        Self {
            text: render(is_rootless, folded.iter().copied()),
            flags,
            in_chroot: (root_len > 0).then(|| render(is_rootless, folded[root_len..].iter().copied())),
        }
    }

    /// The kernel's own names in `section` below this path.
    fn below(mut self, section: PathSection<'_>) -> Self {
        self.flags = self.flags.union(section.reference.flags);
        for text in std::iter::once(&mut self.text).chain(self.in_chroot.as_mut()) {
            for component in section.leaf_first().rev() {
                if text != "/" {
                    text.push('/');
                }
                escape_onto(text, component);
            }
        }
        self
    }

    /// Whether the file has no name any more.
    #[must_use]
    pub const fn is_deleted(&self) -> bool {
        self.flags.contains(PathFlags::DELETED)
    }

    /// Whether components nearest the root are missing.
    #[must_use]
    pub const fn is_incomplete(&self) -> bool {
        is_incomplete(self.flags)
    }

    /// Whether the text is the caller's word.
    #[must_use]
    pub const fn is_from_caller(&self) -> bool {
        self.flags.contains(PathFlags::CALLER)
    }

    /// Names of the set flags.
    pub fn flag_names(&self) -> impl Iterator<Item = &'static str> + '_ {
        FLAG_NAMES.iter().filter(|(flag, _)| self.flags.contains(*flag)).map(|(_, name)| *name)
    }
}

impl fmt::Display for KernelPath {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        out.write_str(&self.text)
    }
}

/// `name` made absolute: below `base` when it is relative, else below `root`, the task's root, and never above that.
/// All are unescaped bytes, `root` and `base` absolute in the mount namespace.
///
/// Only the kernel knows where a `..` behind a name leads, for the name may be a symbolic link: it stays in the text,
/// as a component that no file can have, so that the path never reads as another.
#[must_use]
pub fn absolute(root: &[u8], base: &[u8], name: &[u8]) -> String {
    let root: Vec<&[u8]> = split(root).collect();
    let start = if name.starts_with(b"/") { root.clone() } else { split(base).collect() };
    let root_len = if start.starts_with(&root) { root.len() } else { 0 };
    let mut components = start;
    let mut is_exact = true;
    for component in split(name) {
        match component {
            b"." => {}
            b".." if is_exact => components.truncate(root_len.max(components.len().saturating_sub(1))),
            b".." => components.push(UP),
            other => {
                is_exact = false;
                components.push(other);
            }
        }
    }
    render(false, components.iter().copied())
}

/// A walked path root first, unescaped; like the text, one that is incomplete never reads as another.
#[must_use]
pub fn root_first(section: PathSection<'_>) -> Vec<u8> {
    let components: Vec<&[u8]> = section.leaf_first().collect::<Vec<_>>().into_iter().rev().collect();
    join(is_rootless(section.reference.flags), &components)
}

/// The task's root, unescaped, as far as the first walk that met it tells.
#[must_use]
pub fn task_root(walks: &[PathSection<'_>]) -> Vec<u8> {
    let met = walks.iter().find(|walk| walk.reference.root_components != PathRef::ROOT_NOT_MET);
    let Some(walk) = met else { return join(true, &[]) };
    let mut components: Vec<&[u8]> =
        walk.leaf_first().skip(usize::from(walk.reference.root_components)).collect();
    components.reverse();
    join(is_incomplete(walk.reference.flags), &components)
}

/// Whether a path names an open descriptor of a process: `/dev/fd/N` or `/proc/PID/fd/N`, below any root.
#[must_use]
pub fn is_descriptor(text: &str) -> bool {
    let mut components = text.rsplit('/');
    let is_number = components.next().is_some_and(|part| part.parse::<u32>().is_ok());
    let is_fd = is_number && components.next() == Some("fd");
    let holders: Vec<&str> = components.take(4).collect();
    is_fd && matches!(holders[..], ["dev", ..] | [_, "proc", ..] | [_, "task", _, "proc", ..])
}

fn fold<'a>(mut components: Vec<&'a [u8]>, root_len: usize, name: &'a [u8]) -> Vec<&'a [u8]> {
    for component in split(name) {
        match component {
            b"." => {}
            b".." => components.truncate(root_len.max(components.len().saturating_sub(1))),
            other => components.push(other),
        }
    }
    components
}

fn split(path: &[u8]) -> impl Iterator<Item = &[u8]> {
    path.split(|byte| *byte == b'/').filter(|component| !component.is_empty())
}

fn render<'a>(incomplete: bool, components: impl Iterator<Item = &'a [u8]> + Clone) -> String {
    let components = incomplete.then_some(MISSING).into_iter().chain(components);
    let mut text = String::with_capacity(components.clone().map(|component| component.len() + 1).sum());
    for component in components {
        text.push('/');
        escape_onto(&mut text, component);
    }
    if text.is_empty() {
        text.push('/');
    }
    text
}

fn join(incomplete: bool, components: &[&[u8]]) -> Vec<u8> {
    let mut bytes = Vec::new();
    for component in incomplete.then_some(MISSING).iter().chain(components) {
        bytes.push(b'/');
        bytes.extend_from_slice(component);
    }
    if bytes.is_empty() {
        bytes.push(b'/');
    }
    bytes
}

const fn is_incomplete(flags: PathFlags) -> bool {
    flags.contains(PathFlags::TRUNCATED) || flags.contains(PathFlags::FAULT)
}

/// Whether a path does not begin at the root of a mount namespace.
const fn is_rootless(flags: PathFlags) -> bool {
    is_incomplete(flags) || flags.contains(PathFlags::NO_NAMESPACE) || flags.contains(PathFlags::NO_MOUNT)
}

/// Stands for components that are missing: NUL cannot be part of a name.
const MISSING: &[u8] = b"\0...";
/// Stands for a `..` that only the kernel could follow.
const UP: &[u8] = b"\0..";

const FLAG_NAMES: [(PathFlags, &str); 7] = [
    (PathFlags::TRUNCATED, "truncated"),
    (PathFlags::DELETED, "deleted"),
    (PathFlags::CALLER, "from_caller"),
    (PathFlags::NO_NAMESPACE, "no_namespace"),
    (PathFlags::FAULT, "fault"),
    (PathFlags::ABSTRACT, "abstract"),
    (PathFlags::NO_MOUNT, "no_mount"),
];

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn section(bytes: &[u8], flags: PathFlags, root_components: u16) -> PathSection<'_> {
        let len = u16::try_from(bytes.len()).unwrap();
        PathSection { reference: PathRef { len, flags, root_components, reserved: 0 }, bytes }
    }

    fn walked(bytes: &[u8]) -> PathSection<'_> {
        let count = bytes.iter().filter(|byte| **byte == 0).count();
        section(bytes, PathFlags::default(), u16::try_from(count).unwrap())
    }

    fn caller(bytes: &[u8]) -> PathSection<'_> {
        section(bytes, PathFlags::CALLER, 0)
    }

    #[test]
    fn walked_paths_are_turned_root_first() {
        assert_eq!(KernelPath::walked(walked(b"nginx\0sbin\0usr\0")).text, "/usr/sbin/nginx");
        assert_eq!(KernelPath::walked(walked(b"")).text, "/");
        assert_eq!(KernelPath::walked(walked(b"a b\nc\xff\0")).text, r"/a b\x0ac\xff");
    }

    #[test]
    fn names_that_only_the_caller_knows_are_shown_as_given() {
        assert_eq!(KernelPath::walked(caller(b"/run/none.sock\0rest")).text, "/run/none.sock");
        assert_eq!(KernelPath::walked(caller(b"../n\n")).text, r"../n\x0a");
    }

    #[test]
    fn missing_components_never_read_as_another_path() {
        let path = KernelPath::walked(section(b"passwd\0etc\0", PathFlags::TRUNCATED, PathRef::ROOT_NOT_MET));
        assert_eq!(path.text, r"/\x00.../etc/passwd");
        assert_eq!(path.flag_names().collect::<Vec<_>>(), ["truncated"]);
    }

    #[test]
    fn a_path_in_a_detached_mount_never_reads_as_another() {
        let detached = |bytes| section(bytes, PathFlags::NO_NAMESPACE, PathRef::ROOT_NOT_MET);
        assert_eq!(KernelPath::walked(detached(b"bash\0bin\0usr\0")).text, r"/\x00.../usr/bin/bash");
        assert_eq!(KernelPath::walked(detached(b"memfd:x\0")).text, "/memfd:x");
        assert_eq!(KernelPath::joined(detached(b""), caller(b"etc/passwd")).text, r"/\x00.../etc/passwd");
    }

    #[test]
    fn a_read_that_gave_nothing_is_not_the_root() {
        assert_eq!(
            KernelPath::walked(section(b"", PathFlags::FAULT, PathRef::ROOT_NOT_MET)).text,
            r"/\x00..."
        );
    }

    #[test]
    fn a_chroot_shows_both_views() {
        let path = KernelPath::walked(section(b"sh\0bin\0jail\0srv\0", PathFlags::default(), 2));
        assert_eq!((path.text.as_str(), path.in_chroot.as_deref()), ("/srv/jail/bin/sh", Some("/bin/sh")));
    }

    #[test]
    fn caller_names_are_joined_and_folded() {
        let check = |base: &[u8], name: &[u8], expected: &str| {
            let path = KernelPath::joined(walked(base), caller(name));
            assert_eq!(path.text, expected, "{name:?} at {base:?}");
            assert!(path.is_from_caller());
        };
        check(b"www\0var\0", b"index.html", "/var/www/index.html");
        check(b"www\0var\0", b"../log/./x//y\0", "/var/log/x/y");
        check(b"www\0var\0", b"/etc/passwd", "/etc/passwd");
        check(b"www\0var\0", b"../../../../etc/x", "/etc/x");
        check(b"", b"x", "/x");
        check(b"www\0", b"..", "/");
    }

    #[test]
    fn caller_names_stay_inside_the_chroot() {
        let base = section(b"home\0jail\0srv\0", PathFlags::default(), 1);
        let check = |name: &[u8], expected: &str, inside: &str| {
            let path = KernelPath::joined(base, caller(name));
            assert_eq!((path.text.as_str(), path.in_chroot.as_deref()), (expected, Some(inside)));
        };
        check(b"x", "/srv/jail/home/x", "/home/x");
        check(b"/etc/passwd", "/srv/jail/etc/passwd", "/etc/passwd");
        check(b"../../../etc/passwd", "/srv/jail/etc/passwd", "/etc/passwd");
    }

    #[test]
    fn a_relative_name_below_an_incomplete_base_says_so() {
        let base = section(b"deep\0", PathFlags::TRUNCATED, PathRef::ROOT_NOT_MET);
        assert_eq!(KernelPath::joined(base, caller(b"x")).text, r"/\x00.../deep/x");
        let root = section(b"", PathFlags::default(), 0);
        assert_eq!(KernelPath::joined(root, caller(b"/x")).text, "/x");
    }

    #[test]
    fn an_absolute_name_starts_at_the_task_root() {
        let root = section(b"jail\0srv\0", PathFlags::default(), 0);
        let path = KernelPath::joined(root, caller(b"/../etc/passwd"));
        assert_eq!(
            (path.text.as_str(), path.in_chroot.as_deref()),
            ("/srv/jail/etc/passwd", Some("/etc/passwd"))
        );
    }

    #[test]
    fn an_absolute_name_lies_below_the_task_root() {
        let check = |root: &str, base: &str, name: &str, expected: &str| {
            assert_eq!(absolute(root.as_bytes(), base.as_bytes(), name.as_bytes()), expected, "{name}");
        };
        check("/", "/srv", "run.sh", "/srv/run.sh");
        check("/", "/srv", "/usr/bin/x", "/usr/bin/x");
        check("/tmp/jail", "/tmp/jail/srv", "/usr/bin/x", "/tmp/jail/usr/bin/x");
        check("/tmp/jail", "/tmp/jail/srv", "../../../../usr/bin/x", "/tmp/jail/usr/bin/x");
        // What lies behind a name may be a link to anywhere.
        check("/", "/srv", "/tmp/l/../../srv/run.sh", r"/tmp/l/\x00../\x00../srv/run.sh");
        check("/", "/srv", ".././lib//./x/", "/lib/x");
        let text = absolute(b"/", b"/srv", b"l/../run.sh");
        assert_eq!(sensor_baseline::PathText::parse(&text).unwrap().as_str(), text, "a baseline can list it");
        // A process that kept a directory outside.
        check("/tmp/jail", "/srv", "../usr/bin/x", "/usr/bin/x");
    }

    #[test]
    fn the_task_root_is_what_lies_above_its_components() {
        let check = |bytes: &[u8], below: u16, expected: &str| {
            assert_eq!(task_root(&[section(bytes, PathFlags::default(), below)]), expected.as_bytes());
        };
        check(b"sh\0bin\0", 2, "/");
        check(b"sh\0bin\0jail\0srv\0", 2, "/srv/jail");
        check(b"sh\0", PathRef::ROOT_NOT_MET, "/\0...");
        let outside = section(b"sh\0", PathFlags::default(), PathRef::ROOT_NOT_MET);
        let inside = section(b"home\0jail\0", PathFlags::default(), 1);
        assert_eq!(task_root(&[outside, inside]), b"/jail");
    }

    #[test]
    fn descriptors_are_told_from_files() {
        for text in
            ["/dev/fd/3", "/proc/self/fd/3", "/proc/7/fd/10", "/proc/7/task/8/fd/3", "/jail/proc/self/fd/3"]
        {
            assert!(is_descriptor(text), "{text}");
        }
        for text in ["/dev/fd/3/run.sh", "/srv/fd/3", "/proc/self/fd/x", "/dev/fd", "3", "/fd/3"] {
            assert!(!is_descriptor(text), "{text}");
        }
    }

    proptest! {
        #[test]
        fn joined_names_are_absolute_and_have_no_dots(
            base in proptest::collection::vec("[a-z.]{1,4}", 0..4),
            name in "[a-z./]{0,24}",
        ) {
            let bytes: Vec<u8> = base.iter().rev().flat_map(|part| part.bytes().chain([0])).collect();
            let text = KernelPath::joined(walked(&bytes), caller(name.as_bytes())).text;
            prop_assert!(text.starts_with('/'));
            prop_assert!(!text.contains("//"));
            let given: Vec<&str> = name.split('/').collect();
            let last_is_name = given.last().is_some_and(|part| !part.is_empty() && *part != "." && *part != "..");
            if last_is_name {
                prop_assert!(text.ends_with(given.last().unwrap()));
            }
        }

        #[test]
        fn any_section_becomes_one_printable_line(bytes in proptest::collection::vec(any::<u8>(), 0..64), flags in 0u16..32) {
            let path = KernelPath::walked(section(&bytes, PathFlags(flags), 1));
            prop_assert!(!path.text.chars().any(char::is_control));
            let joined = KernelPath::joined(section(&bytes, PathFlags(flags), 3), caller(&bytes));
            prop_assert!(!joined.text.chars().any(char::is_control));
        }
    }
}
