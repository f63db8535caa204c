//! Work of real programs: git, cargo, nginx. It may run them, use loopback and write to its folder. No network.

use super::Rounds;
use crate::workspace_root;
use anyhow::{Context, Result, ensure};
use std::fmt::Write as _;
use std::fs;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

/// A day's commands in a repository of some size.
pub(super) struct Git {
    repository: PathBuf,
}

impl Git {
    pub(super) fn prepare(folder: &Path) -> Result<Self> {
        let repository = folder.join("repository");
        let from = workspace_root();
        quietly(git(folder).args(["clone", "--quiet", "--no-hardlinks"]).arg(from).arg(&repository))?;
        Ok(Self { repository })
    }
}

impl Rounds for Git {
    fn round(&mut self, number: u64) -> Result<()> {
        let changed = self.repository.join("changed.txt");
        fs::write(&changed, format!("{number}\n")).context("changing a file")?;
        for words in [
            &["add", "changed.txt"][..],
            &["status", "--short"],
            &["diff", "--cached", "--stat"],
            &["commit", "--quiet", "--message", "change"],
            &["log", "--stat", "--max-count", "50"],
        ] {
            quietly(git(&self.repository).args(words))?;
        }
        Ok(())
    }
}

/// git without this user's configuration, and without work that it does only now and then.
fn git(folder: &Path) -> Command {
    let mut command = Command::new("git");
    command.current_dir(folder).env("HOME", folder).env("GIT_CONFIG_NOSYSTEM", "1");
    for setting in ["user.name=bench", "user.email=bench@localhost", "gc.auto=0", "safe.directory=*"] {
        command.args(["-c", setting]);
    }
    command
}

/// A workspace that is built from nothing.
pub(super) struct Cargo {
    folder: PathBuf,
}

impl Cargo {
    pub(super) fn prepare(folder: PathBuf) -> Result<Self> {
        let members: Vec<String> = (0..CRATES).map(|number| format!("\"part{number}\"")).collect();
        let workspace = format!("[workspace]\nresolver = \"3\"\nmembers = [{}]\n", members.join(", "));
        fs::create_dir_all(&folder).context("making the workspace")?;
        fs::write(folder.join("Cargo.toml"), workspace).context("writing the workspace")?;
        for number in 0..CRATES {
            let sources = folder.join(format!("part{number}/src"));
            fs::create_dir_all(&sources)?;
            let before = number.checked_sub(1).map(|before| format!("part{before}"));
            let mut manifest =
                format!("[package]\nname = \"part{number}\"\nversion = \"0.1.0\"\nedition = \"2024\"\n");
            if let Some(before) = &before {
                write!(manifest, "[dependencies]\n{before} = {{ path = \"../{before}\" }}\n")?;
            }
            fs::write(sources.with_file_name("Cargo.toml"), manifest)?;
            let mut library = String::new();
            for module in MODULES {
                writeln!(library, "pub mod {module};")?;
                fs::write(sources.join(format!("{module}.rs")), SOURCE)?;
            }
            fs::write(sources.join("lib.rs"), library)?;
        }
        let main = "fn main() {\n    println!(\"{}\", part3::north::count(\"a b\"));\n}\n";
        fs::write(folder.join(format!("part{}/src/main.rs", CRATES - 1)), main)?;
        Ok(Self { folder })
    }
}

impl Rounds for Cargo {
    fn round(&mut self, _: u64) -> Result<()> {
        let target = self.folder.join("target");
        let mut cargo = Command::new("cargo");
        for (name, _) in std::env::vars_os() {
            // Flags and wrappers of this build are no part of that one.
            if ["CARGO_", "RUSTFLAGS", "RUSTC"].iter().any(|start| name.to_string_lossy().starts_with(start))
                && name != "CARGO_HOME"
            {
                cargo.env_remove(name);
            }
        }
        cargo
            .current_dir(&self.folder)
            .args(["build", "--release", "--offline", "--target-dir"])
            .arg(&target);
        quietly(&mut cargo)?;
        fs::remove_dir_all(&target).context("removing what was built")
    }
}

