//! Attacks, each in a room of its own and in one of three contexts. Not what they are judged by. It may run them.

use super::corpus::{Attack, Shell};
use super::room::{Place, Room, Site, first_line, within};
use anyhow::{Context, Result};
use sensor_tests::wait_for;
use std::io::Write as _;
use std::process::Stdio;
use std::sync::Mutex;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// How long one attack, and what comes before it, may each take.
const ATTACK_LIMIT: Duration = Duration::from_secs(20);
/// How long a context may take to be ready.
const READY_LIMIT: Duration = Duration::from_secs(20);
/// How many run at the same time.
const PARALLEL: usize = 2;

pub(super) const WEB: Place = Place::Unit("evaluate-web.service");
pub(super) const CRON: Place = Place::Unit("evaluate-cron.service");
/// What prepares a room: judged by nothing.
pub(super) const SETUP: Place = Place::Unit("evaluate-setup.service");

/// Whose child an attack is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(super) enum Setting {
    /// A network service's, through its hole.
    Service,
    /// Cron's, as a job.
    Cron,
    /// An administrator's shell's, typed at a terminal.
    Login,
}

impl Setting {
    pub(super) const ALL: [Self; 3] = [Self::Service, Self::Cron, Self::Login];

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Service => "service",
            Self::Cron => "cron job",
            Self::Login => "login",
        }
    }

    /// The workload of its processes.
    pub(super) const fn workload(self) -> &'static str {
        match self {
            Self::Service => "unit:evaluate-web.service",
            Self::Cron => "unit:evaluate-cron.service",
            Self::Login => "session:root",
        }
    }

    /// Where a shell of it starts.
    const fn folder(self) -> &'static str {
        match self {
            Self::Service => "/",
            Self::Cron | Self::Login => "/root",
        }
    }
}

