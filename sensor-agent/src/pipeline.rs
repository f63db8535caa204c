//! Record in, events, observations and findings out: one synchronous function. Not a driver: no clock, no I/O, no
//! thread. It may call `event`, `enrich`, `connect_join`, `finding` and the baseline crate.

mod incidents;
mod naming;
mod observe;
mod repeated;
mod rules;
mod telling;
mod verdicts;

use crate::account::Delivered;
use crate::connect_join::{ConnectJoin, Joined};
use crate::enrich::fresh_files::makes_programs;
use crate::enrich::process_table::{Policy, Scope};
use crate::enrich::seed::{Rescan, Seed};
use crate::enrich::workload::image_workload;
use crate::enrich::{FreshFiles, Process, ProcessTable};
use crate::event::{Body, BootNs, ConnectResult, Event, Identity, Socket};
use crate::finding::{Finding, ProcessFacts};
use crate::sigma::Rules;
use crate::who::place::ContainerRef;
use incidents::Incidents;
pub use naming::ContainerImage;
use naming::{Act, Name, Naming};
use observe::{Doer, is_never_observed, observed};
pub use repeated::Repeated;
use rules::asks_rules_of_known;
use sensor_baseline::{Behaviour, Floor, Layers, Observation, UnixNs, Verdict, Workload};
use std::collections::BTreeMap;
use std::sync::Arc;
pub use telling::Telling;
use telling::Tellings;
pub use verdicts::{PROCESSES_MAX, Remember, VerdictOptions};
use verdicts::{Standing, Verdicts};

/// How a pipeline is set up.
#[derive(Debug)]
pub struct PipelineConfig {
    /// What to judge against; without one only floor rules find anything.
    pub baseline: Option<Layers>,
    /// What is a finding whatever a baseline says.
    pub floor: Arc<Floor>,
    /// What is watched.
    pub scope: Scope,
    /// The agent's own process, whose doings are no observations.
    pub own: Option<Identity>,
    /// Added to boot time to get the wall clock.
    pub boot_to_unix_offset_ns: i64,
    /// Whether [`Output::events`] is filled.
    pub emit_events: bool,
    /// How often the same finding is told.
    pub telling: Telling,
    /// Whether somebody asks for [`Pipeline::unnamed`] and answers: what containers do waits for that.
    pub are_containers_named: bool,
    /// What is found beside the baseline.
    pub rules: Arc<Rules>,
    /// What the kernel is to remember of verdicts; `None` when it remembers none.
    pub verdicts: Option<VerdictOptions>,
}

impl Default for PipelineConfig {
    fn default() -> Self {
        Self {
            baseline: None,
            floor: Arc::clone(Floor::built_in()),
            scope: Scope::Host,
            own: None,
            boot_to_unix_offset_ns: 0,
            emit_events: false,
            telling: Telling::default(),
            are_containers_named: false,
            rules: Arc::default(),
            verdicts: None,
        }
    }
}

/// An event with who did it.
#[derive(Clone, Debug, PartialEq)]
pub struct EnrichedEvent {
    /// The kernel's word.
    pub event: Event,
    /// Wall clock.
    pub time: UnixNs,
    /// The process it is about: of an exec and a fork the new one, else the acting one. `None` when nobody knows:
    /// a connect result that came after its connect was passed on.
    pub process: Option<ProcessFacts>,
    /// That process's parent.
    pub parent: Option<ProcessFacts>,
    /// That process's workload; of a container by its id: see [`EnrichedEvent::workload_name`].
    pub workload: Workload,
    /// Of a ptrace or a memory write: the process that is reached into, when it is known.
    pub target: Option<ProcessFacts>,
    /// Of an exec: permitted capabilities that the process did not have before, when those are known.
    pub capabilities_gained: Option<u64>,
}

impl EnrichedEvent {
    /// What a baseline calls the workload, as far as is known: a container by its image, when that was looked up.
    #[must_use]
    pub fn workload_name(&self) -> Workload {
        let container = self.process.as_ref().and_then(|process| process.who.container.as_ref());
        let image = container.and_then(|container| container.image.as_deref());
        let name = image.filter(|_| naming::is_container(&self.workload)).and_then(image_workload);
        name.unwrap_or_else(|| self.workload.clone())
    }
}

