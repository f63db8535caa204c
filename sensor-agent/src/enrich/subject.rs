//! Which program a process acts as: its own, or the one that started it through shells and tools. Not the process
//! table. It may call nothing but `event`.
//!
//! The subject is carried along with the process: a fork keeps it, an exec of a program that stands for itself
//! replaces it, an exec of a *transparent* one (a shell, a core utility, an interpreter without a script) keeps it.
//! So it does not matter whether a shell forks for its last command or executes it in place, and a parent that has
//! ended still counts. Where a workload begins with a transparent program, that program is the subject.
//!
//! A name alone makes nothing transparent: `/tmp/bash` is whatever somebody put there. The file has to lie where
//! only the host's owner installs programs; elsewhere an interpreter counts with itself before its script.

use crate::event::{Arguments, Exec, path};
use sensor_baseline::text::unescape;
use std::sync::Arc;

/// A program in memory: what one exec put there.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Image {
    /// The mapped file; empty when unknown.
    pub exe: String,
    /// Arguments.
    pub argv: Arguments,
    /// The script that an interpreter runs, absolute; behind the interpreter and a colon where that is not the host's.
    pub script: Option<String>,
    /// Working directory at exec.
    pub cwd: String,
    /// Which file `exe` was, when known.
    pub file: Option<FileId>,
}

/// A file as the kernel tells it from every other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FileId {
    /// Device as the kernel has it: major number above the 20 bits of the minor.
    pub dev: u32,
    /// Inode number.
    pub inode: u64,
}

impl FileId {
    /// Whether both may be the same file, where one device may be the file system's and the other what `stat` shows.
    /// The two differ for file systems without a block device of their own: btrfs shows its subvolume's
    /// (`btrfs_getattr`), overlayfs its layer's (`ovl_map_dev_ino`). There only the inode number says something.
    #[must_use]
    pub const fn may_be(self, other: Self) -> bool {
        let is_comparable = self.has_block_device() && other.has_block_device();
        self.inode == other.inode && (self.dev == other.dev || !is_comparable)
    }

    /// Anonymous devices, `get_anon_bdev` of fs/super.c, have major number 0.
    const fn has_block_device(self) -> bool {
        self.dev >> MINOR_BITS != 0
    }
}

impl Image {
    /// What an exec record put in memory.
    #[must_use]
    pub fn of_exec(exec: &Exec) -> Self {
        let script =
            exec.is_script().then(|| exec.filename_absolute.clone()).filter(|script| is_named(script));
        let file = (exec.inode != 0).then_some(FileId { dev: exec.dev, inode: exec.inode });
        let (exe, argv, cwd) = (exec.exe.text.clone(), exec.argv.clone(), exec.cwd.text.clone());
        Self { file, ..Self::new(exe, argv, cwd, &exec.root, script) }
    }

    /// From parts; looks for a script among the arguments of an interpreter unless one is given. `root` is the root
    /// directory at exec, where a script's absolute name begins.
    #[must_use]
    pub fn new(exe: String, argv: Arguments, cwd: String, root: &str, script: Option<String>) -> Self {
        let script = script.or_else(|| script_argument(&exe, &argv, &cwd, root));
        Self { exe, argv, script, cwd, file: None }
    }

    /// A kernel thread's.
    #[must_use]
    pub fn kernel() -> Self {
        Self { exe: KERNEL.to_owned(), ..Self::default() }
    }

    /// Whether nothing is known of it.
    #[must_use]
    pub fn is_unknown(&self) -> bool {
        self.exe.is_empty()
    }

    /// The program's name as a subject: the script, the busybox applet, or the file.
    #[must_use]
    pub fn program(&self) -> String {
        match (&self.script, self.applet()) {
            (Some(script), _) => script.clone(),
            (None, Some(applet)) => format!("{}:{applet}", self.exe),
            (None, None) => self.exe.clone(),
        }
    }

