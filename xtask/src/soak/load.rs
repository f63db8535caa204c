//! The mixed load of a soak: builds, packages, a server and its clients, short processes, containers. Each part runs in a
//! loop of its own until told to end; a part whose tools are not installed says `skipped: REASON`. Not a measurement. It
//! may start processes and write to its scratch folder.

use super::program;
use anyhow::{Context, Result};
use sensor_tests::Kept;
use std::fmt::Write as _;
use std::fs;
use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::Duration;

/// Everything that runs.
pub(super) struct Load {
    is_over: Arc<AtomicBool>,
    parts: Vec<Part>,
    skipped: Vec<String>,
    /// Ended last: its clients go first.
    server: Option<Server>,
}

struct Part {
    name: &'static str,
    rounds: Arc<AtomicU64>,
    failures: Arc<AtomicU64>,
    thread: JoinHandle<()>,
}

impl Load {
    /// Starts every part that can run here.
    pub(super) fn start(scratch: &Path) -> Result<Self> {
        let is_over = Arc::new(AtomicBool::new(false));
        let mut load = Self { is_over, parts: Vec::new(), skipped: Vec::new(), server: None };
        let build = Crate::make(&scratch.join("crate"))?;
        load.part("builds", BUILD_PAUSE, move || build.build());
        load.part("processes", PROCESS_PAUSE, short_processes);
        match Packages::make(&scratch.join("packages"))? {
            Some(packages) => load.part("packages", PACKAGE_PAUSE, move || packages.install()),
            None => load.skip("packages: no dpkg-deb"),
        }
        match program("python3") {
            Some(python) => {
                let folder = scratch.join("venv");
                load.part("environments", PACKAGE_PAUSE, move || environment(&python, &folder));
            }
            None => load.skip("environments: no python3"),
        }
        match Server::start(&scratch.join("nginx"))? {
            Some(server) => {
                let port = server.port;
                load.server = Some(server);
                load.part("requests", REQUEST_PAUSE, move || request(port));
            }
            None => load.skip("requests: no nginx"),
        }
        match containers() {
            Ok(image) => load.part("containers", CONTAINER_PAUSE, move || container(&image)),
            Err(reason) => load.skip(&format!("containers: {reason}")),
        }
        Ok(load)
    }

    /// What runs and what does not.
    pub(super) fn describe(&self) -> String {
        let names: Vec<&str> = self.parts.iter().map(|part| part.name).collect();
        let mut text = names.join(", ");
        for reason in &self.skipped {
            write!(text, "\nskipped: {reason}").expect("a String takes everything");
        }
        text
    }

    /// Ends everything; says how many rounds each part made, and which part did nothing.
    pub(super) fn stop(mut self) -> (String, Vec<String>) {
        self.is_over.store(true, Ordering::Relaxed);
        let (mut words, mut problems) = (Vec::new(), Vec::new());
        for part in std::mem::take(&mut self.parts) {
            let Part { name, rounds, failures, thread } = part;
            let has_panicked = thread.join().is_err();
            let (rounds, failures) = (rounds.load(Ordering::Relaxed), failures.load(Ordering::Relaxed));
            let note = if has_panicked { " (panicked)" } else { "" };
            words.push(format!("{name} {rounds} rounds, {failures} failed{note}"));
            if rounds == failures || has_panicked {
                problems.push(format!("load {name}: {failures} of {rounds} rounds failed{note}"));
            }
        }
        (words.join("; "), problems)
    }

    fn skip(&mut self, reason: &str) {
        self.skipped.push(reason.to_owned());
    }