/// What one call gives. The caller empties it.
#[derive(Debug, Default)]
pub struct Output {
    /// Every event in scope, if asked for.
    pub events: Vec<EnrichedEvent>,
    /// Verdicts worth sending.
    pub findings: Vec<Finding>,
    /// Every observation, for learners, but for those that a rule holds.
    pub observations: Vec<(Observation, Verdict)>,
    /// Observations that were made again without a record, with how often.
    pub repeated: Vec<Repeated>,
    /// Each observation that a Sigma rule keeps from being learned, and the rule as learners call it.
    pub withheld: Vec<(Observation, Arc<str>)>,
    /// Each observation that the baseline has nothing against and a rule matches.
    pub matches: Vec<RuleMatch>,
}

impl Output {
    /// Makes it empty, and keeps its memory.
    pub fn clear(&mut self) {
        self.events.clear();
        self.findings.clear();
        self.observations.clear();
        self.repeated.clear();
        self.withheld.clear();
        self.matches.clear();
    }
}

/// What a rule alone has found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RuleMatch {
    /// What was done.
    pub behaviour: Behaviour,
    /// It would have been learned without the rule.
    pub is_held: bool,
}

/// The stages between a record and a finding.
#[derive(Debug)]
pub struct Pipeline {
    config: PipelineConfig,
    processes: ProcessTable,
    fresh_files: FreshFiles,
    connects: ConnectJoin<EnrichedEvent>,
    incidents: Incidents,
    naming: Naming,
    tellings: Tellings,
    verdicts: Option<Verdicts>,
    policy: u32,
    now: BootNs,
    delivered: Delivered,
    /// Waits for the records from before it.
    rescan: Option<Rescan>,
    counters: Counters,
    /// By rule: how often it was silenced.
    silenced: BTreeMap<String, u64>,
}

#[derive(Debug, Default)]
struct Counters {
    records: u64,
    records_unknown_kind: u64,
    observations: u64,
    observations_of_unknown: u64,
    findings: u64,
    findings_repeated: u64,
    sigma_matches: u64,
    sigma_matches_unnamed: u64,
    sigma_held: u64,
    connects_unjoined: u64,
    connect_results_late: u64,
}

impl Pipeline {
    /// With nothing seen yet.
    #[must_use]
    pub fn new(config: PipelineConfig) -> Self {
        Self {
            processes: ProcessTable::new(Policy { own: config.own, scope: config.scope.clone() }),
            fresh_files: FreshFiles::default(),
            connects: ConnectJoin::default(),
            incidents: Incidents::default(),
            naming: Naming::new(config.are_containers_named),
            tellings: Tellings::new(config.telling),
            verdicts: config
                .verdicts
                .map(|options| Verdicts::new(options, asks_rules_of_known(&config.rules))),
            policy: 0,
            now: BootNs::default(),
            delivered: Delivered::default(),
            rescan: None,
            counters: Counters::default(),
            silenced: BTreeMap::new(),
            config,
        }
    }

    /// What the host looked like at start; before any record.
    pub fn seed(&mut self, seed: Seed) {
        for cgroup in &seed.cgroups {
            self.processes.seed_cgroup(cgroup.id, &cgroup.path);
        }
        self.processes.seed(seed.processes, BootNs(seed.taken_ns));
    }

    /// A later scan of the host, to repair what lost records left wrong: compared once everything from before it has
    /// been handled.
    pub fn reconcile(&mut self, rescan: Rescan) {
        self.rescan = Some(rescan);
    }

    /// Takes one record. Total: bytes that are no record are counted.
    pub fn handle(&mut self, record: &[u8], out: &mut Output) {
        self.counters.records += 1;
        // One that cannot be decoded is counted by kind.
        if let Ok(record) = self.delivered.decode(record) {
            let event = Event::from_record(&record);
            self.advance(event.time, out);
            let made = out.observations.len();
            let actor = event.actor.identity;
            let standing = self.dispatch(event, out);
            if let Some(verdicts) = &mut self.verdicts
                && let Some(process) = self.processes.find(actor)
            {
                verdicts.see(&record, standing, process, out.observations[made..].last());
            }
        }
    }

