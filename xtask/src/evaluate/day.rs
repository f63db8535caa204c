//! A host's ordinary days, compressed in time: the same schedule every day, and a seed for names, counts, order, sizes and
//! contents. Not what they are judged by. It may run things in a room.

use super::attack::{Ending, ask, cron_job, login, one_liner, start_service};
use super::benign::Machine;
use super::containers::{self, Containers};
use super::corpus::Shell;
use super::room::{Place, Room};
use anyhow::{Context, Result, bail, ensure};
use sensor_tests::wait_for;
use std::sync::Mutex;
use std::time::Duration;

/// How long one piece of a day may take.
const PIECE_LIMIT: Duration = Duration::from_secs(120);
/// How long a login or a job may take.
const SHORT_LIMIT: Duration = Duration::from_secs(60);
/// Runs of the hourly jobs in a day.
const HOURS: u64 = 24;
/// Logins in a day at least, and how many more there may be.
const LOGINS_MIN: u64 = 2;
const LOGINS_MORE: u64 = 3;
/// What an administrator types, one command a line.
const ADMIN: &str = include_str!("inside/admin.txt");

const NGINX: Place = Place::Unit("evaluate-nginx.service");
const POSTGRESQL: Place = Place::Unit("evaluate-postgresql.service");
const DATABASE: Place = Place::Unit("evaluate-database.service");
const CI: Place = Place::Unit("evaluate-ci.service");
const BUILD: Place = Place::Unit("evaluate-build.service");
const PACKAGES: Place = Place::Unit("evaluate-packages.service");
const PYTHON: Place = Place::Unit("evaluate-python.service");

/// The part of the days that needs containerd.
pub(super) const CONTAINERS: &str = "containers";
/// Hours from one container's job to the next.
const JOB_HOURS: u64 = 4;

/// A part of the days that can be left out.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Work {
    pub(super) name: &'static str,
    /// The workloads that its processes are of.
    pub(super) workloads: &'static [&'static str],
    /// What it is, for the report.
    pub(super) what: &'static str,
}

/// Everything a day has.
pub(super) const WORKS: &[Work] = &[
    Work {
        name: "web",
        workloads: &["unit:evaluate-web.service"],
        what: "a Python service whose requests start shells",
    },
    Work { name: "nginx", workloads: &["unit:evaluate-nginx.service"], what: "nginx with load" },
    Work {
        name: "postgresql",
        workloads: &["unit:evaluate-postgresql.service", "unit:evaluate-database.service"],
        what: "PostgreSQL with pgbench, vacuum and a nightly pg_dump",
    },
    Work {
        name: "cron",
        workloads: &["unit:evaluate-cron.service"],
        what: "cron: 24 hourly runs, one daily run with logrotate",
    },
    Work { name: "login", workloads: &["session:root"], what: "an administrator's logins at a terminal" },
    Work {
        name: "build",
        workloads: &["unit:evaluate-build.service"],
        what: "git, make with gcc, cargo build and test of new crates, in a folder that is always the same",
    },
    Work {
        name: "ci",
        workloads: &["unit:evaluate-ci.service"],
        what: "the same, in a new folder of `mktemp -d` for each job",
    },
    Work {
        name: "packages",
        workloads: &["unit:evaluate-packages.service"],
        what: "a package built, installed and upgraded with dpkg and apt; update-ca-certificates",
    },
    Work {
        name: "python",
        workloads: &["unit:evaluate-python.service"],
        what: "a wheel built and installed into a new venv",
    },
    Work {
        name: CONTAINERS,
        workloads: containers::WORKLOADS,
        what: "a web server in a container with health checks, and a job's container every four hours, by containerd",
    },
];

/// The works of these names, all when there are none.
///
/// # Errors
/// When there is no such work.
pub(super) fn works(names: &[String]) -> Result<Vec<Work>> {
    for name in names {
        if !WORKS.iter().any(|work| work.name == name) {
            let known: Vec<_> = WORKS.iter().map(|work| work.name).collect();
            bail!("--workloads {name}: not one of {}", known.join(", "));
        }
    }
    let is_wanted = |work: &&Work| names.is_empty() || names.iter().any(|name| name == work.name);
    Ok(WORKS.iter().filter(is_wanted).copied().collect())
}

/// Numbers that a seed determines: splitmix64.
pub(super) struct Dice(u64);

impl Dice {
    pub(super) const fn new(seed: u64) -> Self {
        Self(seed)
    }

    pub(super) const fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    /// Below `end`.
    pub(super) const fn below(&mut self, end: u64) -> u64 {
        self.next() % end
    }

    /// What `$RANDOM` of bash is seeded with.
    fn seed(&mut self) -> String {
        self.below(30_000).to_string()
    }
}

