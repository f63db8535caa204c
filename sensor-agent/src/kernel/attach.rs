//! Attaches the hooks of the probe table: for each part the best that the running kernel takes. Not the table. It may
//! call aya.

use super::error::KernelError;
use super::iterator;
use super::load::{chain, persistently};
use super::probes::{Attach, Hook, PROBES, Probe, Program};
use super::{HookState, HookStatus, KernelOptions, tier_name};
use aya::maps::{Array, MapData};
use aya::programs::links::CgroupAttachMode;
use aya::programs::{
    BtfTracePoint, CgroupSkb, CgroupSkbAttachType, FEntry, FExit, Program as LoadedProgram, ProgramError,
    RawTracePoint,
};
use aya::{Btf, Ebpf};
use sensor_event::{Kind, Part, SYSCALL_CLASSES_LEN, SyscallClass, Tier, syscall_classes};
use std::collections::{HashMap, HashSet};
use std::fs::File;

/// Attaches everything that is wanted. What tells of processes comes first, with a look at those that are there: whoever
/// acts later is known, also who does not live until all is attached. Then the better hooks, then the tracepoints, which are
/// told what is left to them.
///
/// # Errors
/// When a part that is required got no hook.
pub(super) fn attach_all(
    ebpf: &mut Ebpf,
    btf: &Btf,
    options: &KernelOptions,
) -> Result<Vec<HookStatus>, KernelError> {
    let mut attacher = Attacher { ebpf, btf, programs: HashMap::new() };
    let mut attempts: Vec<Attempt> = PROBES
        .iter()
        .filter(|probe| options.kinds.contains(probe.part.kind()))
        .map(|probe| Attempt { probe, used: None, failures: Vec::new() })
        .collect();
    // All of them are loaded first, so that no verifier runs between attaching one and the next.
    for attempt in attempts.iter().filter(|attempt| attempt.is_of_processes()) {
        attacher.load_all(attempt.probe);
    }
    for attempt in attempts.iter_mut().filter(|attempt| attempt.is_of_processes()) {
        attacher.try_tier(attempt, Tier::TRACEPOINT, false);
    }
    for attempt in &mut attempts {
        attacher.try_tier(attempt, Tier::LSM, options.tracepoint_only);
    }
    let left = attempts.iter().filter(|attempt| attempt.used.is_none());
    let left: HashSet<Part> = left.map(|attempt| attempt.probe.part).collect();
    attacher.leave_to_tracepoints(&left)?;
    for attempt in &mut attempts {
        attacher.try_tier(attempt, Tier::TRACEPOINT, false);
    }
    attempts.into_iter().map(Attempt::status).collect()
}

/// What tells of processes and where they are, by tracepoints on all kernels.
const OF_PROCESSES: [Kind; 5] = [Kind::EXIT, Kind::FORK, Kind::EXEC, Kind::CGROUP, Kind::PROCESS];

/// A part on its way to a hook.
struct Attempt {
    probe: &'static Probe,
    used: Option<Hook>,
    /// Hooks that were tried, with the reason.
    failures: Vec<(Hook, String)>,
}

impl Attempt {
    fn is_of_processes(&self) -> bool {
        OF_PROCESSES.contains(&self.probe.part.kind())
    }

    fn status(self) -> Result<HookStatus, KernelError> {
        let Self { probe, used, mut failures } = self;
        let event = probe.part.name();
        let (hook, state) = match used {
            Some(hook) => (hook, HookState::Attached),
            None => match failures.pop() {
                Some((hook, reason)) => (hook, HookState::Failed(reason)),
                None => (&[][..], HookState::Failed("no hook in the table".to_owned())),
            },
        };
        if let HookState::Failed(reason) = &state
            && probe.is_required
        {
            return Err(KernelError::Hook { event, hook: hook_name(hook), reason: reason.clone() });
        }
        let why_not: Vec<String> =
            failures.iter().map(|(hook, reason)| format!("{}: {reason}", hook_name(hook))).collect();
        Ok(HookStatus {
            event,
            kind: probe.part.kind(),
            hook: hook_name(hook),
            tier: tier_name(tier_of(hook)),
            required: probe.is_required,
            state,
            why_not_better: why_not.join("; "),
        })
    }
}

struct Attacher<'a> {
    ebpf: &'a mut Ebpf,
    btf: &'a Btf,
    /// Programs are loaded once, however many parts share them, and what became of one goes for all.
    programs: HashMap<&'static str, Result<(), String>>,
}

