//! What the actor of the equivalence test does: a long run of operations, drawn with a seed, that change what names, files
//! and processes mean while they are used. Not the comparison. It may call the system.

use crate::raw;
use nix::mount::{MntFlags, MsFlags, mount, umount2};
use nix::sched::{CloneFlags, unshare};
use nix::sys::wait::waitpid;
use nix::unistd::{chroot, truncate};
use sensor_tests::write_script;
use std::fs::{self, DirBuilder, OpenOptions, Permissions};
use std::io::{BufRead as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Files that names are drawn from.
const NAMES: u64 = 32;
/// Folders that they lie in. What happens to all of a folder happens to the last two: a file below a folder that was made a
/// short while ago is not known for long.
const FOLDERS: u64 = 8;
/// Programs that are run with a file.
const SCRIPTS: u64 = 3;
/// Writes to one file in a row, as programs write logs.
const WRITES: u64 = 8;

/// Ports that nobody listens on, and nobody else connects to.
pub(crate) const CLOSED_PORTS: [u16; 2] = [19, 511];

/// The numbers of xorshift64: the same for the same seed.
struct Dice(u64);

impl Dice {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

/// Where it acts.
struct Scene {
    root: PathBuf,
    dice: Dice,
    listener: TcpListener,
    done: u64,
}

/// Makes what is acted on: before the sensors look, so that none of it is new.
pub(crate) fn furnish(folder: &Path) {
    let root = folder.join("eqv");
    for number in 0..FOLDERS {
        fs::create_dir_all(root.join(format!("d{number}"))).expect("a folder can be made");
    }
    for number in 0..NAMES {
        fs::write(file(&root, number), "").expect("writable");
    }
    for number in 0..SCRIPTS {
        write_script(root.join(format!("script-{number}")), "#!/bin/sh\n: >>\"$1\"\n");
    }
}

fn file(root: &Path, number: u64) -> PathBuf {
    root.join(format!("d{}", number % FOLDERS)).join(name(number))
}

/// Looks as if it was made up, which counts for names that are ephemeral.
fn name(number: u64) -> String {
    format!("file.q{number:02}Xzk")
}

/// Acts until `operations` have been done. After each part it says `paused` and waits for a line.
pub(crate) fn act(folder: &Path, operations: u64, parts: u64) {
    unshare(CloneFlags::CLONE_NEWNS).expect("a mount namespace can be made");
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).expect("mounts can be made private");
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port is free");
    let mut scene = Scene { root: folder.join("eqv"), dice: Dice(0x9e37_79b9), listener, done: 0 };
    for part in 1..=parts {
        while scene.done < operations * part / parts {
            scene.act();
        }
        pause(&scene.done.to_string());
    }
}

/// Says that it pauses, and goes on when it is told to.
pub(crate) fn pause(done: &str) {
    println!("paused {done}");
    std::io::stdout().flush().expect("somebody reads");
    std::io::stdin().lock().read_line(&mut String::new()).expect("somebody writes");
}

impl Scene {
    fn script(&self, number: u64) -> PathBuf {
        self.root.join(format!("script-{number}"))
    }

    fn folder(&mut self) -> PathBuf {
        let number = FOLDERS - 1 - self.dice.below(2);
        self.root.join(format!("d{number}"))
    }

    fn any_file(&mut self) -> PathBuf {
        file(&self.root, self.dice.below(NAMES))
    }

    /// One operation, or a few alike. What fails has failed for everybody who looks on.
    fn act(&mut self) {
        let (one, other) = (self.any_file(), self.any_file());
        match self.dice.below(1000) {
            0..=929 => self.write(&one, WRITES),
            930..=939 => self.count(fs::rename(&one, &other)),
            940..=944 => self.count(fs::hard_link(&one, &other)),
            945..=949 => self.count(fs::remove_file(&one)),
            950..=959 => self.count(fs::write(&one, "")),
            960 => self.count(OpenOptions::new().write(true).create_new(true).open(&one)),
            961 => self.rename_folders(),
            962 => self.remake_folder(),
            963..=964 => self.bind(),
            965..=966 => self.enter_root(),
            967..=974 => self.run_script(&one),
            975..=976 => self.rewrite_script(),
            977..=979 => {
                let link = self.root.join("link");
                self.count(fs::remove_file(&link));
                self.count(symlink(&one, &link));
                self.write(&link, 2);
            }
            980..=984 => self.count(truncate(&one, 1)),
            985..=989 => self.count(fs::set_permissions(&one, Permissions::from_mode(0o700))),
            _ => self.connect(),
        }
    }

    fn count<T, E>(&mut self, _done_or_failed: Result<T, E>) {
        self.done += 1;
    }

    fn write(&mut self, file: &Path, times: u64) {
        for _ in 0..times {
            self.count(OpenOptions::new().write(true).open(file));
        }
    }

    /// Two folders change places: every file below has another name.
    fn rename_folders(&mut self) {
        let (one, other, aside) = (self.folder(), self.folder(), self.root.join("aside"));
        self.count(fs::rename(&one, &aside));
        self.count(fs::rename(&other, &one));
        self.count(fs::rename(&aside, &other));
        self.count(fs::create_dir(&one));
        self.count(fs::create_dir(&other));
    }

    /// A folder is made anew, private or not, and its files come back without being created in it.
    fn remake_folder(&mut self) {
        let (folder, aside) = (self.folder(), self.root.join("aside"));
        self.count(fs::rename(&folder, &aside));
        let mode = if self.dice.below(2) == 0 { 0o700 } else { 0o755 };
        self.count(DirBuilder::new().mode(mode).create(&folder));
        for number in 0..NAMES {
            self.count(fs::rename(aside.join(name(number)), folder.join(name(number))));
        }
        self.count(fs::remove_dir_all(&aside));
    }

    /// A folder shows another one's files for a while.
    fn bind(&mut self) {
        let (from, to, none) = (self.folder(), self.folder(), None::<&str>);
        let bound = mount(Some(&from), &to, none, MsFlags::MS_BIND, none);
        let is_bound = bound.is_ok();
        self.count(bound);
        for _ in 0..4 {
            let file = self.any_file();
            self.write(&file, WRITES);
        }
        if is_bound {
            self.count(umount2(&to, MntFlags::MNT_DETACH));
        }
    }

    /// A child writes the same names below another root.
    fn enter_root(&mut self) {
        let folder = self.folder();
        let Some(child) = raw::fork().expect("a process can be made") else {
            if chroot(&folder).is_ok() {
                for number in 0..NAMES {
                    drop(OpenOptions::new().write(true).open(format!("/{}", name(number))));
                }
            }
            std::process::exit(0)
        };
        self.done += NAMES;
        self.count(waitpid(child, None));
    }

    fn run_script(&mut self, file: &Path) {
        let number = self.dice.below(SCRIPTS);
        let script = self.script(number);
        self.count(Command::new(script).arg(file).status());
    }

    /// A program is written, as it is again and again, and run.
    fn rewrite_script(&mut self) {
        let number = self.dice.below(SCRIPTS);
        let (script, file) = (self.script(number), self.any_file());
        self.write(&script, WRITES);
        self.count(Command::new(script).arg(file).status());
    }

    fn connect(&mut self) {
        let open = self.listener.local_addr().expect("it is bound");
        for _ in 0..4 {
            self.count(TcpStream::connect(open));
            self.count(self.listener.accept());
        }
        let closed = CLOSED_PORTS[self.dice.below(2) as usize];
        self.count(TcpStream::connect(("127.0.0.1", closed)));
    }
}