/// A host that days pass on.
pub(super) struct Host<'a> {
    room: Room,
    works: &'a [Work],
    containers: Option<&'a Containers>,
    /// Held by what uses the package manager: cron's daily jobs do too, and dpkg does not wait for its lock.
    packages: Mutex<()>,
}

impl<'a> Host<'a> {
    /// Opens a room and starts the services in it.
    pub(super) fn boot(room: Room, machine: &Machine<'a>) -> Result<Self> {
        let Machine { works, containers, .. } = *machine;
        let host = Self { room, works, containers, packages: Mutex::new(()) };
        if let Some(containers) = containers {
            containers.serve()?;
        }
        if host.has("web") {
            start_service(&host.room)?;
        }
        if host.has("nginx") {
            host.start(NGINX, &["nginx", "-g", "daemon off;"])?;
            wait_for("nginx to be ready", SHORT_LIMIT, || {
                Ok(host.room.path("/run/nginx.pid").exists().then_some(()))
            })?;
        }
        if host.has("postgresql") {
            let start = "exec pg_ctlcluster --foreground \"$(ls /etc/postgresql)\" main start";
            host.start(POSTGRESQL, &["sh", "-c", start])?;
            wait_for("PostgreSQL to be ready", SHORT_LIMIT, || {
                Ok(host.room.path("/run/postgresql/.s.PGSQL.5432").exists().then_some(()))
            })?;
        }
        Ok(host)
    }

    fn has(&self, name: &str) -> bool {
        self.works.iter().any(|work| work.name == name)
    }

    fn start(&self, place: Place, arguments: &[&str]) -> Result<()> {
        let mut child = self.room.command(place, "/", arguments)?.spawn().context("starting a service")?;
        // The room ends it.
        std::thread::spawn(move || child.wait());
        Ok(())
    }

    /// Lets one day pass. Day `number` of the same seed is always the same.
    pub(super) fn pass(&self, number: u64, seed: u64) -> Result<()> {
        let mut dice = Dice::new(seed.wrapping_mul(1_000_003).wrapping_add(number));
        let date = format!("2026-{:02}-{:02}", 1 + number / 28 % 12, 1 + number % 28);
        self.room.write("/run/evaluate/date", &date)?;
        let (ci, packages, python) = (dice.next(), dice.next(), dice.next());
        std::thread::scope(|scope| {
            let builds = scope.spawn(|| self.build(number, ci, packages, python));
            let served = self.serve(&mut dice, &date).and_then(|()| self.contain(number, seed, &date));
            let built = builds.join().expect("no thread panics");
            served.and(built)
        })
    }

    /// What is scheduled: builds, packages, a deployment.
    fn build(&self, number: u64, ci: u64, packages: u64, python: u64) -> Result<()> {
        if self.has("build") {
            let mut dice = Dice::new(ci ^ 1);
            let (seed, rounds) = (dice.seed(), (2 + dice.below(3)).to_string());
            self.script(BUILD, &["/opt/evaluate/ci.sh", &seed, &rounds, "/srv/ci/work"])?;
        }
        if self.has("ci") {
            let mut dice = Dice::new(ci);
            let (seed, rounds) = (dice.seed(), (2 + dice.below(3)).to_string());
            self.script(CI, &["/opt/evaluate/ci.sh", &seed, &rounds])?;
        }
        if self.has("packages") {
            let seed = Dice::new(packages).seed();
            let _alone = self.packages.lock().expect("no thread panics");
            self.script(PACKAGES, &["/opt/evaluate/packages.sh", &seed, &format!("1.{number}")])?;
        }
        if self.has("python") {
            self.script(PYTHON, &["/opt/evaluate/python.sh", &Dice::new(python).seed()])?;
        }
        Ok(())
    }

    fn script(&self, place: Place, arguments: &[&str]) -> Result<()> {
        let arguments: Vec<&str> = ["bash"].iter().chain(arguments).copied().collect();
        self.room.run(place, &arguments, PIECE_LIMIT)
    }

    /// Hour by hour: traffic, jobs, and people now and then.
    fn serve(&self, dice: &mut Dice, date: &str) -> Result<()> {
        let logins = LOGINS_MIN + dice.below(LOGINS_MORE);
        let hours_of_logins: Vec<u64> = (0..logins).map(|_| dice.below(HOURS)).collect();
        for hour in 0..HOURS {
            self.traffic(dice)?;
            if self.has("cron") {
                self.hourly(hour)?;
            }
            for _ in hours_of_logins.iter().filter(|of_login| **of_login == hour) {
                if self.has("login") {
                    self.log_in(dice)?;
                }
            }
        }
        if self.has("postgresql") {
            self.script(DATABASE, &["/opt/evaluate/database.sh", &dice.seed(), date])?;
        }
        Ok(())
    }

