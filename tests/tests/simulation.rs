//! Delivery, simulated: the agent's real session and spool and the collector's real intake over a link that exists in
//! this file only. Each seed is a history of lost connections, frames delivered twice, connections that outlive
//! their successor, and crashes of either side between any two writes, in virtual time. Not a test of sockets.
//!
//! What must hold at the end of every history: each item that the spool accepted is stored exactly once, in order.

use sensor_agent::spool::{Clock, Content, Epoch, Keeper, NewItem, Rank};
use sensor_agent::uplink::session::{Action, Session};
use sensor_agent::wire;
use sensor_collector::intake::{self, Commit, Intake, Limits, Output, Seq};
use sensor_proto::v1;
use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::time::Duration;

const TICK: Duration = Duration::from_millis(10);
/// Virtual time with faults, and the longest that delivery may take without them: one longest wait and some.
const CHAOS_TICKS: u64 = 4_000;
const QUIET_TICKS_MAX: u64 = 60_000;
const LIMITS: Limits = Limits { credit_bytes: 4 * 1024 * 1024, batches_max: 64 };

/// SplitMix64: the same history for the same seed on every machine.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let z = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }

    fn below(&mut self, bound: u64) -> u64 {
        self.next() % bound
    }

    fn one_in(&mut self, odds: u64) -> bool {
        self.below(odds) == 0
    }
}

enum Up {
    Hello(v1::Hello),
    Batch(v1::Batch),
    Closed,
}

#[derive(Clone)]
enum Down {
    Welcome { durable: u64, credit_bytes: u64 },
    Ack { epoch: [u8; 16], upto: u64 },
    Closed,
}

/// One connection. It lives on at the collector after the agent has left it, as TCP does.
struct Connection {
    id: u64,
    up: VecDeque<(Duration, Up)>,
    down: VecDeque<(Duration, Down)>,
    intake: Option<Intake>,
}

/// A job of the collector's writer.
enum Job {
    Resume(u64, intake::Epoch),
    Commit(u64, Commit),
}

/// What survives a crash of the collector.
#[derive(Default)]
struct Stored {
    marks: BTreeMap<[u8; 16], u64>,
    /// In the order of their transactions.
    findings: Vec<([u8; 16], u64, String)>,
    gaps: Vec<(String, u64)>,
    holes: u64,
}

struct Agent {
    spool: PathBuf,
    bytes_max: u64,
    keeper: Keeper,
    session: Session,
    connection: Option<u64>,
    /// Pushed and not yet accepted, in order.
    pending: Vec<String>,
    /// Accepted, in order.
    accepted: Vec<String>,
    pushed: u64,
}

struct World {
    random: Random,
    now: Duration,
    agent: Agent,
    is_collector_up: bool,
    connections: Vec<Connection>,
    next_connection: u64,
    jobs: VecDeque<Job>,
    stored: Stored,
    faults: u64,
}

fn clock(now: Duration) -> Clock {
    Clock { monotonic: now, unix_ns: u64::try_from(now.as_nanos()).expect("virtual time is short") }
}

fn new_epoch() -> Epoch {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(1);
    let mut bytes = [0; 16];
    bytes[..8].copy_from_slice(&NEXT.fetch_add(1, Ordering::Relaxed).to_le_bytes());
    Epoch(bytes)
}

impl Agent {
    fn start(spool: &Path, bytes_max: u64, seed: u64, now: Duration) -> Self {
        let keeper = Keeper::start(spool, bytes_max, new_epoch, clock(now));
        Self {
            spool: spool.to_owned(),
            bytes_max,
            keeper,
            session: Session::new(seed),
            connection: None,
            pending: Vec::new(),
            accepted: Vec::new(),
            pushed: 0,
        }
    }

    fn push(&mut self, rank: u8, now: Duration) {
        self.pushed += 1;
        let name = format!("finding {}", self.pushed);
        let finding = v1::Finding { hostname: name.clone(), ..v1::Finding::default() };
        let content = Content::Finding(prost_encode(&finding));
        self.keeper.push(NewItem { rank: Rank(rank), time_ns: self.pushed, content }, clock(now));
        self.pending.push(name);
    }

    fn commit_if_due(&mut self, now: Duration) {
        let before = self.keeper.health().accepted_count;
        self.keeper.commit_if_due(clock(now));
        if self.keeper.health().accepted_count > before {
            self.accepted.append(&mut self.pending);
        }
        self.session.handle_spool(now, self.keeper.holding());
    }