impl Attacher<'_> {
    fn try_tier(&mut self, attempt: &mut Attempt, tier: Tier, is_refused: bool) {
        if attempt.used.is_some() {
            return;
        }
        for hook in attempt.probe.hooks.iter().copied().filter(|hook| tier_of(hook) == tier) {
            let attached = if is_refused {
                Err("only tracepoints were asked for".to_owned())
            } else {
                self.attach_hook(hook)
            };
            match attached {
                Ok(()) => {
                    attempt.used = Some(hook);
                    return;
                }
                Err(reason) => attempt.failures.push((hook, reason)),
            }
        }
    }

    /// Attaches all programs of a hook, or takes back those that only it needed.
    fn attach_hook(&mut self, hook: Hook) -> Result<(), String> {
        let mut attached_now = Vec::new();
        for program in hook {
            let result = match self.programs.get(program.name) {
                Some(result) => result.clone(),
                None => {
                    let result = self.attach(program);
                    self.programs.insert(program.name, result.clone());
                    attached_now.push(program.name);
                    result
                }
            };
            if let Err(reason) = result {
                for name in attached_now {
                    self.take_back(name, &reason);
                }
                let reason =
                    if hook.len() > 1 { format!("{}: {reason}", program.attach.name()) } else { reason };
                return Err(reason);
            }
        }
        Ok(())
    }

    /// Detaches a program whose companion failed. No other part can use it: its hook would fail as well.
    fn take_back(&mut self, name: &'static str, reason: &str) {
        let was_attached =
            self.programs.insert(name, Err(reason.to_owned())).is_some_and(|result| result.is_ok());
        if was_attached && let Some(program) = self.ebpf.program_mut(name) {
            // Unloading fails only for what is not loaded.
            let unloaded = match program {
                LoadedProgram::FEntry(program) => program.unload(),
                LoadedProgram::FExit(program) => program.unload(),
                LoadedProgram::BtfTracePoint(program) => program.unload(),
                LoadedProgram::RawTracePoint(program) => program.unload(),
                LoadedProgram::CgroupSkb(program) => program.unload(),
                LoadedProgram::Iter(program) => program.unload(),
                _ => Ok(()),
            };
            unloaded.unwrap_or_default();
        }
    }

    /// Loads the programs of a part. What cannot be loaded says so when it is attached.
    fn load_all(&mut self, probe: &Probe) {
        for program in probe.hooks.iter().copied().flatten() {
            let _told_when_attached = self.load(program);
        }
    }

    /// Loads a program, unless it is.
    fn load(&mut self, program: &Program) -> Result<(), String> {
        let loaded = self.ebpf.program_mut(program.name).ok_or("not in the object")?;
        if loaded.fd().is_ok() {
            return Ok(());
        }
        let btf = self.btf;
        let result = match (program.attach, loaded) {
            (Attach::Fentry(name), LoadedProgram::FEntry(loaded)) => persistently(|| loaded.load(name, btf)),
            (Attach::Fexit(name), LoadedProgram::FExit(loaded)) => persistently(|| loaded.load(name, btf)),
            (Attach::BtfTracepoint(name), LoadedProgram::BtfTracePoint(loaded)) => {
                persistently(|| loaded.load(name, btf))
            }
            (Attach::RawTracepoint(_), LoadedProgram::RawTracePoint(loaded)) => {
                persistently(|| loaded.load())
            }
            (Attach::TaskIterator, LoadedProgram::Iter(loaded)) => persistently(|| loaded.load("task", btf)),
            (Attach::CgroupEgress, LoadedProgram::CgroupSkb(loaded)) => persistently(|| loaded.load()),
            _ => Err(ProgramError::UnexpectedProgramType),
        };
        result.map_err(|error| chain(&error))
    }

    fn attach(&mut self, program: &Program) -> Result<(), String> {
        self.load(program)?;
        let loaded = self.ebpf.program_mut(program.name).ok_or("not in the object")?;
        let fail = |error: &dyn std::error::Error| chain(error);
        match program.attach {
            Attach::Fentry(_) => {
                let loaded: &mut FEntry = loaded.try_into().map_err(|error| fail(&error))?;
                loaded.attach().map(drop).map_err(|error| fail(&error))
            }
            Attach::Fexit(_) => {
                let loaded: &mut FExit = loaded.try_into().map_err(|error| fail(&error))?;
                loaded.attach().map(drop).map_err(|error| fail(&error))
            }
            Attach::BtfTracepoint(_) => {
                let loaded: &mut BtfTracePoint = loaded.try_into().map_err(|error| fail(&error))?;
                loaded.attach().map(drop).map_err(|error| fail(&error))
            }
            Attach::RawTracepoint(event) => {
                let loaded: &mut RawTracePoint = loaded.try_into().map_err(|error| fail(&error))?;
                loaded.attach(event).map(drop).map_err(|error| fail(&error))
            }
            Attach::TaskIterator => iterator::scan(loaded),
            Attach::CgroupEgress => {
                let root =
                    crate::enrich::seed::cgroup_mount().ok_or("no cgroup v2 file system is mounted")?;
                let root = File::open(&root).map_err(|error| format!("{}: {error}", root.display()))?;
                let loaded: &mut CgroupSkb = loaded.try_into().map_err(|error| fail(&error))?;
                // No flags: a link lets others attach as well (`cgroup_bpf_link_attach()`, 5.7 and later).
                let mode = CgroupAttachMode::Single;
                loaded.attach(root, CgroupSkbAttachType::Egress, mode).map(drop).map_err(|error| fail(&error))
            }
        }
    }

    /// Tells the tracepoint programs which parts no better hook sees, before they are attached.
    fn leave_to_tracepoints(&mut self, left: &HashSet<Part>) -> Result<(), KernelError> {
        let classes = syscall_classes(std::env::consts::ARCH).ok_or_else(|| {
            KernelError::Load(format!("no system call table for {}", std::env::consts::ARCH))
        })?;
        let mut syscalls: Array<&mut MapData, u16> = self.map("SYSCALLS")?;
        for (number, classes) in (0u32..).zip(classes.iter().take(SYSCALL_CLASSES_LEN)) {
            let [native, compat] = classes.to_le_bytes().map(|class| {
                let is_left = SyscallClass(class).parts().iter().any(|part| left.contains(part));
                if is_left { class } else { 0 }
            });
            set(&mut syscalls, "SYSCALLS", number, u16::from_le_bytes([native, compat]))?;
        }
        let mut parts: Array<&mut MapData, u32> = self.map("LEFT_TO_TRACEPOINTS")?;
        for part in left {
            set(&mut parts, "LEFT_TO_TRACEPOINTS", u32::from(part.0), 1)?;
        }
        Ok(())
    }

    fn map<T: aya::Pod>(&mut self, name: &'static str) -> Result<Array<&mut MapData, T>, KernelError> {
        let map =
            self.ebpf.map_mut(name).ok_or(KernelError::Map { name, reason: "not in the object".into() })?;
        Array::try_from(map).map_err(|error| KernelError::Map { name, reason: error.to_string() })
    }
}