    /// Counts records that nobody will hand in any more.
    pub const fn abandon_unread(&mut self, kind: sensor_event::Kind, count: u64) {
        self.delivered.abandon_unread(kind, count);
    }

    /// Time passes: passes on connects that wait too long, forgets ended processes.
    pub fn tick(&mut self, now: BootNs, out: &mut Output) {
        self.advance(now, out);
    }

    /// Containers whose image has to be told before what they do is judged.
    pub fn unnamed(&self) -> impl Iterator<Item = &ContainerRef> {
        self.naming.awaited()
    }

    /// Takes a container's image, and judges what waited for it.
    pub fn name(&mut self, image: &ContainerImage, out: &mut Output) {
        let mut acts = Vec::new();
        self.naming.answer(image, self.now, |act| acts.push(act));
        self.judge_all(acts, out);
    }

    /// Judges what waits for a container's image: nobody will tell it.
    pub fn give_up_naming(&mut self, out: &mut Output) {
        let mut acts = Vec::new();
        self.naming.give_up(|act| acts.push(act));
        self.judge_all(acts, out);
    }

    /// Tells how often findings were repeated since they were told last: nothing more comes.
    pub fn tell_repeats(&mut self, out: &mut Output) {
        self.tellings.tell_rest(|finding| out.findings.push(finding));
    }

    /// Judges by another baseline from now on. What was told by the old one may be told again; how often that was
    /// repeated is told now.
    pub fn set_baseline(&mut self, baseline: Option<Layers>, out: &mut Output) {
        self.tell_repeats(out);
        self.config.baseline = baseline;
        self.policy = self.next_policy();
        if let Some(verdicts) = &mut self.verdicts {
            verdicts.set_policy(self.policy);
        }
    }

    /// What turns a record's time into wall-clock time from now on; the wall clock may have been set.
    pub const fn set_boot_to_unix_offset_ns(&mut self, offset_ns: i64) {
        self.config.boot_to_unix_offset_ns = offset_ns;
    }

    /// The baseline in force.
    #[must_use]
    pub const fn baseline(&self) -> Option<&Layers> {
        self.config.baseline.as_ref()
    }

    /// Every process that has not ended.
    pub fn processes(&self) -> impl Iterator<Item = &Process> {
        self.processes.alive()
    }

    /// Processes of the watched command that have not ended.
    #[must_use]
    pub fn running_in_scope(&self) -> usize {
        self.processes.running_in_scope()
    }

    /// Whether the watched command was seen to start: without that, nothing of it was judged.
    #[must_use]
    pub const fn has_scope_started(&self) -> bool {
        self.processes.has_scope_started()
    }

    /// What became of the records that were handed in, by kind.
    #[must_use]
    pub const fn delivered(&self) -> &Delivered {
        &self.delivered
    }

    /// By floor or Sigma rule: on how many observations it would have fired, had a person not silenced it there.
    #[must_use]
    pub const fn silenced(&self) -> &BTreeMap<String, u64> {
        &self.silenced
    }