    /// What was pending was never accepted; everything else is as the file has it.
    fn crash(&mut self, seed: u64, now: Duration) {
        let (accepted, pushed) = (std::mem::take(&mut self.accepted), self.pushed);
        let (spool, bytes_max) = (self.spool.clone(), self.bytes_max);
        *self = Self { accepted, pushed, ..Self::start(&spool, bytes_max, seed, now) };
    }
}

fn prost_encode(finding: &v1::Finding) -> Vec<u8> {
    use prost::Message as _;
    finding.encode_to_vec()
}

impl World {
    fn new(seed: u64, spool: &Path, bytes_max: u64) -> Self {
        Self {
            random: Random(seed),
            now: Duration::ZERO,
            agent: Agent::start(spool, bytes_max, seed, Duration::ZERO),
            is_collector_up: true,
            connections: Vec::new(),
            next_connection: 0,
            jobs: VecDeque::new(),
            stored: Stored::default(),
            faults: 0,
        }
    }

    /// Frames of one direction keep their order: a later one never arrives earlier.
    fn arrival(&mut self, last: Option<Duration>) -> Duration {
        let arrival = self.now + Duration::from_millis(self.random.below(80));
        last.map_or(arrival, |last| last.max(arrival))
    }

    fn send_up(&mut self, id: u64, frame: Up) {
        let last = self.connection(id).and_then(|connection| connection.up.back().map(|(at, _)| *at));
        let arrival = self.arrival(last);
        if let Some(connection) = self.connection(id) {
            connection.up.push_back((arrival, frame));
        }
    }

    fn send_down(&mut self, id: u64, frame: &Down) {
        let last = self.connection(id).and_then(|connection| connection.down.back().map(|(at, _)| *at));
        let arrival = self.arrival(last);
        let is_repeated = matches!(frame, Down::Ack { .. }) && self.random.one_in(10);
        if let Some(connection) = self.connection(id) {
            connection.down.push_back((arrival, frame.clone()));
            if is_repeated {
                connection.down.push_back((arrival, frame.clone()));
            }
        }
    }

    fn connection(&mut self, id: u64) -> Option<&mut Connection> {
        self.connections.iter_mut().find(|connection| connection.id == id)
    }

    fn tick(&mut self) {
        self.now += TICK;
        self.agent.commit_if_due(self.now);
        while let Some(action) = self.agent.session.poll_action(self.now) {
            self.perform(action);
        }
        self.deliver_down();
        self.deliver_up();
        for _ in 0..self.random.below(3) {
            self.run_job();
        }
        self.connections.retain(|connection| connection.intake.is_some() || !connection.down.is_empty());
    }

    fn perform(&mut self, action: Action) {
        match action {
            Action::Connect if self.is_collector_up => {
                self.next_connection += 1;
                let id = self.next_connection;
                let intake = Some(Intake::new(LIMITS));
                self.connections.push(Connection { id, up: VecDeque::new(), down: VecDeque::new(), intake });
                self.agent.connection = Some(id);
                self.agent.session.handle_connected(self.now);
            }
            Action::Connect => self.agent.session.handle_connect_failed(self.now),
            Action::SendHello(hello) => {
                let (epoch, first_seq, last_seq) = (hello.epoch.0.to_vec(), hello.first.0, hello.last.0);
                self.send_to_collector(Up::Hello(v1::Hello { epoch, first_seq, last_seq }));
            }
            Action::SendBatch { epoch, items } => {
                let items: Vec<v1::Item> = items.into_iter().map(wire::item_message).collect();
                let batch = v1::Batch { epoch: epoch.0.to_vec(), items };
                if self.random.one_in(20) {
                    self.send_to_collector(Up::Batch(batch.clone()));
                }
                self.send_to_collector(Up::Batch(batch));
            }
            Action::Read { from, limits } => {
                let items = self.agent.keeper.read(from, limits, clock(self.now)).expect("the disk works");
                self.agent.session.handle_read(self.now, items);
            }
            Action::Acknowledge { epoch, upto } => {
                self.agent.keeper.acknowledge(epoch, upto, clock(self.now));
            }
            Action::Renumber => self.agent.keeper.renumber(clock(self.now)),
            Action::Close { .. } => self.leave(),
        }
    }

