//! Child processes: run one to its end with its output shown, or keep one until a value is dropped. Not a shell.
//! It may call `std::process` and send signals to what it started.

use anyhow::{Context, Result, bail};
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{Receiver, channel};
use std::thread;
use std::time::{Duration, Instant};

/// Polling interval of [`wait_for`].
const POLL_INTERVAL: Duration = Duration::from_millis(50);
/// How long a kept process may take to end after SIGTERM before it is killed.
const STOP_GRACE: Duration = Duration::from_secs(5);

/// Runs `command` to its end with its output on this terminal.
///
/// # Errors
/// When it cannot start or does not succeed.
pub fn run(command: &mut Command) -> Result<()> {
    let status = command.status().with_context(|| format!("starting {command:?}"))?;
    if !status.success() {
        bail!("{command:?}: {status}");
    }
    Ok(())
}

/// Runs `command` to its end and returns its standard output as text.
///
/// # Errors
/// When it cannot start or does not succeed; the message holds both its outputs.
pub fn output(command: &mut Command) -> Result<String> {
    let output = command.output().with_context(|| format!("starting {command:?}"))?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if !output.status.success() {
        let errors = String::from_utf8_lossy(&output.stderr);
        bail!("{command:?}: {}\n{text}{errors}", output.status);
    }
    Ok(text)
}

/// A process that lives until this value is dropped; its standard output is read line by line.
#[derive(Debug)]
pub struct Kept {
    name: &'static str,
    child: Child,
    lines: Receiver<String>,
    log: PathBuf,
}

impl Kept {
    /// Starts `command`; its standard error is appended to the file `log`.
    ///
    /// # Errors
    /// When it cannot start.
    pub fn start(name: &'static str, command: &mut Command, log: &Path) -> Result<Self> {
        let errors = std::fs::File::options().create(true).append(true).open(log);
        let errors = errors.with_context(|| format!("opening {}", log.display()))?;
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(errors)
            .spawn()
            .with_context(|| format!("starting {name}: {command:?}"))?;
        let stdout = child.stdout.take().expect("stdout was piped above");
        let (sender, lines) = channel();
        // The thread ends with the child's standard output.
        thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                if sender.send(line).is_err() {
                    return;
                }
            }
        });
        Ok(Self { name, child, lines, log: log.to_path_buf() })
    }

    /// Process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits for a line of standard output that starts with `prefix` and returns the rest of it.
    ///
    /// # Errors
    /// When the process ends first or `limit` passes.
    pub fn line_after(&mut self, prefix: &str, limit: Duration) -> Result<String> {
        let deadline = Instant::now() + limit;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.lines.recv_timeout(left) {
                Ok(line) => {
                    if let Some(rest) = line.strip_prefix(prefix) {
                        return Ok(rest.trim().to_owned());
                    }
                }
                Err(_) if self.child.try_wait()?.is_some() => {
                    let said = std::fs::read_to_string(&self.log).unwrap_or_default();
                    bail!("{} ended before it printed `{prefix}`; it said: {said}", self.name)
                }
                Err(_) => bail!("{} did not print `{prefix}` within {limit:?}", self.name),
            }
        }
    }

    /// Ends the process at once, as a crash would (SIGKILL).
    ///
    /// # Errors
    /// When it cannot be signalled or waited for.
    pub fn kill(mut self) -> Result<()> {
        self.child.kill().with_context(|| format!("killing {}", self.name))?;
        self.child.wait().with_context(|| format!("waiting for {}", self.name))?;
        Ok(())
    }

    /// Leaves the process running when this value is dropped.
    pub fn detach(self) {
        std::mem::forget(self);
    }
}

impl Drop for Kept {
    fn drop(&mut self) {
        let Ok(pid) = i32::try_from(self.child.id()) else { return };
        if matches!(self.child.try_wait(), Ok(Some(_))) {
            return;
        }
        let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGTERM);
        let ended = wait_for("its end", STOP_GRACE, || Ok(self.child.try_wait()?.map(|_| ())));
        if ended.is_err() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// Polls `condition` until it gives a value.
///
/// # Errors
/// When `condition` fails or `limit` passes; the message names `what`.
pub fn wait_for<T>(
    what: &str,
    limit: Duration,
    mut condition: impl FnMut() -> Result<Option<T>>,
) -> Result<T> {
    let deadline = Instant::now() + limit;
    loop {
        if let Some(value) = condition()? {
            return Ok(value);
        }
        if Instant::now() >= deadline {
            bail!("waited {limit:?} for {what}");
        }
        thread::sleep(POLL_INTERVAL);
    }
}
