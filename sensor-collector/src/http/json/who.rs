//! Who a process is, in JSON: what is not known is left out. Not the process. It may call the generated types.

use sensor_proto::v1;
use serde::Serialize;

#[derive(Serialize)]
pub(super) struct WhoJson {
    gid: u32,
    egid: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    login_uid: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    audit_session: Option<u32>,
    #[serde(skip_serializing_if = "String::is_empty")]
    user: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    euser: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    group: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    egroup: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    login_user: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    session: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    unit: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    user_unit: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    timer: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    origin: Option<OriginJson>,
    #[serde(skip_serializing_if = "Option::is_none")]
    container: Option<ContainerJson>,
    #[serde(skip_serializing_if = "String::is_empty")]
    container_missing: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pod: Option<PodJson>,
    #[serde(skip_serializing_if = "String::is_empty")]
    exe_on_host: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    sha256: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    sha256_missing: String,
}

#[derive(Serialize)]
struct OriginJson {
    kind: String,
    #[serde(skip_serializing_if = "is_zero_pid")]
    pid: u32,
    #[serde(skip_serializing_if = "is_zero")]
    start_time_ns: u64,
    #[serde(skip_serializing_if = "String::is_empty")]
    exe: String,
}

#[derive(Serialize)]
struct ContainerJson {
    id: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    image: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    image_id: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    runtime: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    namespace: String,
}

#[derive(Serialize)]
struct PodJson {
    uid: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    namespace: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    qos: String,
}

impl From<v1::Who> for WhoJson {
    fn from(who: v1::Who) -> Self {
        Self {
            gid: who.gid,
            egid: who.egid,
            login_uid: who.login_uid,
            audit_session: who.audit_session,
            user: who.user,
            euser: who.euser,
            group: who.group,
            egroup: who.egroup,
            login_user: who.login_user,
            session: who.session,
            unit: who.unit,
            user_unit: who.user_unit,
            timer: who.timer,
            origin: who.origin.map(|origin| OriginJson {
                kind: origin.kind,
                pid: origin.pid,
                start_time_ns: origin.start_time_ns,
                exe: origin.exe,
            }),
            container: who.container.map(|container| ContainerJson {
                id: container.id,
                name: container.name,
                image: container.image,
                image_id: container.image_id,
                runtime: container.runtime,
                namespace: container.namespace,
            }),
            container_missing: who.container_missing,
            pod: who.pod.map(|pod| PodJson {
                uid: pod.uid,
                name: pod.name,
                namespace: pod.namespace,
                qos: pod.qos,
            }),
            exe_on_host: who.exe_on_host,
            sha256: who.sha256,
            sha256_missing: who.sha256_missing,
        }
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
const fn is_zero_pid(number: &u32) -> bool {
    *number == 0
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde calls it so")]
const fn is_zero(number: &u64) -> bool {
    *number == 0
}
