//! Privilege events as OCSF: processes that change or reach into others (1007, 1004), and what is asked of the kernel
//! (1002, 1003). Not the objects all classes share. It may call `event` and `pipeline` types.

use super::model::{Activity, Process};
use super::objects::{Driver, DriverFile, Kernel};
use super::{Class, Ocsf, bare_process, errno_status};
use crate::event::{BpfLoad, Cgroup, Creds, ModuleLoad, Namespace, Target, names};
use crate::finding::ProcessFacts;
use crate::pipeline::EnrichedEvent;
use std::borrow::Cow;

impl Ocsf {
    /// A user id that changed is OCSF's "Set User ID"; for groups and capabilities it has no word.
    pub(super) fn creds<'a>(
        &'a self,
        enriched: &'a EnrichedEvent,
        creds: &Creds,
        activity: &mut Activity<'a>,
    ) {
        let is_user_changed =
            creds.old.is_none_or(|old| (old.uid, old.euid) != (creds.new.uid, creds.new.euid));
        let is_group_changed =
            creds.old.is_some_and(|old| (old.gid, old.egid) != (creds.new.gid, creds.new.egid));
        let (id, name) = match (is_user_changed, is_group_changed) {
            (true, _) => (5, "Set User ID"),
            (false, true) => (OTHER, "Set Group ID"),
            (false, false) => (OTHER, "Set Capabilities"),
        };
        activity.classify(Class::Process, id, name);
        activity.status(errno_status(0));
        activity.process = self.about(enriched);
        let details = &mut activity.unmapped.details;
        details.ids_before = creds.old.map(Into::into);
        details.ids_after = Some(creds.new.into());
        details.capabilities_gained = creds.gained().map(names::capabilities).unwrap_or_default();
        details.capabilities_dropped = creds.dropped().map(names::capabilities).unwrap_or_default();
        details.capabilities_effective = Some(capability_set(creds.caps.0));
        details.capabilities_permitted = Some(capability_set(creds.caps.1));
    }

    pub(super) fn ptrace<'a>(
        &'a self,
        enriched: &'a EnrichedEvent,
        target: &Target,
        activity: &mut Activity<'a>,
    ) {
        activity.classify(Class::Process, 4, "Inject");
        (activity.objects.injection_type_id, activity.objects.injection_type) =
            (Some(INJECTION_OTHER), Some("ptrace"));
        self.target(enriched, target, activity);
        let details = &mut activity.unmapped.details;
        (details.request, details.intent) =
            (Some(target.request), Some(names::ptrace_request(target.request)));
    }

    pub(super) fn vm_write<'a>(
        &'a self,
        enriched: &'a EnrichedEvent,
        target: &Target,
        activity: &mut Activity<'a>,
    ) {
        activity.classify(Class::Memory, 8, "Write");
        self.target(enriched, target, activity);
        activity.unmapped.details.areas = Some(target.request);
    }

    fn target<'a>(&'a self, enriched: &'a EnrichedEvent, target: &Target, activity: &mut Activity<'a>) {
        activity.status(errno_status(target.result));
        let known = enriched.target.as_ref().map(|facts| self.process(facts, None, None));
        let process = known.or_else(|| target.target.map(bare_process)).unwrap_or_else(|| Process {
            // Nothing has this number in the initial namespace as far as anybody knows.
            pid: target.given_pid,
            ..Process::default()
        });
        activity.process = Some(Box::new(process));
        activity.unmapped.details.given_pid = Some(target.given_pid).filter(|pid| *pid != 0);
    }

    /// A process that was there: nobody launched it just now.
    pub(super) fn process_found<'a>(&'a self, enriched: &'a EnrichedEvent, activity: &mut Activity<'a>) {
        activity.classify(Class::ProcessQuery, 1, "Query");
        activity.status(errno_status(0));
        (activity.objects.query_result_id, activity.objects.query_result) = (Some(1), Some("Exists"));
        activity.process = self.about(enriched);
        activity.actor = None;
    }

    fn about<'a>(&'a self, enriched: &'a EnrichedEvent) -> Option<Box<Process<'a>>> {
        let parent = enriched.parent.as_ref();
        let describe = |facts: &'a ProcessFacts| self.process(facts, parent, Some(&enriched.event));
        enriched.process.as_ref().map(describe).map(Box::new)
    }
}

pub(super) fn module<'a>(module: &'a ModuleLoad, activity: &mut Activity<'a>) {
    activity.classify(Class::KernelExtension, 1, "Load");
    activity.status(errno_status(0));
    activity.objects.driver = Some(Driver { file: DriverFile { name: &module.name, type_id: 1 } });
    activity.unmapped.details.taints = Some(module.taints).filter(|taints| *taints != 0);
}

pub(super) fn bpf<'a>(bpf: &'a BpfLoad, activity: &mut Activity<'a>) {
    activity.classify(Class::Kernel, 1, "Create");
    activity.status(errno_status(bpf.result));
    activity.objects.kernel = Some(Kernel {
        name: Cow::Borrowed(&bpf.name),
        type_id: OTHER_TYPE,
        kind: "BPF Program",
        system_call: "bpf",
    });
    let details = &mut activity.unmapped.details;
    details.bpf_id = Some(bpf.program_id).filter(|id| *id != 0);
    details.bpf_type = Some(names::bpf_program_type(bpf.program_type));
    details.bpf_tag = Some(&bpf.tag);
    details.bpf_instructions = Some(bpf.instructions);
}

pub(super) fn namespace(namespace: &Namespace, activity: &mut Activity<'_>) {
    activity.classify(Class::Kernel, 4, "Invoke");
    activity.status(errno_status(namespace.result));
    let system_call = if namespace.is_setns { "setns" } else { "unshare" };
    activity.objects.kernel = Some(Kernel {
        name: Cow::Borrowed(system_call),
        type_id: SYSTEM_CALL_TYPE,
        kind: "System Call",
        system_call,
    });
    let details = &mut activity.unmapped.details;
    details.namespaces_changed = names::namespaces(namespace.flags);
    details.namespaces = Some(namespace.namespaces.into());
}

pub(super) fn cgroup<'a>(cgroup: &'a Cgroup, activity: &mut Activity<'a>) {
    activity.classify(Class::Kernel, 1, "Create");
    activity.status(errno_status(0));
    activity.objects.kernel = Some(Kernel {
        name: Cow::Borrowed(&cgroup.path.text),
        type_id: OTHER_TYPE,
        kind: "Control Group",
        system_call: "mkdir",
    });
    activity.unmapped.details.cgroup_id = Some(cgroup.id);
}

/// A set of capabilities as /proc/PID/status shows it.
fn capability_set(bits: u64) -> String {
    format!("{bits:016x}")
}

/// An activity that the class has no number for.
const OTHER: u32 = 99;
const OTHER_TYPE: u8 = 99;
/// `kernel.type_id`.
const SYSTEM_CALL_TYPE: u8 = 2;
/// `injection_type_id`: none of the ways of other systems.
const INJECTION_OTHER: u8 = 99;