    /// Whether the program stands for whoever started it.
    #[must_use]
    pub fn is_transparent(&self) -> bool {
        if self.script.is_some() {
            return false;
        }
        let name = self.applet().unwrap_or_else(|| base_name(&self.exe));
        let is_core_utility = || CORE_UTILITIES.binary_search(&name).is_ok();
        let is_known = SHELLS.contains(&name) || is_core_utility() || interpreter(name).is_some();
        is_known && self.is_installed()
    }

    /// Whether it lies where only the host's owner installs programs, so that its name says what it is.
    #[must_use]
    pub fn is_installed(&self) -> bool {
        is_installed(&self.exe)
    }

    /// The last component of the file's name.
    #[must_use]
    pub fn base_name(&self) -> &str {
        base_name(&self.exe)
    }

    /// Whether it is a shell, with or without a script.
    #[must_use]
    pub fn is_shell(&self) -> bool {
        SHELLS.contains(&self.applet().unwrap_or_else(|| base_name(&self.exe)))
    }

    fn applet(&self) -> Option<&str> {
        if !MULTI_CALL.contains(&base_name(&self.exe)) {
            return None;
        }
        // `busybox sh`, `busybox.static busybox sh`: the applet is the first that is not the program's own name.
        let mut names = self.argv.iter().map(|name| base_name(name).trim_start_matches('-'));
        names.find(|name| !name.starts_with("busybox") && !name.starts_with("toybox"))
    }
}

/// Who a process acts as.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Lineage {
    /// The subject's text.
    pub subject: Arc<str>,
    /// Whether the subject is a program, and not only the short name of one that nothing told of.
    pub is_known: bool,
}

impl Lineage {
    /// Of a process with which a workload begins.
    #[must_use]
    pub fn begin(image: &Image, comm: &str) -> Self {
        let subject = if image.is_unknown() { format!("({comm})") } else { image.program() };
        Self { subject: Arc::from(subject), is_known: !image.is_unknown() }
    }

    /// After the process executed `image`.
    #[must_use]
    pub fn after_exec(&self, image: &Image) -> Self {
        let is_kept = self.is_known && image.is_transparent();
        let subject = if is_kept { Arc::clone(&self.subject) } else { Arc::from(image.program()) };
        Self { subject, is_known: true }
    }
}

/// `MINORBITS` of include/linux/kdev_t.h.
const MINOR_BITS: u32 = 20;
/// Text that stands for the kernel as a program.
pub const KERNEL: &str = "[kernel]";

fn base_name(path: &str) -> &str {
    path.rsplit('/').next().unwrap_or(path)
}

/// The script an interpreter was given as an argument: the first one that is no option.
fn script_argument(exe: &str, argv: &Arguments, cwd: &str, root: &str) -> Option<String> {
    let name = base_name(exe);
    let interpreter = interpreter(name).or_else(|| SHELLS.contains(&name).then_some(&SHELL_OPTIONS))?;
    let mut arguments = argv.iter().skip(1);
    while let Some(argument) = arguments.next() {
        // A shell takes `+O NAME` and the like for options as well.
        let is_shell = interpreter.name == SHELL_OPTIONS.name;
        let unset = argument.strip_prefix('+').filter(|_| is_shell);
        let Some(option) = argument.strip_prefix('-').or(unset) else {
            let (root, base, script) = (unescape(root).ok()?, unescape(cwd).ok()?, unescape(argument).ok()?);
            let script = Some(path::absolute(&root, &base, &script)).filter(|script| is_named(script))?;
            return Some(if is_installed(exe) { script } else { format!("{exe}:{script}") });
        };
        let is_long = option.starts_with('-');
        let long_name = option.split('=').next().unwrap_or(option);
        let is_inline =
            if is_long { INLINE_LONG.contains(&long_name) } else { option.contains(interpreter.inline) };
        if option.is_empty() || is_inline {
            return None;
        }
        let is_valued = if is_long {
            interpreter.valued_long.contains(&option)
        } else {
            option.ends_with(interpreter.valued)
        };
        if is_valued {
            arguments.next();
        }
    }
    None
}