    fn part(&mut self, name: &'static str, pause: Duration, round: impl Fn() -> Result<()> + Send + 'static) {
        let (rounds, failures) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let (is_over, made, failed) = (self.is_over.clone(), rounds.clone(), failures.clone());
        let thread = std::thread::spawn(move || {
            while !is_over.load(Ordering::Relaxed) {
                // The first failure tells why; the others are counted.
                if let Err(error) = round()
                    && failed.fetch_add(1, Ordering::Relaxed) == 0
                {
                    println!("load: {name}: {error:#}");
                }
                made.fetch_add(1, Ordering::Relaxed);
                std::thread::sleep(pause);
            }
        });
        self.parts.push(Part { name, rounds, failures, thread });
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        // `stop` has taken the parts; on the way out of a failure they are still here.
        self.is_over.store(true, Ordering::Relaxed);
        for part in self.parts.drain(..) {
            let _ = part.thread.join();
        }
    }
}

/// Runs a command quietly, behind everybody else, and not for ever.
fn quietly(program: impl AsRef<std::ffi::OsStr>) -> Command {
    let mut command = Command::new("timeout");
    command.args(["--signal", "KILL", COMMAND_LIMIT_S, "nice", "-n", "10"]).arg(program);
    command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
    command
}

fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("{command:?}"))?;
    anyhow::ensure!(status.success(), "{command:?}: {status}");
    Ok(())
}

/// A crate of a few modules, built anew each time.
struct Crate(PathBuf);

impl Crate {
    fn make(folder: &Path) -> Result<Self> {
        let sources = folder.join("src");
        fs::create_dir_all(&sources).context("making a crate")?;
        let manifest =
            "[package]\nname = \"soaked\"\nversion = \"0.1.0\"\nedition = \"2024\"\n\n[workspace]\n";
        fs::write(folder.join("Cargo.toml"), manifest)?;
        let mut main = String::new();
        for number in 0..CRATE_MODULES {
            writeln!(main, "mod part{number};")?;
            fs::write(
                sources.join(format!("part{number}.rs")),
                format!("pub fn number() -> u64 {{ {number} }}\n"),
            )?;
        }
        let sum: Vec<String> = (0..CRATE_MODULES).map(|number| format!("part{number}::number()")).collect();
        writeln!(main, "fn main() {{ println!(\"{{}}\", {}); }}", sum.join(" + "))?;
        fs::write(sources.join("main.rs"), main)?;
        Ok(Self(folder.to_owned()))
    }

    fn build(&self) -> Result<()> {
        let target = self.0.join("target");
        run(quietly("cargo")
            .args(["build", "--offline"])
            .current_dir(&self.0)
            .env("CARGO_TARGET_DIR", &target))?;
        run(&mut quietly(target.join("debug/soaked")))?;
        fs::remove_dir_all(&target).context("cleaning the crate")
    }
}

/// A package that is built, unpacked and installed below a folder that is then removed.
struct Packages(PathBuf);

impl Packages {
    fn make(folder: &Path) -> Result<Option<Self>> {
        if program("dpkg-deb").is_none() {
            return Ok(None);
        }
        let tree = folder.join("tree");
        fs::create_dir_all(tree.join("DEBIAN")).context("making a package")?;
        fs::create_dir_all(tree.join("usr/share/soaked"))?;
        let control = "Package: soaked\nVersion: 1\nArchitecture: all\nMaintainer: nobody <nobody@localhost>\n\
                       Description: for a soak\n";
        fs::write(tree.join("DEBIAN/control"), control)?;
        for number in 0..PACKAGE_FILES {
            fs::write(tree.join(format!("usr/share/soaked/{number}")), number.to_string())?;
        }
        Ok(Some(Self(folder.to_owned())))
    }

    fn install(&self) -> Result<()> {
        let (package, root) = (self.0.join("soaked.deb"), self.0.join("root"));
        run(quietly("dpkg-deb").args(["--root-owner-group", "-b"]).arg(self.0.join("tree")).arg(&package))?;
        run(quietly("dpkg-deb").arg("-x").arg(&package).arg(&root))?;
        fs::create_dir_all(root.join("var/lib/dpkg/updates"))?;
        fs::create_dir_all(root.join("var/lib/dpkg/info"))?;
        fs::write(root.join("var/lib/dpkg/status"), "")?;
        let folder = format!("--root={}", root.display());
        let log = format!("--log={}", self.0.join("dpkg.log").display());
        run(quietly("dpkg").args([&folder, &log]).args(["--force-all", "-i"]).arg(&package))?;
        fs::remove_dir_all(&root).context("removing the throwaway root")
    }
}