    fn send_to_collector(&mut self, frame: Up) {
        if let Some(id) = self.agent.connection {
            self.send_up(id, frame);
        }
    }

    /// The agent has no connection any more; what it sent is still on its way.
    fn leave(&mut self) {
        if let Some(id) = self.agent.connection.take() {
            self.send_up(id, Up::Closed);
        }
    }

    fn deliver_down(&mut self) {
        let now = self.now;
        while let Some(id) = self.agent.connection {
            let due = self.connection(id).and_then(|connection| {
                connection.down.front().filter(|(at, _)| *at <= now)?;
                connection.down.pop_front()
            });
            let session = &mut self.agent.session;
            match due {
                None => return,
                Some((_, Down::Welcome { durable, credit_bytes })) => {
                    session.handle_welcome(now, sensor_agent::spool::Seq(durable), credit_bytes);
                }
                Some((_, Down::Ack { epoch, upto })) => {
                    session.handle_ack(now, Epoch(epoch), sensor_agent::spool::Seq(upto));
                }
                Some((_, Down::Closed)) => {
                    self.agent.connection = None;
                    session.handle_closed(now);
                }
            }
            while let Some(action) = self.agent.session.poll_action(now) {
                self.perform(action);
            }
        }
    }

    fn deliver_up(&mut self) {
        let now = self.now;
        for index in 0..self.connections.len() {
            loop {
                let connection = &mut self.connections[index];
                let Some(intake) = connection.intake.as_mut() else { break };
                let Some((_, frame)) = connection.up.pop_front_if(|(at, _)| *at <= now) else { break };
                let id = connection.id;
                let output = match frame {
                    Up::Hello(hello) => Some(intake.handle_hello(&hello)),
                    Up::Batch(batch) => {
                        use prost::Message as _;
                        let bytes = batch.encoded_len() as u64;
                        intake.handle_batch(batch, bytes)
                    }
                    Up::Closed => {
                        connection.intake = None;
                        None
                    }
                };
                self.obey(id, output);
            }
        }
    }

    fn obey(&mut self, id: u64, output: Option<Output>) {
        match output {
            None => {}
            Some(Output::Resume(epoch)) => self.jobs.push_back(Job::Resume(id, epoch)),
            Some(Output::Commit(commit)) => self.jobs.push_back(Job::Commit(id, commit)),
            Some(Output::Welcome { durable_upto, credit_bytes }) => {
                self.send_down(id, &Down::Welcome { durable: durable_upto.0, credit_bytes });
            }
            Some(Output::Ack { epoch, upto }) => {
                self.send_down(id, &Down::Ack { epoch: epoch.0, upto: upto.0 });
            }
            Some(Output::Close(_)) => {
                self.send_down(id, &Down::Closed);
                if let Some(connection) = self.connection(id) {
                    connection.intake = None;
                }
            }
        }
    }

    /// One transaction of the collector's store. Only here does anything become durable.
    fn run_job(&mut self) {
        match self.jobs.pop_front() {
            None => {}
            Some(Job::Resume(id, epoch)) => {
                let mark = self.stored.marks.get(&epoch.0).copied().map(Seq);
                let intake = self.connection(id).and_then(|connection| connection.intake.as_mut());
                let output = intake.map(|intake| intake.handle_resumed(mark));
                self.obey(id, output);
            }
            Some(Job::Commit(id, commit)) => {
                let result = self.stored.commit(commit);
                let intake = self.connection(id).and_then(|connection| connection.intake.as_mut());
                let output = intake.and_then(|intake| match result {
                    Ok(()) => intake.handle_committed(),
                    Err(cause) => intake.handle_commit_failed(cause),
                });
                self.obey(id, output);
            }
        }
    }

    fn break_something(&mut self) {
        if self.random.one_in(150) {
            self.faults += 1;
            self.cut();
        }
        if self.random.one_in(400) {
            self.faults += 1;
            // The collector finds out when the agent's system closes the socket.
            self.leave();
            let seed = self.random.next();
            self.agent.crash(seed, self.now);
        }
        if self.random.one_in(400) {
            self.faults += 1;
            self.crash_collector();
        }
        if !self.is_collector_up && self.random.one_in(60) {
            self.is_collector_up = true;
        }
    }

