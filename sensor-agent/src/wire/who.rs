//! Who a process is, as it goes out. Not the process itself. It may call the generated types and `finding`'s.

use crate::finding::ProcessFacts;
use sensor_proto::v1;

pub(super) fn who_message(facts: &ProcessFacts) -> v1::Who {
    let who = &facts.who;
    let place = &who.place;
    let text = |text: &Option<std::sync::Arc<str>>| text.as_deref().unwrap_or_default().to_owned();
    v1::Who {
        gid: facts.gid,
        egid: facts.egid,
        login_uid: facts.login_uid,
        audit_session: facts.audit_session,
        user: text(&who.user),
        euser: text(&who.euser),
        group: text(&who.group),
        egroup: text(&who.egroup),
        login_user: text(&who.login_user),
        session: place.session.clone().unwrap_or_default(),
        unit: place.unit.clone().unwrap_or_default(),
        user_unit: place.user_unit.clone().unwrap_or_default(),
        timer: text(&who.timer),
        origin: origin(facts),
        container: container(facts),
        container_missing: who.container_missing.unwrap_or_default().to_owned(),
        pod: pod(facts),
        exe_on_host: facts.who.exe_on_host.clone().unwrap_or_default(),
        sha256: who.hash.as_ref().and_then(|hash| hash.as_deref().ok()).unwrap_or_default().to_owned(),
        sha256_missing: facts.hash_missing().unwrap_or_default().to_owned(),
    }
}

/// Cuts what a container's maker chooses freely.
pub(super) fn shorten_who(who: &mut v1::Who, bytes_max: usize) {
    super::cut(&mut who.exe_on_host, bytes_max);
    if let Some(container) = &mut who.container {
        super::cut(&mut container.name, bytes_max);
        super::cut(&mut container.image, bytes_max);
        super::cut(&mut container.image_id, bytes_max);
    }
    if let Some(pod) = &mut who.pod {
        super::cut(&mut pod.name, bytes_max);
        super::cut(&mut pod.namespace, bytes_max);
    }
}

fn origin(facts: &ProcessFacts) -> Option<v1::Origin> {
    let kind = facts.origin_name()?.to_owned();
    Some(match &facts.origin {
        Some(origin) => v1::Origin {
            kind,
            pid: origin.identity.pid,
            start_time_ns: origin.identity.start_time_ns,
            exe: origin.exe.clone(),
        },
        None => v1::Origin { kind, ..v1::Origin::default() },
    })
}

fn container(facts: &ProcessFacts) -> Option<v1::Container> {
    let told = facts.who.place.container.as_ref()?;
    let found = facts.who.container.as_deref().cloned().unwrap_or_default();
    let told_runtime = || told.runtime.map_or("", |runtime| runtime.name());
    Some(v1::Container {
        id: told.id.clone(),
        name: found.name.unwrap_or_default(),
        image: found.image.unwrap_or_default(),
        image_id: found.image_id.unwrap_or_default(),
        runtime: if found.runtime.is_empty() { told_runtime() } else { found.runtime }.to_owned(),
        namespace: found.namespace.or_else(|| told.namespace.clone()).unwrap_or_default(),
    })
}

fn pod(facts: &ProcessFacts) -> Option<v1::Pod> {
    let (told, found) = (facts.who.place.pod.as_ref(), facts.who.container.as_deref());
    let uid = told.map(|pod| pod.uid.clone()).or_else(|| found?.pod_uid.clone())?;
    Some(v1::Pod {
        uid,
        name: found.and_then(|found| found.pod_name.clone()).unwrap_or_default(),
        namespace: found.and_then(|found| found.pod_namespace.clone()).unwrap_or_default(),
        qos: told.map_or("", |pod| pod.qos).to_owned(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::enrich::origin::{Origin, OriginKind};
    use crate::event::Identity;
    use crate::who::container::Container;
    use crate::who::{Place, Who};
    use std::sync::Arc;

    #[test]
    fn what_is_known_goes_out_and_what_is_not_says_why() {
        let identity = Identity { pid: 9, start_time_ns: 90 };
        let origin = Origin { kind: OriginKind::Container, identity, exe: "/usr/bin/shim".to_owned() };
        let id = "ab".repeat(32);
        let container = Container {
            image: Some("docker.io/library/web:1".to_owned()),
            runtime: "docker",
            ..Container::default()
        };
        let facts = ProcessFacts {
            exe: "/bin/web".to_owned(),
            login_uid: Some(1000),
            origin: Some(Arc::new(origin)),
            who: Who {
                place: Place::of(&format!("/docker/{id}"), None),
                user: Some(Arc::from("web")),
                container: Some(Arc::new(container)),
                exe_on_host: Some("/merged/bin/web".to_owned()),
                hash: Some(Err(crate::who::hash::NoHash::TooLarge)),
                ..Who::default()
            },
            ..ProcessFacts::default()
        };
        let mut sent = who_message(&facts);
        assert_eq!((sent.user.as_str(), sent.euser.as_str(), sent.login_uid), ("web", "", Some(1000)));
        assert_eq!((sent.sha256.as_str(), sent.sha256_missing.as_str()), ("", "too large"));
        assert_eq!(sent.exe_on_host, "/merged/bin/web");
        let told = sent.container.clone().unwrap();
        assert_eq!(
            (told.id, told.image.as_str(), told.runtime.as_str()),
            (id, "docker.io/library/web:1", "docker")
        );
        let told = sent.origin.clone().unwrap();
        assert_eq!((told.kind.as_str(), told.pid, told.exe.as_str()), ("container", 9, "/usr/bin/shim"));
        shorten_who(&mut sent, 4);
        assert!(sent.container.unwrap().image.len() <= 4 + super::super::CUT_MARK.len());
    }
}