fn set<T: aya::Pod>(
    map: &mut Array<&mut MapData, T>,
    name: &'static str,
    index: u32,
    value: T,
) -> Result<(), KernelError> {
    map.set(index, value, 0).map_err(|error| KernelError::Map { name, reason: error.to_string() })
}

fn tier_of(hook: Hook) -> Tier {
    hook.first().map_or(Tier::TRACEPOINT, |program| program.attach.tier())
}

fn hook_name(hook: Hook) -> String {
    let mut names: Vec<String> = hook.iter().map(|program| program.attach.name()).collect();
    // A program and its twin.
    names.dedup();
    names.join(" + ")
}

#[cfg(test)]
mod tests {
    use super::{HashSet, PROBES, Part, tier_of};
    use sensor_event::Kind;

    #[test]
    fn every_hook_is_of_one_tier_and_the_better_come_first() {
        for probe in PROBES {
            let tiers: Vec<u8> = probe.hooks.iter().map(|hook| tier_of(hook).0).collect();
            assert!(tiers.is_sorted(), "{}: {tiers:?}", probe.part.name());
            for hook in probe.hooks {
                assert!(hook.iter().all(|program| program.attach.tier() == tier_of(hook)));
            }
        }
    }

    #[test]
    fn no_part_stands_twice() {
        let parts: HashSet<Part> = PROBES.iter().map(|probe| probe.part).collect();
        assert_eq!(parts.len(), PROBES.len());
        assert!(parts.contains(&Part::of(Kind::EXEC)));
    }
}