/// Whether a program lies where the host's owner installs programs, as the mount namespace has it.
fn is_installed(exe: &str) -> bool {
    INSTALLED.iter().any(|folder| exe.starts_with(folder))
}

/// Whether a script's path says which script it is: a descriptor's number does not.
fn is_named(script: &str) -> bool {
    let is_special = ["/dev/fd/", "/dev/std", "/proc/"].iter().any(|prefix| script.starts_with(prefix));
    !is_special && !path::is_descriptor(script)
}

fn interpreter(name: &str) -> Option<&'static Interpreter> {
    // python3, python3.13, perl5.40.1, ruby3.3: the version is not part of the name.
    let stem = name.trim_end_matches(|ch: char| ch.is_ascii_digit() || ch == '.');
    INTERPRETERS.iter().find(|known| known.name == stem)
}

struct Interpreter {
    name: &'static str,
    /// Option letters after which the program text is not a file.
    inline: &'static [char],
    /// Option letters that take the next argument.
    valued: &'static [char],
    /// Long options that take the next argument, with one of their hyphens.
    valued_long: &'static [&'static str],
}

const SHELL_OPTIONS: Interpreter = Interpreter {
    name: "sh",
    inline: &['c', 's'],
    valued: &['o', 'O'],
    valued_long: &["-rcfile", "-init-file"],
};

/// Programs that run the text of a file given to them.
const INTERPRETERS: [Interpreter; 8] = [
    Interpreter {
        name: "python",
        inline: &['c', 'm'],
        valued: &['W', 'X', 'Q'],
        valued_long: &["-check-hash-based-pycs"],
    },
    Interpreter { name: "perl", inline: &['e', 'E'], valued: &['I'], valued_long: &[] },
    Interpreter {
        name: "ruby",
        inline: &['e'],
        valued: &['I', 'r'],
        valued_long: &["-encoding", "-external-encoding", "-internal-encoding"],
    },
    Interpreter { name: "php", inline: &['r'], valued: &['c', 'd'], valued_long: &["-define", "-php-ini"] },
    Interpreter { name: "node", inline: &['e', 'p'], valued: &['r', 'C'], valued_long: NODE_VALUED_LONG },
    Interpreter { name: "nodejs", inline: &['e', 'p'], valued: &['r', 'C'], valued_long: NODE_VALUED_LONG },
    Interpreter { name: "lua", inline: &['e'], valued: &['l'], valued_long: &[] },
    Interpreter { name: "tclsh", inline: &[], valued: &[], valued_long: &[] },
];

/// Where a program's name says what it is.
const INSTALLED: [&str; 8] =
    ["/usr/", "/bin/", "/sbin/", "/lib/", "/opt/", "/nix/store/", "/gnu/store/", "/snap/"];

/// Long options after which the program text is not a file, with one of their hyphens: of node and php.
const INLINE_LONG: [&str; 3] = ["-eval", "-print", "-run"];

const NODE_VALUED_LONG: &[&str] =
    &["-require", "-import", "-loader", "-experimental-loader", "-conditions", "-env-file", "-title"];

/// Command interpreters people and programs type into.
const SHELLS: [&str; 12] =
    ["sh", "bash", "dash", "zsh", "ksh", "mksh", "ash", "fish", "csh", "tcsh", "rbash", "rzsh"];

/// One file, many programs, told apart by the name they are called by.
const MULTI_CALL: [&str; 3] = ["busybox", "toybox", "busybox.static"];

