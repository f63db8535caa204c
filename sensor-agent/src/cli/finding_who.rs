//! Who a process of a finding is, for people and in JSON: what is not known is left out. Not the finding. It may call
//! `finding`'s types. The JSON has the fields of the collector's.

use crate::finding::ProcessFacts;
use serde::Serialize;

/// The lines of a block: name and text.
pub(super) fn lines(facts: &ProcessFacts) -> Vec<(&'static str, String)> {
    let (who, place) = (&facts.who, &facts.who.place);
    let mut lines = Vec::new();
    let number = |uid: u32, name: Option<&str>| match name {
        Some(name) => format!("{name} ({uid})"),
        None => uid.to_string(),
    };
    let mut user = number(facts.uid, who.user.as_deref());
    if facts.euid != facts.uid {
        user += &format!(" acting as {}", number(facts.euid, who.euser.as_deref()));
    }
    if let Some(login) = facts.login_uid.or(place.login_uid).filter(|login| *login != facts.uid) {
        user += &format!(", logged in as {}", number(login, who.login_user.as_deref()));
    }
    lines.push(("user", user));
    let unit = place.unit.as_ref().or(place.user_unit.as_ref());
    let session = place.session.as_ref().map(|session| format!("session {session}"));
    let place_text: Vec<_> = unit.cloned().into_iter().chain(session).collect();
    if !place_text.is_empty() {
        lines.push(("runs in", place_text.join(", ")));
    }
    if let Some(told) = &place.container {
        let found = who.container.as_deref();
        let name = found.and_then(|found| found.name.as_deref()).unwrap_or(&told.id);
        let runtime = found.map(|found| found.runtime).or_else(|| told.runtime.map(|runtime| runtime.name()));
        let image = found.and_then(|found| found.image.as_deref()).map(|image| format!(", image {image}"));
        let missing = who.container_missing.map(|missing| format!(" ({missing})"));
        lines.push((
            "container",
            format!(
                "{name}{}{}{}",
                runtime.map(|runtime| format!(" of {runtime}")).unwrap_or_default(),
                image.unwrap_or_default(),
                missing.unwrap_or_default()
            ),
        ));
    }
    if let Some(path) = &who.exe_on_host {
        lines.push(("on host", path.clone()));
    }
    if let Some(kind) = facts.origin_name() {
        let by = facts.origin.as_ref().map(|origin| format!(", by {} {}", origin.identity.pid, origin.exe));
        let timer = who.timer.as_ref().map(|timer| format!(", by {timer}"));
        lines.push(("origin", format!("{kind}{}", by.or(timer).unwrap_or_default())));
    }
    match who.hash.as_ref() {
        Some(Ok(hash)) => lines.push(("sha256", hash.to_string())),
        Some(Err(missing)) => lines.push(("sha256", format!("none: {}", missing.name()))),
        None => {}
    }
    lines
}

/// The JSON object.
#[derive(Debug, Serialize)]
pub(super) struct WhoObject<'a> {
    gid: u32,
    egid: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    login_uid: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    audit_session: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    euser: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    group: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    egroup: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    login_user: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    session: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    unit: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    user_unit: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    timer: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    origin: Option<OriginObject<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    container: Option<ContainerObject<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    container_missing: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pod: Option<PodObject<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    exe_on_host: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sha256: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    sha256_missing: Option<&'a str>,
}

#[derive(Debug, Serialize)]
struct OriginObject<'a> {
    kind: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pid: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    start_time_ns: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    exe: Option<&'a str>,
}

#[derive(Debug, Serialize)]
struct ContainerObject<'a> {
    id: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    image: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    image_id: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    runtime: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    namespace: Option<&'a str>,
}

#[derive(Debug, Serialize)]
struct PodObject<'a> {
    uid: &'a str,
    #[serde(skip_serializing_if = "Option::is_none")]
    name: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    namespace: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    qos: Option<&'a str>,
}

impl<'a> From<&'a ProcessFacts> for WhoObject<'a> {
    fn from(facts: &'a ProcessFacts) -> Self {
        let (who, place) = (&facts.who, &facts.who.place);
        Self {
            gid: facts.gid,
            egid: facts.egid,
            login_uid: facts.login_uid,
            audit_session: facts.audit_session,
            user: who.user.as_deref(),
            euser: who.euser.as_deref(),
            group: who.group.as_deref(),
            egroup: who.egroup.as_deref(),
            login_user: who.login_user.as_deref(),
            session: place.session.as_deref(),
            unit: place.unit.as_deref(),
            user_unit: place.user_unit.as_deref(),
            timer: who.timer.as_deref(),
            origin: facts.origin_name().map(|kind| OriginObject {
                kind,
                pid: facts.origin.as_ref().map(|origin| origin.identity.pid),
                start_time_ns: facts.origin.as_ref().map(|origin| origin.identity.start_time_ns),
                exe: facts.origin.as_ref().map(|origin| origin.exe.as_str()),
            }),
            container: container(facts),
            container_missing: who.container_missing,
            pod: pod(facts),
            exe_on_host: who.exe_on_host.clone(),
            sha256: who.hash.as_ref().and_then(|hash| hash.as_deref().ok()),
            sha256_missing: facts.hash_missing(),
        }
    }
}

fn container(facts: &ProcessFacts) -> Option<ContainerObject<'_>> {
    let (told, found) = (facts.who.place.container.as_ref()?, facts.who.container.as_deref());
    Some(ContainerObject {
        id: &told.id,
        name: found.and_then(|found| found.name.as_deref()),
        image: found.and_then(|found| found.image.as_deref()),
        image_id: found.and_then(|found| found.image_id.as_deref()),
        runtime: found.map(|found| found.runtime).or_else(|| told.runtime.map(|runtime| runtime.name())),
        namespace: found.and_then(|found| found.namespace.as_deref()).or(told.namespace.as_deref()),
    })
}

fn pod(facts: &ProcessFacts) -> Option<PodObject<'_>> {
    let (told, found) = (facts.who.place.pod.as_ref(), facts.who.container.as_deref());
    let uid = told.map(|pod| pod.uid.as_str()).or_else(|| found?.pod_uid.as_deref())?;
    Some(PodObject {
        uid,
        name: found.and_then(|found| found.pod_name.as_deref()),
        namespace: found.and_then(|found| found.pod_namespace.as_deref()),
        qos: told.map(|pod| pod.qos),
    })
}