/// A server of one process, and a client that asks it.
pub(super) struct Nginx {
    server: Child,
    port: u16,
    connection: Option<BufReader<TcpStream>>,
}

impl Nginx {
    pub(super) fn prepare(folder: &Path) -> Result<Self> {
        fs::create_dir_all(folder.join("pages")).context("making the server's folder")?;
        fs::write(folder.join("pages/index.html"), [b'x'; PAGE_BYTES])?;
        let port = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
        let config = format!(
            "daemon off; master_process off; user root; pid pid; error_log error.log;\n\
             events {{ worker_connections 64; }}\n\
             http {{ access_log access.log; keepalive_requests 1000000; client_body_temp_path body;\n\
             proxy_temp_path proxy; fastcgi_temp_path fastcgi; uwsgi_temp_path uwsgi; scgi_temp_path scgi;\n\
             sendfile on; server {{ listen 127.0.0.1:{port}; root pages; }} }}\n"
        );
        let file = folder.join("nginx.conf");
        fs::write(&file, config)?;
        let nginx = super::super::program("nginx").context("no nginx")?;
        let mut command = Command::new(nginx);
        command.arg("-c").arg(&file).arg("-p").arg(folder).stdin(Stdio::null()).stdout(Stdio::null());
        let server = command.spawn().context("starting nginx")?;
        let server = Self { server, port, connection: None };
        sensor_tests::wait_for("nginx to listen", ANSWER_LIMIT, || {
            Ok(TcpStream::connect(("127.0.0.1", port)).ok().map(drop))
        })?;
        Ok(server)
    }

    fn request(connection: &mut BufReader<TcpStream>) -> Result<()> {
        connection.get_mut().write_all(b"GET / HTTP/1.1\r\nHost: bench\r\n\r\n")?;
        let mut line = String::new();
        connection.read_line(&mut line)?;
        ensure!(line.starts_with("HTTP/1.1 200"), "nginx answered {line:?}");
        while line.trim() != "" {
            line.clear();
            ensure!(connection.read_line(&mut line)? > 0, "nginx hung up");
        }
        Ok(connection.read_exact(&mut [0; PAGE_BYTES])?)
    }
}

impl Rounds for Nginx {
    fn round(&mut self, number: u64) -> Result<()> {
        if number.is_multiple_of(REQUESTS_A_CONNECTION) {
            self.connection = None;
        }
        let connection = match &mut self.connection {
            Some(connection) => connection,
            none => {
                let stream = TcpStream::connect(("127.0.0.1", self.port)).context("connecting to nginx")?;
                stream.set_read_timeout(Some(ANSWER_LIMIT))?;
                none.insert(BufReader::new(stream))
            }
        };
        Self::request(connection)
    }
}

impl Drop for Nginx {
    fn drop(&mut self) {
        // It has ended already when these fail.
        let _ = self.server.kill();
        let _ = self.server.wait();
    }
}

fn quietly(command: &mut Command) -> Result<()> {
    let output = command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped()).output();
    let output = output.with_context(|| format!("starting {command:?}"))?;
    ensure!(
        output.status.success(),
        "{command:?}: {}: {}",
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(())
}

/// A module that takes the compiler some time: generic code, collections and formatting.
const SOURCE: &str = r#"use std::collections::{BTreeMap, HashMap};

pub fn count(text: &str) -> usize {
    let mut words: HashMap<String, Vec<usize>> = HashMap::new();
    for (place, word) in text.split_whitespace().enumerate() {
        words.entry(word.to_lowercase()).or_default().push(place);
    }
    let mut sorted: Vec<_> = words.into_iter().map(|(word, places)| (places.len(), word)).collect();
    sorted.sort_by(|a, b| b.cmp(a));
    let index: BTreeMap<usize, String> = sorted.iter().cloned().collect();
    index.values().map(|word| format!("{word:?}").len()).sum::<usize>() + sorted.len()
}
"#;
const MODULES: [&str; 4] = ["north", "east", "south", "west"];
const CRATES: usize = 4;
const PAGE_BYTES: usize = 4096;
const REQUESTS_A_CONNECTION: u64 = 100;
const ANSWER_LIMIT: Duration = Duration::from_secs(10);