/// Small tools that act for whoever calls them. A program that reaches the network or runs others with rights of its
/// own (curl, wget, ssh, git, tar, nc) is not here: it is worth a line of its own.
const CORE_UTILITIES: [&str; 85] = [
    "[",
    "arch",
    "awk",
    "b2sum",
    "base32",
    "base64",
    "basename",
    "cat",
    "chgrp",
    "chmod",
    "chown",
    "cksum",
    "comm",
    "coreutils",
    "cp",
    "csplit",
    "cut",
    "date",
    "dd",
    "df",
    "dir",
    "dircolors",
    "dirname",
    "du",
    "echo",
    "env",
    "expand",
    "expr",
    "false",
    "find",
    "fmt",
    "fold",
    "gawk",
    "grep",
    "head",
    "hostname",
    "id",
    "install",
    "join",
    "kill",
    "link",
    "ln",
    "ls",
    "mawk",
    "md5sum",
    "mkdir",
    "mkfifo",
    "mktemp",
    "mv",
    "nice",
    "nohup",
    "nproc",
    "od",
    "paste",
    "printf",
    "pwd",
    "readlink",
    "realpath",
    "rm",
    "rmdir",
    "sed",
    "seq",
    "setsid",
    "sha256sum",
    "sleep",
    "sort",
    "split",
    "stat",
    "sync",
    "tail",
    "tee",
    "test",
    "timeout",
    "touch",
    "tr",
    "true",
    "truncate",
    "uname",
    "uniq",
    "unlink",
    "wc",
    "which",
    "whoami",
    "xargs",
    "yes",
];

#[cfg(test)]
mod tests {
    use super::*;

    fn image(exe: &str, argv: &[&str]) -> Image {
        Image::new(exe.to_owned(), argv.iter().collect(), "/srv".to_owned(), "/", None)
    }

    #[test]
    fn core_utilities_can_be_searched() {
        assert!(CORE_UTILITIES.is_sorted());
    }

    #[test]
    fn programs_are_named_by_script_applet_or_file() {
        let check = |exe: &str, argv: &[&str], program: &str, is_transparent: bool| {
            let image = image(exe, argv);
            assert_eq!(
                (image.program().as_str(), image.is_transparent()),
                (program, is_transparent),
                "{argv:?}"
            );
        };
        check("/usr/sbin/nginx", &["nginx"], "/usr/sbin/nginx", false);
        check("/usr/bin/dash", &["sh", "-c", "ls"], "/usr/bin/dash", true);
        check("/usr/bin/dash", &["sh", "-e", "build.sh"], "/srv/build.sh", false);
        check("/usr/bin/bash", &["-bash"], "/usr/bin/bash", true);
        check("/usr/bin/bash", &["bash", "/dev/fd/3"], "/usr/bin/bash", true);
        check("/usr/bin/bash", &["bash", "/proc/self/fd/3"], "/usr/bin/bash", true);
        check("/usr/bin/bash", &["bash", "--rcfile", "/srv/app.sh", "/x/y.sh"], "/x/y.sh", false);
        check("/usr/bin/bash", &["bash", "--norc", "+O", "extglob", "/x/y.sh"], "/x/y.sh", false);
        check("/usr/bin/node", &["node", "--eval=x()", "/srv/app.js"], "/usr/bin/node", true);
        check("/usr/bin/node", &["node", "--import", "/srv/hook.js", "main.js"], "/srv/main.js", false);
        check("/usr/bin/bash", &["bash", "-o", "pipefail", "/x/y.sh", "-c"], "/x/y.sh", false);
        check("/usr/bin/python3.13", &["python3", "../app/main.py", "-c"], "/app/main.py", false);
        check("/usr/bin/python3.13", &["python3", "-W", "ignore", "x.py"], "/srv/x.py", false);
        check("/usr/bin/python3.13", &["python3", "-m", "http.server"], "/usr/bin/python3.13", true);
        check("/usr/bin/python3.13", &["python3", "-Ic", "pass"], "/usr/bin/python3.13", true);
        check("/usr/bin/python3.13", &["python3", "-"], "/usr/bin/python3.13", true);
        check("/usr/bin/python3-config", &["python3-config", "x"], "/usr/bin/python3-config", false);
        check("/usr/bin/perl", &["perl", "-ne", "print", "file"], "/usr/bin/perl", true);
        check("/bin/busybox", &["sh"], "/bin/busybox:sh", true);
        check("/bin/busybox", &["busybox", "httpd"], "/bin/busybox:httpd", false);
        check("/bin/busybox", &["/bin/nc"], "/bin/busybox:nc", false);
        check("/usr/bin/ls", &["not-ls"], "/usr/bin/ls", true);
        check("/tmp/evil", &["ls"], "/tmp/evil", false);
        check("/opt/conda/bin/python3.13", &["python", "x.py"], "/srv/x.py", false);
    }