    /// The link breaks: what is on its way is lost, the agent notices, and the collector some time later.
    fn cut(&mut self) {
        let Some(id) = self.agent.connection.take() else { return };
        self.agent.session.handle_closed(self.now);
        let keeps_some = self.random.one_in(2);
        let late = self.now + Duration::from_millis(self.random.below(3_000));
        if let Some(connection) = self.connection(id) {
            connection.down.clear();
            if keeps_some {
                // Those on the far side of the break still arrive, after a new connection may have been made.
                connection.up.iter_mut().for_each(|(at, _)| *at = late);
            } else {
                connection.up.clear();
            }
            connection.up.push_back((late, Up::Closed));
        }
    }

    fn crash_collector(&mut self) {
        self.jobs.clear();
        self.connections.clear();
        self.is_collector_up = false;
        if self.agent.connection.take().is_some() {
            self.agent.session.handle_closed(self.now);
        }
    }

    /// Runs a history with faults, then without, until everything is delivered.
    fn run(&mut self) {
        for _ in 0..CHAOS_TICKS {
            if self.random.one_in(3) {
                let rank = 1 + u8::try_from(self.random.below(5)).expect("it is below 5");
                self.agent.push(rank, self.now);
            }
            self.break_something();
            self.tick();
        }
        self.is_collector_up = true;
        for _ in 0..QUIET_TICKS_MAX {
            self.tick();
            let holding = self.agent.keeper.holding().expect("the disk works");
            if self.agent.pending.is_empty() && holding.items() == 0 {
                return;
            }
        }
        panic!("not delivered: {:?}, {:?}", self.agent.keeper.holding(), self.agent.session);
    }
}

impl Stored {
    /// The store's rules: the mark moves only over what is stored, and a row is stored once.
    fn commit(&mut self, commit: Commit) -> Result<(), String> {
        let epoch = commit.epoch.0;
        let mark = self.marks.get(&epoch).copied();
        if commit.after.is_some_and(|after| mark.is_none_or(|mark| mark < after.0)) {
            return Err(format!("stored {mark:?}, needed {:?}", commit.after));
        }
        self.holes += commit.hole.map_or(0, intake::Hole::count);
        for row in commit.rows {
            if row.seq.0 <= mark.unwrap_or(0) {
                continue;
            }
            match row.content {
                intake::Content::Finding(finding) => {
                    use prost::Message as _;
                    let finding = v1::Finding::decode(finding.body.as_slice()).expect("intake encoded it");
                    self.findings.push((epoch, row.seq.0, finding.hostname));
                }
                intake::Content::Gap(gap) => self.gaps.push((gap.reason, gap.count)),
            }
        }
        let upto = self.marks.entry(epoch).or_default();
        *upto = (*upto).max(commit.upto.0);
        Ok(())
    }
}

#[test]
fn every_accepted_item_is_stored_exactly_once_and_in_order() {
    let mut faults = 0;
    for seed in 0..10 {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut world = World::new(seed, &folder.path().join("spool.db"), 1 << 30);
        world.run();
        let stored: Vec<&String> = world.stored.findings.iter().map(|(_, _, name)| name).collect();
        let accepted: Vec<&String> = world.agent.accepted.iter().collect();
        assert!(stored == accepted, "seed {seed}: {} stored, {} accepted", stored.len(), accepted.len());
        assert_eq!((world.stored.holes, world.stored.gaps.len()), (0, 0), "seed {seed}");
        faults += world.faults;
    }
    assert!(faults > 250, "only {faults} faults: the histories are too quiet to prove anything");
}

#[test]
fn what_an_overflowing_spool_drops_is_declared_exactly() {
    for seed in 100..105 {
        let folder = tempfile::tempdir().expect("a temporary folder");
        let mut world = World::new(seed, &folder.path().join("spool.db"), 3_000);
        world.run();
        let accepted = &world.agent.accepted;
        let mut rest = accepted.iter();
        for (_, seq, name) in &world.stored.findings {
            assert!(
                rest.any(|accepted| accepted == name),
                "seed {seed}: {name} ({seq}) twice or out of order"
            );
        }
        let declared: u64 = world.stored.gaps.iter().map(|(_, count)| count).sum();
        assert!(world.stored.gaps.iter().all(|(reason, _)| reason == "spool_full"));
        assert!(declared > 0, "seed {seed}: the spool never overflowed");
        let total = world.stored.findings.len() as u64 + declared;
        assert_eq!((total, world.stored.holes), (accepted.len() as u64, 0), "seed {seed}");
    }
}