    /// What containers do in a day.
    fn contain(&self, number: u64, seed: u64, date: &str) -> Result<()> {
        let Some(containers) = self.containers else { return Ok(()) };
        let mut dice = Dice::new(!seed.wrapping_mul(1_000_003).wrapping_add(number));
        for hour in (0..HOURS).step_by(JOB_HOURS as usize) {
            containers.check(&format!("check-{number}-{hour}"))?;
            containers.job(&format!("job-{number}-{hour}"), date, &mut dice)?;
        }
        Ok(())
    }

    fn traffic(&self, dice: &mut Dice) -> Result<()> {
        let mut targets = Vec::new();
        for _ in 0..4 + dice.below(8) {
            if self.has("web") {
                let path = ["/", "/lookup?name=localhost", "/report?name=day", "/lookup?name=evaluate"];
                targets.push(format!(":8080{}", path[dice.below(4) as usize]));
            }
            if self.has("nginx") {
                targets.push([":80/", ":80/missing", ":80/index.html"][dice.below(3) as usize].to_owned());
            }
        }
        ensure!(ask(&self.room, &targets, SHORT_LIMIT)?, "{} requests: not answered in time", targets.len());
        Ok(())
    }

    /// The jobs of an hour; of the last one those of the day too.
    fn hourly(&self, hour: u64) -> Result<()> {
        let mut job = "cd / && run-parts --report /etc/cron.hourly".to_owned();
        let _alone = (hour == HOURS - 1).then(|| self.packages.lock().expect("no thread panics"));
        if hour == HOURS - 1 {
            // Logs are rotated that have not been since long: as if each day had its length.
            let state =
                "\"/var/log/web/access.log\" 2020-1-1-0:0:0\n\"/var/log/nginx/access.log\" 2020-1-1-0:0:0\n";
            self.room
                .write("/var/lib/logrotate/status", &format!("logrotate state -- version 2\n{state}"))?;
            job += "; run-parts --report /etc/cron.daily";
        }
        let shell = Shell::ALL[(hour % 2) as usize];
        self.room.write("/run/evaluate/attack", &format!("{job}\n"))?;
        let ending = cron_job(&self.room, &one_liner(shell), SHORT_LIMIT, || {})?;
        ensure!(matches!(ending, Ending::Done(_)), "the jobs of hour {hour}: {ending:?}");
        Ok(())
    }

    fn log_in(&self, dice: &mut Dice) -> Result<()> {
        let lines: Vec<&str> = ADMIN.lines().collect();
        let count = 8 + dice.below(10);
        let mut typed: Vec<String> =
            (0..count).map(|_| lines[dice.below(lines.len() as u64) as usize].to_owned()).collect();
        self.room.write("/run/evaluate/attack", "echo done\n")?;
        typed.extend(Shell::ALL.map(one_liner));
        let ending = login(&self.room, &typed, SHORT_LIMIT)?;
        ensure!(matches!(ending, Ending::Done(_)), "a login that typed {typed:?}: {ending:?}");
        Ok(())
    }

    /// A change that somebody planned: a package that the host has not had, and a new release of the service.
    pub(super) fn change(&self, seed: u64) -> Result<()> {
        if self.has("packages") {
            self.script(PACKAGES, &["/opt/evaluate/packages.sh", &Dice::new(seed).seed(), "1.0", "new"])?;
        }
        if self.has("web") {
            // The new release keeps a cache, and looks names up with another program.
            let release =
                "mkdir -p /var/cache/web && hostname -I > /var/cache/web/hosts && sed s/x/y/ /etc/hosts";
            let target =
                format!(":8080/lookup?name=localhost%0A{}", release.replace(' ', "%20").replace('&', "%26"));
            ensure!(ask(&self.room, &[target], SHORT_LIMIT)?, "the new release did not answer");
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::{Dice, WORKS, works};

    #[test]
    fn the_same_seed_gives_the_same_numbers() {
        let numbers = |seed| {
            let mut dice = Dice::new(seed);
            [dice.next(), dice.below(10), dice.next()]
        };
        assert_eq!(numbers(1), numbers(1));
        assert_ne!(numbers(1), numbers(2));
        // The first number of the reference implementation.
        assert_eq!(Dice::new(0).next(), 0xe220_a839_7b1d_cdaf);
    }

    #[test]
    fn works_are_chosen_by_name() {
        assert_eq!(works(&[]).unwrap().len(), WORKS.len());
        assert_eq!(works(&["cron".to_owned()]).unwrap()[0].name, "cron");
        assert!(
            works(&["cron".to_owned(), "x".to_owned()]).unwrap_err().to_string().contains("--workloads x")
        );
    }
}