    #[test]
    fn a_name_alone_makes_no_program_transparent() {
        let check = |exe: &str, argv: &[&str], program: &str| {
            let image = image(exe, argv);
            assert_eq!((image.program().as_str(), image.is_transparent()), (program, false), "{argv:?}");
        };
        check("/tmp/bash", &["bash", "-c", "id"], "/tmp/bash");
        check("/var/tmp/ls", &["ls"], "/var/tmp/ls");
        check("/tmp/usr/bin/cat", &["cat"], "/tmp/usr/bin/cat");
        check("/memfd:x/bash", &["bash"], "/memfd:x/bash");
        check("/jail/bin/busybox", &["ls"], "/jail/bin/busybox:ls");
        // Nor does it lend a program the name of a script that it is given.
        check("/tmp/python3", &["python3", "/srv/app/main.py"], "/tmp/python3:/srv/app/main.py");
    }

    #[test]
    fn a_script_in_a_chroot_is_named_from_outside() {
        let argv = ["sh", "/app/run.sh"].iter().collect();
        let image = Image::new("/usr/bin/dash".to_owned(), argv, "/jail/srv".to_owned(), "/jail", None);
        assert_eq!(image.program(), "/jail/app/run.sh");
    }

    #[test]
    fn the_subject_passes_through_transparent_programs() {
        let nginx = Lineage::begin(&image("/usr/sbin/nginx", &["nginx"]), "nginx");
        let shell = nginx.after_exec(&image("/usr/bin/dash", &["sh", "-c", "id"]));
        assert_eq!(&*shell.subject, "/usr/sbin/nginx");
        let tool = shell.after_exec(&image("/usr/bin/id", &["id"]));
        assert_eq!(&*tool.subject, "/usr/sbin/nginx");
        let curl = tool.after_exec(&image("/usr/bin/curl", &["curl"]));
        assert_eq!(&*curl.subject, "/usr/bin/curl");
    }

    #[test]
    fn a_workload_that_begins_with_a_shell_has_it_as_subject() {
        let shell = Lineage::begin(&image("/usr/bin/dash", &["sh", "-c", "ls"]), "sh");
        let list = shell.after_exec(&image("/usr/bin/ls", &["ls"]));
        assert_eq!(&*list.subject, "/usr/bin/dash");
    }

    #[test]
    fn a_shell_script_stands_for_itself_and_is_a_shell() {
        let script = image("/usr/bin/dash", &["sh", "run.sh"]);
        assert_eq!((&*Lineage::begin(&script, "run.sh").subject, script.is_shell()), ("/srv/run.sh", true));
    }

    #[test]
    fn only_a_shell_program_is_a_shell() {
        let check = |exe: &str, argv: &[&str], expected: bool| {
            assert_eq!(image(exe, argv).is_shell(), expected, "{exe} {argv:?}");
        };
        for name in ["sh", "bash", "dash", "zsh", "ksh", "fish", "ash"] {
            check(&format!("/usr/bin/{name}"), &["x"], true);
        }
        check("/usr/bin/bash", &["-bash"], true);
        check("/bin/busybox", &["sh", "-c", "id"], true);
        check("/bin/busybox.static", &["busybox.static", "sh"], true);
        check("/bin/busybox", &["busybox", "busybox", "sh"], true);
        check("/bin/busybox", &["busybox"], false);
        check("/bin/busybox", &["busybox", "ash"], true);
        check("/bin/busybox", &["nc"], false);
        check("/usr/bin/python3.13", &["sh", "-c", "pass"], false);
        check("/usr/bin/env", &["bash"], false);
        check("/usr/sbin/nginx", &["sh"], false);
    }

    #[test]
    fn an_unknown_program_is_named_by_comm() {
        assert_eq!(&*Lineage::begin(&Image::default(), "nginx").subject, "(nginx)");
    }
}