/// A virtual environment of python, without its package manager: no network is needed.
fn environment(python: &Path, folder: &Path) -> Result<()> {
    run(quietly(python).args(["-m", "venv", "--without-pip", "--clear"]).arg(folder))?;
    run(quietly(folder.join("bin/python")).args(["-c", "import json, sqlite3, http.client"]))
}

/// A shell with short children, some of which fail or are killed.
fn short_processes() -> Result<()> {
    let script = "i=0; while [ $i -lt 20 ]; do /bin/true; /bin/false; (exit 3); ls / | wc -l; i=$((i+1)); done; \
                  sleep 10 & kill $!; wait; exit 0";
    run(quietly("sh").args(["-c", script]))
}

/// A web server with workers.
struct Server {
    _child: Kept,
    port: u16,
}

impl Server {
    fn start(folder: &Path) -> Result<Option<Self>> {
        let Some(nginx) = program("nginx") else { return Ok(None) };
        fs::create_dir_all(folder.join("pages")).context("making the server's folder")?;
        fs::write(folder.join("pages/index.html"), "soaked\n")?;
        // Another may take the port in between: then the requests fail, and are counted.
        let port = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
        // Names in the configuration are below this folder, the prefix, which may have spaces in its path.
        let config = format!(
            "daemon off; user root; worker_processes 2; pid pid; error_log error.log;\n\
             events {{ worker_connections 64; }}\n\
             http {{ access_log access.log; client_body_temp_path body; proxy_temp_path proxy;\n\
             fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;\n\
             server {{ listen 127.0.0.1:{port}; root pages; }} }}\n"
        );
        let file = folder.join("nginx.conf");
        fs::write(&file, config)?;
        let mut command = Command::new(nginx);
        command.arg("-c").arg(&file).arg("-p").arg(folder);
        let child = Kept::start("nginx", &mut command, &folder.join("stderr.log"))?;
        Ok(Some(Self { _child: child, port }))
    }
}

fn request(port: u16) -> Result<()> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(ANSWER_LIMIT))?;
    stream.set_write_timeout(Some(ANSWER_LIMIT))?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n")?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer)?;
    anyhow::ensure!(answer.contains("soaked"), "the server answered {answer:?}");
    Ok(())
}

/// An image that containers can be made of, or why there is none.
fn containers() -> Result<String, String> {
    let ctr = program("ctr").ok_or("no ctr")?;
    let output = Command::new("timeout").arg("5").arg(ctr).args(["images", "ls", "-q"]).output();
    let output = output.map_err(|error| format!("ctr: {error}"))?;
    if !output.status.success() {
        return Err("no containerd that answers".to_owned());
    }
    let names = String::from_utf8_lossy(&output.stdout).into_owned();
    names.lines().next().map(str::to_owned).ok_or_else(|| "containerd has no image".to_owned())
}

fn container(image: &str) -> Result<()> {
    static NUMBER: AtomicU64 = AtomicU64::new(0);
    let name = format!("sensor-soak-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
    run(quietly("ctr").args(["run", "--rm", image, &name, "/bin/sh", "-c", "ls / > /tmp/soaked; true"]))
}

/// Seconds after which a command of the load is killed.
const COMMAND_LIMIT_S: &str = "300";
/// How long the server may take for an answer, or for reading a request.
const ANSWER_LIMIT: Duration = Duration::from_secs(10);
const BUILD_PAUSE: Duration = Duration::from_secs(5);
const PROCESS_PAUSE: Duration = Duration::from_millis(500);
const PACKAGE_PAUSE: Duration = Duration::from_secs(3);
const REQUEST_PAUSE: Duration = Duration::from_millis(20);
const CONTAINER_PAUSE: Duration = Duration::from_secs(5);
const CRATE_MODULES: u32 = 5;
const PACKAGE_FILES: u32 = 30;
