//! Who did it, as OCSF objects: users, session, container, and in `unmapped` what these have no place for. Not the
//! process object they hang on. It may call `finding`'s types and the model.

use super::model::{
    Actor, Container, Fingerprint, Group, Image, OriginObject, Process, Session, User, WhoUnmapped,
};
use super::unique;
use crate::finding::ProcessFacts;
use std::borrow::Cow;

/// Whoever acted: the process, and the user and session it acts for.
pub(super) fn actor<'a>(process: Process<'a>, facts: Option<&'a ProcessFacts>) -> Actor<'a> {
    Actor { process, user: facts.map(user), session: facts.and_then(session) }
}

pub(super) fn user(facts: &ProcessFacts) -> User<'_> {
    User { uid: facts.uid.to_string(), name: facts.who.user.as_deref() }
}

pub(super) fn group(facts: &ProcessFacts) -> Group<'_> {
    Group { uid: facts.gid.to_string(), name: facts.who.group.as_deref() }
}

/// The login: as logind numbers it where the control group says so, else as the audit subsystem does.
pub(super) fn session(facts: &ProcessFacts) -> Option<Session<'_>> {
    let audit = facts.audit_session.map(|session| session.to_string());
    match (facts.who.place.session.as_deref(), audit) {
        (Some(session), audit) => Some(Session { uid: Cow::Borrowed(session), uid_alt: audit }),
        (None, Some(audit)) => Some(Session { uid: Cow::Owned(audit), uid_alt: None }),
        (None, None) => None,
    }
}

pub(super) fn container(facts: &ProcessFacts) -> Option<Container<'_>> {
    let (place, found) = (&facts.who.place, facts.who.container.as_deref());
    let told = place.container.as_ref()?;
    let pod_uuid = place.pod.as_ref().map(|pod| pod.uid.as_str());
    let pod_uuid = pod_uuid.or_else(|| found?.pod_uid.as_deref());
    let image = found.map(|found| Image { name: found.image.as_deref(), uid: found.image_id.as_deref() });
    Some(Container {
        uid: &told.id,
        name: found.and_then(|found| found.name.as_deref()),
        image: image.filter(|image| image.name.is_some() || image.uid.is_some()),
        runtime: found.map(|found| found.runtime).or_else(|| told.runtime.map(|runtime| runtime.name())),
        pod_uuid,
        orchestrator: pod_uuid.map(|_| "kubernetes"),
    })
}

pub(super) fn hashes(facts: &ProcessFacts) -> Vec<Fingerprint<'_>> {
    let found = facts.who.hash.as_ref().and_then(|hash| hash.as_deref().ok());
    found
        .map(|value| Fingerprint { algorithm_id: SHA256_ID, algorithm: "SHA-256", value })
        .into_iter()
        .collect()
}

pub(super) fn unmapped(facts: &ProcessFacts) -> WhoUnmapped<'_> {
    let who = &facts.who;
    let container = who.container.as_deref();
    let origin = facts.origin_name().map(|kind| OriginObject {
        kind,
        process_uid: facts.origin.as_ref().map(|origin| unique(origin.identity)),
        exe: facts.origin.as_ref().map(|origin| origin.exe.as_str()),
    });
    WhoUnmapped {
        unit: who.place.unit.as_deref(),
        user_unit: who.place.user_unit.as_deref(),
        timer: who.timer.as_deref(),
        origin,
        euser: who.euser.as_deref().filter(|_| facts.euid != facts.uid),
        egroup: who.egroup.as_deref().filter(|_| facts.egid != facts.gid),
        login_user: who.login_user.as_deref(),
        container_namespace: container.and_then(|container| container.namespace.as_deref()),
        container_missing: who.container_missing,
        pod_name: container.and_then(|container| container.pod_name.as_deref()),
        pod_namespace: container.and_then(|container| container.pod_namespace.as_deref()),
        pod_qos: who.place.pod.as_ref().map(|pod| pod.qos),
        exe_on_host: who.exe_on_host.clone(),
        path_on_host: None,
        hash_missing: who.hash.as_ref().and_then(|hash| hash.as_ref().err()).map(|missing| missing.name()),
    }
}

/// `algorithm_id` of OCSF's Fingerprint object.
const SHA256_ID: u8 = 3;