/// One attack that was run.
#[derive(Clone, Debug)]
pub(super) struct Run {
    /// Its place in the list of attacks.
    pub(super) attack: usize,
    pub(super) setting: Setting,
    pub(super) room: u32,
    pub(super) begun_ns: u64,
    pub(super) ending: Ending,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Ending {
    /// With the exit status of its shell, where the context tells it.
    Done(Option<i32>),
    TimedOut,
    /// The context was not there, with the reason: nothing was run.
    NotRun(String),
}

/// Runs attacks in contexts, some at a time. Rooms are numbered from `first_room`.
pub(super) fn run_all(
    site: &Site,
    attacks: &[Attack],
    runs: &[(usize, Setting)],
    first_room: u32,
) -> Vec<Run> {
    let queue = Mutex::new(runs.iter().enumerate());
    let done = Mutex::new(Vec::with_capacity(runs.len()));
    std::thread::scope(|scope| {
        for _ in 0..PARALLEL {
            scope.spawn(|| {
                loop {
                    let next = queue.lock().expect("no thread panics").next();
                    let Some((index, (attack, context))) = next else { return };
                    let room = first_room + u32::try_from(index).expect("a corpus is not that long");
                    let run = run_one(site, *attack, &attacks[*attack], *context, room);
                    done.lock().expect("no thread panics").push(run);
                }
            });
        }
    });
    let mut done = done.into_inner().expect("no thread panics");
    done.sort_by_key(|run| run.room);
    done
}

fn run_one(site: &Site, index: usize, attack: &Attack, context: Setting, number: u32) -> Run {
    let mut begun_ns = now_ns();
    let ending = Room::open(site, number).and_then(|room| {
        prepare(&room, attack, context);
        run_in(&room, attack, context, &mut begun_ns)
    });
    let ending = ending.unwrap_or_else(|error| Ending::NotRun(format!("{error:#}")));
    Run { attack: index, setting: context, room: number, begun_ns, ending }
}

/// What the attack wants to be there. One that fails leaves an attack that fails: that shows in what it did.
fn prepare(room: &Room, attack: &Attack, context: Setting) {
    if attack.before.is_empty() {
        return;
    }
    let arguments = [attack.shell.name(), "-c", &attack.before];
    let child =
        room.command(SETUP, context.folder(), &arguments).and_then(|mut command| Ok(command.spawn()?));
    let _ = child.map(|mut child| within(&mut child, ATTACK_LIMIT));
}

fn run_in(room: &Room, attack: &Attack, context: Setting, begun_ns: &mut u64) -> Result<Ending> {
    match context {
        Setting::Service => in_service(room, attack, begun_ns),
        Setting::Cron => {
            room.write("/run/evaluate/attack", &attack.command)?;
            let begin = || {
                *begun_ns = now_ns();
            };
            cron_job(room, &one_liner(attack.shell), ATTACK_LIMIT, begin)
        }
        Setting::Login => {
            room.write("/run/evaluate/attack", &attack.command)?;
            *begun_ns = now_ns();
            login(room, &[one_liner(attack.shell)], ATTACK_LIMIT)
        }
    }
}

/// What starts a command that stands in a file, as jobs and people do it on ordinary days too.
pub(super) fn one_liner(shell: Shell) -> String {
    format!("{} -c \"$(</run/evaluate/attack)\" </dev/null", shell.name())
}

/// Starts the service, and waits until it serves.
pub(super) fn start_service(room: &Room) -> Result<()> {
    let mut command = room.command(WEB, "/", &["python3", "/opt/evaluate/web.py"])?;
    let mut child = command.stdout(Stdio::piped()).spawn().context("starting the service")?;
    first_line(&mut child).context("the service")?;
    // The room ends it.
    std::thread::spawn(move || child.wait());
    Ok(())
}

/// Asks the service for targets, in turn. Whether all were answered in time.
pub(super) fn ask(room: &Room, targets: &[String], limit: Duration) -> Result<bool> {
    let mut command = room.command(SETUP, "/", &["python3", "/opt/evaluate/client.py"])?;
    let mut child = command.stdin(Stdio::piped()).spawn().context("starting the client")?;
    let mut stdin = child.stdin.take().expect("stdin was piped above");
    let text: String = targets.iter().map(|target| format!("http://127.0.0.1{target}\n")).collect();
    stdin.write_all(text.as_bytes()).context("asking the service")?;
    drop(stdin);
    Ok(within(&mut child, limit)?.is_some())
}

fn in_service(room: &Room, attack: &Attack, begun_ns: &mut u64) -> Result<Ending> {
    start_service(room)?;
    let normal = [":8080/", ":8080/lookup?name=localhost", ":8080/report?name=day"].map(str::to_owned);
    ask(room, &normal, READY_LIMIT)?;
    *begun_ns = now_ns();
    let path = match attack.shell {
        Shell::Sh => "/lookup?name=localhost",
        Shell::Bash => "/report?name=day",
    };
    let target = format!(":8080{path}{}", percent_encoded(&format!("\n{}", attack.command)));
    Ok(if ask(room, &[target], ATTACK_LIMIT)? { Ending::Done(None) } else { Ending::TimedOut })
}

/// Runs a job by a cron that starts now: a job for the time of boot runs at once.
pub(super) fn cron_job(room: &Room, job: &str, limit: Duration, begin: impl FnOnce()) -> Result<Ending> {
    room.write("/run/evaluate/cron", &format!("{job}\n"))?;
    room.remove("/run/evaluate/done")?;
    room.remove("/run/crond.reboot")?;
    room.remove("/run/crond.pid")?;
    begin();
    let mut cron = room.command(CRON, "/", &["cron", "-f"])?.spawn().context("starting cron")?;
    let done = wait_for("the job's end", limit, || Ok(status(room)));
    room.end(CRON)?;
    cron.wait().context("waiting for cron")?;
    Ok(done.map_or(Ending::TimedOut, |status| Ending::Done(Some(status))))
}

/// Logs root in at a terminal and types lines.
pub(super) fn login(room: &Room, lines: &[String], limit: Duration) -> Result<Ending> {
    room.remove("/run/evaluate/done")?;
    let mut command =
        room.command(Place::Session, "/", &["script", "-qfec", "login -p -f root", "/dev/null"])?;
    let mut child = command.stdin(Stdio::piped()).spawn().context("logging in")?;
    let mut stdin = child.stdin.take().expect("stdin was piped above");
    let mut text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    text += "echo $? > /run/evaluate/done\nexit\n";
    stdin.write_all(text.as_bytes()).context("typing")?;
    let ended = wait_for("the login's end", limit, || {
        Ok((status(room).is_some() || child.try_wait()?.is_some()).then_some(()))
    });
    let status = status(room);
    drop(stdin);
    if status.is_some() {
        within(&mut child, READY_LIMIT)?;
    }
    room.end(Place::Session)?;
    child.wait().context("waiting for the login")?;
    Ok(match (ended, status) {
        (Ok(()), Some(status)) => Ending::Done(Some(status)),
        (Ok(()), None) => Ending::NotRun("the login ended before its last line".to_owned()),
        (Err(_), _) => Ending::TimedOut,
    })
}

/// What the last line of a job or a login wrote: how the one before it ended.
fn status(room: &Room) -> Option<i32> {
    let text = std::fs::read_to_string(room.path("/run/evaluate/done")).ok()?;
    text.strip_suffix('\n')?.parse().ok()
}

fn now_ns() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).expect("the clock is past 1970");
    u64::try_from(since.as_nanos()).expect("nanoseconds since 1970 fit until 2554")
}

fn percent_encoded(text: &str) -> String {
    text.bytes()
        .map(|byte| match byte {
            byte if byte.is_ascii_alphanumeric() => char::from(byte).to_string(),
            byte => format!("%{byte:02X}"),
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::percent_encoded;

    #[test]
    fn a_command_survives_in_a_url() {
        assert_eq!(percent_encoded("a b\n&;"), "a%20b%0A%26%3B");
    }
}