    /// Everything that went by, by name.
    #[must_use]
    pub fn counters(&self) -> BTreeMap<&'static str, u64> {
        let (table, repairs) = (self.processes.counters(), self.processes.repairs());
        BTreeMap::from([
            ("records", self.counters.records),
            ("records_undecodable", self.delivered.undecodable_total()),
            ("records_unknown_kind", self.counters.records_unknown_kind),
            ("observations", self.counters.observations),
            ("incidents_evicted", self.incidents.evicted_count()),
            ("observations_unnamed", self.naming.given_up_count()),
            ("observations_of_unknown", self.counters.observations_of_unknown),
            ("findings", self.counters.findings),
            ("findings_repeated", self.counters.findings_repeated),
            ("findings_repeated_untold", self.tellings.untold_count()),
            ("findings_told_evicted", self.tellings.evicted_count()),
            ("sigma_rules", self.config.rules.len() as u64),
            ("sigma_rules_refused", self.config.rules.refused_count()),
            ("sigma_matches", self.counters.sigma_matches),
            ("sigma_matches_unnamed", self.counters.sigma_matches_unnamed),
            ("sigma_observations_held", self.counters.sigma_held),
            ("connects_unjoined", self.counters.connects_unjoined),
            ("connect_results_late", self.counters.connect_results_late),
            ("processes", self.processes.len() as u64),
            ("processes_unknown", table.unknown),
            ("processes_evicted", table.evicted),
            ("process_rescans", repairs.scans),
            ("processes_repaired{lost=fork}", repairs.forks),
            ("processes_repaired{lost=exec}", repairs.execs),
            ("processes_repaired{lost=exit}", repairs.exits),
            ("arguments_forgotten", table.arguments_forgotten),
            ("exits_repeated", table.exits_repeated),
            ("cgroups_evicted", self.processes.cgroups_evicted_count()),
            ("fresh_files_evicted", self.fresh_files.evicted_count()),
            ("verdicts_remembered", self.verdicts.as_ref().map_or(0, Verdicts::len) as u64),
            ("verdicts_evicted", self.verdicts.as_ref().map_or(0, Verdicts::evicted_count)),
            ("verdict_hits", self.verdicts.as_ref().map_or(0, Verdicts::hits_count)),
        ])
    }

    fn advance(&mut self, now: BootNs, out: &mut Output) {
        self.now = self.now.max(now);
        if let Some(rescan) = self.rescan.take_if(|rescan| rescan.seed.taken_ns < now.0) {
            self.processes.reconcile(rescan);
        }
        self.processes.expire(self.now);
        let mut late = Vec::new();
        self.naming.expire(self.now, |act| late.push(act));
        self.judge_all(late, out);
        self.tellings.tell_due(self.now, |finding| out.findings.push(finding));
        let (emit_events, unjoined) = (self.config.emit_events, &mut self.counters.connects_unjoined);
        self.connects.release(self.now, |event| {
            *unjoined += 1;
            if emit_events {
                out.events.push(event);
            }
        });
    }

    fn dispatch(&mut self, event: Event, out: &mut Output) -> Standing {
        match &event.body {
            Body::Unknown(_) => self.counters.records_unknown_kind += 1,
            Body::ConnectResult(socket) => {
                let socket = socket.clone();
                self.finish_connect(event, socket, out);
            }
            Body::Fork(fork) => {
                let child = Arc::clone(self.processes.fork(&event, fork));
                self.emit(event, &child, out);
            }
            Body::Exit(_) => {
                self.process_changed(event.actor.identity);
                if let Some(process) = self.processes.exit(&event).cloned() {
                    self.emit(event, &process, out);
                }
            }
            Body::Exec(exec) => {
                self.process_changed(event.actor.identity);
                let before = self.processes.exec(&event, exec);
                let gained = before.privileges.gained_by(exec);
                let process = self.processes.find(event.actor.identity).unwrap_or(&before).clone();
                self.observe(&event, &before, &process, out);
                self.emit_with(event, &process, gained, out);
            }
            Body::Creds(creds) => {
                let process = Arc::clone(self.processes.set_creds(&event, creds));
                self.emit(event, &process, out);
            }
            Body::Namespace(namespace) => {
                let process = Arc::clone(self.processes.set_namespaces(&event, namespace));
                self.emit(event, &process, out);
            }
            Body::Cgroup(cgroup) => {
                self.processes.learn_cgroup(cgroup, event.time);
                let process = Arc::clone(self.processes.touch(&event.actor, self.now));
                self.emit(event, &process, out);
            }
            Body::Process(exec) => {
                let process = Arc::clone(self.processes.found(&event, exec));
                self.emit(event, &process, out);
            }
            _ => {
                let process = Arc::clone(self.processes.touch(&event.actor, self.now));
                let standing = self.observe(&event, &process, &process, out);
                self.emit(event, &process, out);
                return standing;
            }
        }
        Standing::Open
    }

    /// The one place that says whose doings count: not the agent's, and with a command only its tree's.
    fn is_watched(&self, process: &Process) -> bool {
        let is_in_scope = match self.config.scope {
            Scope::Host => true,
            Scope::Command(_) => process.is_in_scope,
        };
        is_in_scope && !process.is_own
    }

    /// The process that another reaches into, when it is known.
    fn target(&self, body: &Body) -> Option<&Process> {
        match body {
            Body::Ptrace(target) | Body::VmWrite(target) => self.processes.find(target.target?),
            _ => None,
        }
    }

    fn emit(&mut self, event: Event, process: &Process, out: &mut Output) {
        self.emit_with(event, process, None, out);
    }

    fn emit_with(
        &mut self,
        event: Event,
        process: &Process,
        capabilities_gained: Option<u64>,
        out: &mut Output,
    ) {
        if !self.config.emit_events || !self.is_watched(process) {
            return;
        }
        let enriched = EnrichedEvent {
            time: self.wall_clock(event.time),
            process: Some(process.facts()),
            parent: self.processes.parent(process).map(Process::facts),
            workload: process.workload.clone(),
            target: self.target(&event.body).map(Process::facts),
            capabilities_gained,
            event,
        };
        let pending = match &enriched.event.body {
            Body::Connect(Socket { socket, result: ConnectResult::Pending, .. }) => Some(*socket),
            _ => None,
        };
        match pending {
            Some(socket) => {
                let displaced = self.connects.hold(socket, self.now, enriched);
                self.counters.connects_unjoined += u64::from(displaced.is_some());
                out.events.extend(displaced);
            }
            None => out.events.push(enriched),
        }
    }

    fn finish_connect(&mut self, event: Event, socket: Socket, out: &mut Output) {
        if !self.config.emit_events {
            return;
        }
        match self.connects.join(socket.socket, socket.result) {
            Joined::With(mut enriched) => {
                if let Body::Connect(connect) = &mut enriched.event.body {
                    let source_port =
                        if socket.source_port == 0 { connect.source_port } else { socket.source_port };
                    *connect = Socket { source_port, ..socket };
                }
                out.events.push(enriched);
            }
            Joined::Late if self.config.scope == Scope::Host => {
                self.counters.connect_results_late += 1;
                let time = self.wall_clock(event.time);
                let workload = Workload(String::new());
                out.events.push(EnrichedEvent {
                    event,
                    time,
                    process: None,
                    parent: None,
                    workload,
                    target: None,
                    capabilities_gained: None,
                });
            }
            Joined::Late => self.counters.connect_results_late += 1,
        }
    }

    /// `process` did it; `became` is what it is now, another program after an exec.
    fn observe(&mut self, event: &Event, process: &Process, became: &Process, out: &mut Output) -> Standing {
        if !self.is_watched(process) {
            return Standing::Open;
        }
        let time = self.wall_clock(event.time);
        let Some(mut observation) = observed(event, process, &mut self.fresh_files, time) else {
            return if is_never_observed(event) { Standing::Nothing } else { Standing::Open };
        };
        let name = self.naming.of(process, self.now);
        if let Name::Known(workload) = &name {
            observation.behaviour.workload = workload.clone();
        }
        let rules = self.rules_met(event, process, &observation);
        let (is_of_unknown, tier) = (process.is_unknown(), event.tier);
        if !matches!(name, Name::Awaited) {
            let is_plain = self.judge(observation, rules, Doer { process: became, is_of_unknown, tier }, out);
            // A linker's output is no fresh file, and everybody else's is.
            let is_product = matches!(event.body, Body::FileOpen(_)) && makes_programs(&process.image);
            // A container is to be called by its image as soon as that is known.
            let is_unnamed = matches!(name, Name::Own) && naming::is_container(&process.workload);
            if !is_plain || is_product || is_unnamed {
                return Standing::Open;
            }
            return Standing::Plain;
        }
        let act = Act { observation, rules, process: became.clone(), is_of_unknown, tier };
        let displaced = self.naming.hold(act, self.now);
        self.judge_all(displaced, out);
        Standing::Open
    }

    fn judge_all(&mut self, acts: impl IntoIterator<Item = Act>, out: &mut Output) {
        for Act { observation, rules, process, is_of_unknown, tier } in acts {
            let _is_plain =
                self.judge(observation, rules, Doer { process: &process, is_of_unknown, tier }, out);
        }
    }

    fn wall_clock(&self, time: BootNs) -> UnixNs {
        UnixNs(time.0.saturating_add_signed(self.config.boot_to_unix_offset_ns))
    }
}

#[cfg(test)]
mod flood_tests;
#[cfg(test)]
mod incidents_tests;
#[cfg(test)]
mod kinds_tests;
#[cfg(test)]
mod naming_tests;
#[cfg(test)]
mod rules_tests;
#[cfg(test)]
mod tests;
