//! Fleet baselines: learned behaviours up, candidate, push, offer, status, approval.

use sensor_proto::v1;

use crate::support::{ControlStream, FindingsStream, World, changed, finding, heartbeat, nginx, until};

const BASELINE: &str = "\
# reviewed
fleet: web
workloads:
  unit:nginx.service:
    /usr/sbin/nginx:
      listen: [tcp 80]
";
const PATH: &str = "/v1/fleets/web/baseline";
const LEARNED_EPOCH: [u8; 16] = [9; 16];

fn learned(revision: u64, behaviours: &[v1::Behaviour]) -> v1::control_up::Frame {
    let behaviours = behaviours.iter().map(|behaviour| v1::LearnedBehaviour {
        behaviour: Some(behaviour.clone()),
        count: 2,
        first_seen_unix_ns: two_hours_ago(),
        last_seen_unix_ns: two_hours_ago() + 1,
    });
    v1::control_up::Frame::Learned(v1::Learned {
        epoch: LEARNED_EPOCH.to_vec(),
        revision,
        behaviours: behaviours.collect(),
        withheld: Vec::new(),
    })
}

/// What a floor rule fired on.
fn withheld(revision: u64, behaviour: v1::Behaviour) -> v1::control_up::Frame {
    let v1::control_up::Frame::Learned(mut message) = learned(revision, &[behaviour]) else {
        unreachable!("made as that")
    };
    let seen = message.behaviours.pop();
    message.withheld.push(v1::WithheldBehaviour { seen, rule: "fresh-exec".to_owned() });
    v1::control_up::Frame::Learned(message)
}

fn two_hours_ago() -> u64 {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap();
    u64::try_from((now - std::time::Duration::from_secs(7200)).as_nanos()).unwrap()
}

async fn expect_learned_ack(control: &mut ControlStream, revision: u64) {
    match control.next().await {
        Ok(Some(v1::control_down::Frame::LearnedAck(ack))) => {
            assert_eq!((ack.epoch, ack.revision), (LEARNED_EPOCH.to_vec(), revision));
        }
        other => panic!("expected an ack, got {other:?}"),
    }
}

#[tokio::test]
async fn a_heartbeat_shows_in_the_agent_list() {
    let world = World::start().await;
    let agent = world.enroll().await;
    let (control, welcome) = ControlStream::open(world.connect(&agent).await, &[]).await;
    assert_eq!((welcome.fleet.as_str(), welcome.heartbeat_interval_ms), ("web", 10_000));
    assert_eq!(welcome.learned_epoch, Vec::<u8>::new());
    let (_, body) = world.get("/v1/agents").await;
    let shown = &body["agents"][0];
    assert_eq!((&shown["id"], &shown["connected"]), (&agent.id.as_str().into(), &true.into()));
    assert_eq!(shown["health"]["counters"]["records_seen{kind=exec}"], 3);
    assert_eq!(shown["health"]["hooks"]["exec"], "tp_btf/sched_process_exec");

    let degraded = v1::Heartbeat { degraded: vec!["spool: disk full".to_owned()], ..heartbeat(&[]) };
    control.send(v1::control_up::Frame::Heartbeat(degraded)).await;
    until("the next heartbeat is stored", async || {
        let (_, body) = world.get("/v1/agents").await;
        (body["agents"][0]["health"]["degraded"][0] == "spool: disk full").then_some(())
    })
    .await;
    drop(control);
    until("the agent shows as gone", async || {
        let (_, body) = world.get("/v1/agents").await;
        (body["agents"][0]["connected"] == false).then_some(())
    })
    .await;
}

#[tokio::test]
async fn a_huge_heartbeat_is_not_kept() {
    let world = World::start().await;
    let agent = world.enroll().await;
    let (mut stream, _) = ControlStream::open(world.connect(&agent).await, &[]).await;
    let huge = v1::Heartbeat { degraded: vec!["x".repeat(100_000)], ..heartbeat(&[]) };
    stream.send(v1::control_up::Frame::Heartbeat(huge)).await;
    let status = stream.next().await.unwrap_err();
    assert!(status.message().contains("at most 65536 are allowed"), "{status}");
    let (_, list) = world.get("/v1/agents").await;
    assert_eq!(list["agents"][0]["health"]["degraded"], serde_json::json!([]));
}

#[tokio::test]
async fn the_first_control_frame_must_be_a_heartbeat() {
    let world = World::start().await;
    let agent = world.enroll().await;
    let (up, frames) = tokio::sync::mpsc::channel(1);
    let mut client = sensor_proto::v1::control_client::ControlClient::new(world.connect(&agent).await);
    up.send(v1::ControlUp { frame: Some(learned(1, &[])) }).await.unwrap();
    let frames = tokio_stream::wrappers::ReceiverStream::new(frames);
    let mut down = client.session(frames).await.unwrap().into_inner();
    let status = down.message().await.unwrap_err();
    assert_eq!(status.message(), "protocol violation: the first frame must be a heartbeat");
}

#[tokio::test]
async fn learned_behaviours_of_two_hosts_make_a_candidate_with_host_counts() {
    let world = World::start().await;
    let (one, two) = (world.enroll().await, world.enroll_another("web").await);
    let (both, single) =
        (nginx(v1::Action::Listen, "tcp 0.0.0.0 80"), nginx(v1::Action::Exec, "/usr/bin/once"));
    let (mut control, _) = ControlStream::open(world.connect(&one).await, &[]).await;
    control.send(learned(2, &[both.clone(), single])).await;
    expect_learned_ack(&mut control, 2).await;
    let (mut other, _) = ControlStream::open(world.connect(&two).await, &[]).await;
    other.send(learned(1, &[both])).await;
    expect_learned_ack(&mut other, 1).await;

    let (status, yaml) = world.get_text("/v1/fleets/web/candidate").await;
    assert_eq!(status, 200);
    assert!(yaml.contains("/usr/bin/once") && yaml.contains("1 of 2 hosts"), "{yaml}");
    assert!(yaml.contains("2 of 2 hosts"), "{yaml}");
    let (status, pushed) = world.put(PATH, &yaml).await;
    assert_eq!(
        (status, &pushed["version"]),
        (200, &1.into()),
        "the candidate can be pushed as it is: {pushed}"
    );

    drop(control);
    let (_, welcome) = ControlStream::open(world.connect(&one).await, &[]).await;
    assert_eq!((welcome.learned_epoch, welcome.learned_revision), (LEARNED_EPOCH.to_vec(), 2));
}

#[tokio::test]
async fn maturity_says_what_is_lacking_and_what_drifts() {
    const MATURITY: &str = "/v1/fleets/web/maturity";
    let world = World::start().await;
    let agent = world.enroll().await;
    let (mut control, _) = ControlStream::open(world.connect(&agent).await, &[]).await;
    control.send(learned(1, &[nginx(v1::Action::Exec, "/usr/bin/x")])).await;
    expect_learned_ack(&mut control, 1).await;
    let (status, body) = world.get(MATURITY).await;
    let shown = &body["dimensions"][0];
    assert_eq!(
        (status, &shown["action"], &shown["state"]),
        (200, &"exec".into(), &"learning".into()),
        "{body}"
    );
    assert_eq!(shown["lacks"], serde_json::json!(["observed over 0.0 hours only"]), "{body}");
    assert_eq!((&shown["entries"], &shown["observations"]), (&1.into(), &2.into()), "{body}");

    // Losses of the kind count against it; those of another kind do not.
    let (mut findings, _) = FindingsStream::hello(world.connect(&agent).await, 1, 2).await;
    let gap = |seq: u64, kind: &str| v1::Item {
        first_seq: seq,
        seq,
        content: Some(v1::item::Content::Gap(v1::Gap {
            from_unix_ns: two_hours_ago(),
            to_unix_ns: u64::MAX >> 1,
            kind: kind.to_owned(),
            count: 7,
            reason: "ring_full".to_owned(),
        })),
    };
    findings.send_items(vec![gap(1, "exec"), gap(2, "file_open")]).await;
    assert_eq!(findings.ack().await, 2);
    let (_, body) = world.get(MATURITY).await;
    let lacks = &body["dimensions"][0]["lacks"];
    assert_eq!(*lacks, serde_json::json!(["observed over 0.0 hours only", "7 records lost"]), "{body}");

    // Armed, and ten novel behaviours on one day: one of them twice.
    world.put(PATH, BASELINE).await;
    let novel =
        |seq: u64| finding(seq, nginx(v1::Action::Exec, &format!("/new/{}", seq.min(12))), v1::Reason::Novel);
    findings.send_items((3..=11).map(novel).collect()).await;
    assert_eq!(findings.ack().await, 11);
    let state = async || {
        let (_, body) = world.get(MATURITY).await;
        let all = body["dimensions"].as_array().expect("a list").clone();
        let of =
            |action: &str| all.iter().find(|one| one["action"] == action).expect("armed")["state"].clone();
        (of("exec"), of("write"))
    };
    assert_eq!(state().await, ("armed".into(), "armed".into()));
    findings.send_items(vec![novel(12), novel(13)]).await;
    assert_eq!(findings.ack().await, 13);
    assert_eq!(state().await, ("drifting".into(), "armed".into()));
    assert_eq!(world.get("/v1/fleets/nope/maturity").await.0, 404);
}

#[tokio::test]
async fn what_a_rule_fired_on_at_one_host_is_withheld_from_the_fleets_candidate() {
    let world = World::start().await;
    let (one, two) = (world.enroll().await, world.enroll_another("web").await);
    let (mut first, _) = ControlStream::open(world.connect(&one).await, &[]).await;
    let (mut second, _) = ControlStream::open(world.connect(&two).await, &[]).await;
    let (product, other) = (nginx(v1::Action::Exec, "/srv/product"), nginx(v1::Action::Exec, "/bin/ls"));
    first.send(learned(1, &[product.clone(), other.clone()])).await;
    expect_learned_ack(&mut first, 1).await;
    second.send(learned(1, &[product.clone(), other])).await;
    expect_learned_ack(&mut second, 1).await;
    let (_, text) = world.get_text("/v1/fleets/web/candidate").await;
    assert!(text.contains("- /srv/product # 2 of 2 hosts\n"), "{text}");
    second.send(withheld(2, product)).await;
    expect_learned_ack(&mut second, 2).await;
    let (_, text) = world.get_text("/v1/fleets/web/candidate").await;
    assert!(text.contains("- /bin/ls # 2 of 2 hosts\n"), "{text}");
    let kept_out = "retired:\n        exec:\n          - /srv/product # withheld: fresh-exec, 1 of 2 hosts\n";
    assert!(text.contains(kept_out), "{text}");
    let (_, body) = world.get("/v1/fleets/web/maturity").await;
    assert_eq!(body["dimensions"][0]["withheld"], serde_json::json!({ "fresh-exec": 1 }), "{body}");
    // Whoever pushes it as it is has it judged; whoever moves the line has it allowed.
    assert_eq!(world.put(PATH, &text).await.0, 200);
}

#[tokio::test]
async fn no_count_that_an_agent_claims_takes_the_candidate_from_its_fleet() {
    let world = World::start().await;
    let agent = world.enroll().await;
    let (mut control, _) = ControlStream::open(world.connect(&agent).await, &[]).await;
    control.send(learned(1, &[nginx(v1::Action::Write, "/x")])).await;
    expect_learned_ack(&mut control, 1).await;
    let (mut findings, _) = FindingsStream::hello(world.connect(&agent).await, 1, 3).await;
    let gap = |(seq, kind): (u64, &str)| v1::Item {
        first_seq: seq,
        seq,
        content: Some(v1::item::Content::Gap(v1::Gap {
            from_unix_ns: two_hours_ago(),
            to_unix_ns: u64::MAX >> 1,
            kind: kind.to_owned(),
            count: u64::MAX,
            reason: "ring_full".to_owned(),
        })),
    };
    let kinds = [(1, "file_open"), (2, "file_open"), (3, "file_mkdir"), (4, "file_link")];
    findings.send_items(kinds.map(gap).to_vec()).await;
    assert_eq!(findings.ack().await, 4);
    let (status, body) = world.get("/v1/fleets/web/maturity").await;
    assert_eq!((status, &body["dimensions"][0]["state"]), (200, &"learning".into()), "{body}");
    assert_eq!(world.get_text("/v1/fleets/web/candidate").await.0, 200);
}

#[tokio::test]
async fn what_cannot_be_read_is_refused_and_counted_but_acknowledged() {
    let world = World::start().await;
    let agent = world.enroll().await;
    let (mut control, _) = ControlStream::open(world.connect(&agent).await, &[]).await;
    control
        .send(learned(1, &[nginx(v1::Action::Connect, "no address"), nginx(v1::Action::Exec, "/ok")]))
        .await;
    expect_learned_ack(&mut control, 1).await;
    let (_, body) = world.get("/v1/agents").await;
    assert_eq!(body["agents"][0]["learned"], serde_json::json!({ "behaviours": 1, "refused": 1 }));
}

#[tokio::test]
async fn a_push_reaches_connected_agents_and_their_answers_the_operator() {
    let world = World::start().await;
    let (one, two) = (world.enroll().await, world.enroll_another("web").await);
    let stranger = world.enroll_another("db").await;
    let (mut first, _) = ControlStream::open(world.connect(&one).await, &[]).await;
    let (mut second, _) = ControlStream::open(world.connect(&two).await, &[]).await;
    let (mut other_fleet, _) = ControlStream::open(world.connect(&stranger).await, &[]).await;

    let (status, pushed) = world.put(PATH, BASELINE).await;
    assert_eq!((status, &pushed["version"], &pushed["author"]), (200, &1.into(), &"admin".into()));
    let offer = first.offer().await;
    assert_eq!((offer.version, second.offer().await.version), (1, 1));
    let text = String::from_utf8(offer.yaml.clone()).unwrap();
    assert_eq!(text, BASELINE.replace("fleet: web\n", "fleet: web\nversion: 1\n"));
    let (_, shown) = world.get_text(PATH).await;
    assert_eq!(shown, text);

    let status = |state: v1::baseline_status::State, reason: &str| {
        let (sha256, reason) = (offer.sha256.clone(), reason.to_owned());
        let status = v1::BaselineStatus { version: 1, sha256, state: state.into(), reason };
        v1::control_up::Frame::BaselineStatus(status)
    };
    first.send(status(v1::baseline_status::State::Applied, "")).await;
    second.send(status(v1::baseline_status::State::Failed, "disk full")).await;
    let rollout = until("both have answered", async || {
        let (_, body) = world.get("/v1/fleets/web/rollout").await;
        let pending = body["agents"].as_array().unwrap().iter().any(|agent| agent["state"] == "PENDING");
        (!pending).then_some(body)
    })
    .await;
    let of =
        |id: &str| rollout["agents"].as_array().unwrap().iter().find(|agent| agent["agent"] == id).unwrap();
    assert_eq!(of(&one.id)["state"], "APPLIED");
    assert_eq!((&of(&two.id)["state"], &of(&two.id)["reason"]), (&"FAILED".into(), &"disk full".into()));
    assert_eq!(rollout["agents"].as_array().unwrap().len(), 2);

    // The other fleet's agent got nothing: the answer to its next frame comes first.
    other_fleet.send(learned(1, &[])).await;
    expect_learned_ack(&mut other_fleet, 1).await;

    // Offered again on a reconnection with another hash, and only then.
    let (mut again, _) = ControlStream::open(world.connect(&one).await, b"other").await;
    assert_eq!(again.offer().await.version, 1);
    let (mut same, _) = ControlStream::open(world.connect(&one).await, &offer.sha256).await;
    same.send(learned(1, &[])).await;
    expect_learned_ack(&mut same, 1).await;
}

#[tokio::test]
async fn a_broken_file_is_refused_with_its_place_and_changes_nothing() {
    let world = World::start().await;
    let agent = world.enroll().await;
    world.put(PATH, BASELINE).await;
    let (mut control, _) = ControlStream::open(world.connect(&agent).await, &[]).await;
    assert_eq!(control.offer().await.version, 1);
    let (_, before) = world.get_text(PATH).await;

    let broken = BASELINE.replace("listen: [tcp 80]", "lissten: [tcp 80]");
    let (status, error) = world.put(PATH, &broken).await;
    assert_eq!((status, &error["line"]), (422, &6.into()), "{error}");
    assert!(error["column"].as_u64().is_some_and(|column| column > 0));
    assert!(error["message"].as_str().unwrap().contains("lissten"), "{error}");
    let (status, error) = world.put(PATH, &BASELINE.replace("fleet: web", "fleet: db")).await;
    assert_eq!((status, &error["line"]), (422, &2.into()), "{error}");
    let (status, error) = world.put("/v1/fleets/nope/baseline", &BASELINE.replace("web", "nope")).await;
    assert_eq!((status, &error["error"]), (404, &"fleet \"nope\" does not exist".into()));
    let (status, _) = world.put(PATH, &format!("{BASELINE}#{}\n", "x".repeat(1 << 20))).await;
    assert_eq!(status, 413);
    let (status, error) = world.put(PATH, &"x".repeat(2 << 20)).await;
    assert_eq!((status, error["error"].is_string()), (413, true), "{error}");
    let (status, error) = world.get("/v1/fleets/%ff/candidate").await;
    assert_eq!((status, error["error"].is_string()), (400, true), "{error}");
    let (status, error) = world.put(&format!("{PATH}?base=7"), BASELINE).await;
    assert_eq!(status, 409, "{error}");

    let (_, after) = world.get_text(PATH).await;
    assert_eq!(after, before);
    control.send(learned(1, &[])).await;
    expect_learned_ack(&mut control, 1).await;
}

#[tokio::test]
async fn an_approved_finding_is_allowed_by_the_next_version_and_one_of_a_rule_is_not() {
    let world = World::start().await;
    let agent = world.enroll().await;
    world.put(PATH, BASELINE).await;
    let (mut control, _) = ControlStream::open(world.connect(&agent).await, &[]).await;
    control.offer().await;
    let novel = finding(1, nginx(v1::Action::Exec, "/usr/bin/curl"), v1::Reason::Novel);
    let floor = changed(finding(2, nginx(v1::Action::Exec, "/memfd:x"), v1::Reason::Floor), |finding| {
        let id = "fileless-exec".to_owned();
        finding.floor_rule = Some(v1::FloorRule { id, ..v1::FloorRule::default() });
    });
    let sigma = changed(finding(3, nginx(v1::Action::Exec, "/usr/bin/nc"), v1::Reason::Sigma), |finding| {
        finding.sigma_rules = vec![v1::SigmaRule { id: "r-1".to_owned(), ..v1::SigmaRule::default() }];
    });
    let (mut stream, _) = FindingsStream::hello(world.connect(&agent).await, 1, 3).await;
    stream.send_items(vec![novel, floor, sigma]).await;
    assert_eq!(stream.ack().await, 3);

    let approve = |seq: u64| format!(r#"{{"finding":"{}:5e5e5e5e:{seq}"}}"#, agent.id);
    let (status, body) = world.post(&format!("{PATH}/approve"), &approve(1)).await;
    assert_eq!((status, &body["version"]), (200, &2.into()), "{body}");
    let offer = control.offer().await;
    assert_eq!(offer.version, 2);
    let text = String::from_utf8(offer.yaml).unwrap();
    assert!(text.contains("/usr/bin/curl") && text.contains("version: 2"), "{text}");

    let (status, body) = world.post(&format!("{PATH}/approve"), &approve(2)).await;
    assert_eq!(status, 409, "{body}");
    assert!(body["error"].as_str().unwrap().contains("floor rule"), "{body}");
    let (status, body) = world.post(&format!("{PATH}/approve"), &approve(3)).await;
    assert_eq!(status, 409, "{body}");
    assert!(body["error"].as_str().unwrap().contains("Sigma rule r-1"), "{body}");
    let (status, _) = world.post(&format!("{PATH}/approve"), &approve(4)).await;
    assert_eq!(status, 404);
    let (_, error) = world.post("/v1/fleets/db/baseline/approve", &approve(1)).await;
    assert!(error["error"].as_str().unwrap().contains("does not exist"), "{error}");
    let (_, first) = world.get_text(&format!("{PATH}?version=1")).await;
    assert!(first.contains("# reviewed"), "old versions stay as they were");
}

#[tokio::test]
async fn of_a_finding_with_several_behaviours_it_must_be_said_what_is_approved() {
    let world = World::start().await;
    let agent = world.enroll().await;
    world.put(PATH, BASELINE).await;
    let of_finding = |seq: u64, object: &str, reason: v1::Reason, is_repeat: bool| {
        changed(finding(seq, nginx(v1::Action::Exec, object), reason), |finding| {
            (finding.finding, finding.is_repeat) = (if seq < 5 { "a" } else { "b" }.to_owned(), is_repeat);
        })
    };
    let (mut stream, _) = FindingsStream::hello(world.connect(&agent).await, 1, 6).await;
    let items = vec![
        of_finding(1, "/bin/one", v1::Reason::Novel, false),
        of_finding(2, "/bin/two", v1::Reason::Novel, false),
        of_finding(3, "/bin/three", v1::Reason::Novel, false),
        of_finding(4, "/bin/one", v1::Reason::Novel, true),
        of_finding(5, "/bin/five", v1::Reason::Novel, false),
        of_finding(6, "/memfd:x", v1::Reason::Sigma, false),
    ];
    stream.send_items(items).await;
    assert_eq!(stream.ack().await, 6);
    let approve = async |seq: u64, more: &str| {
        let body = format!(r#"{{"finding":"{}:5e5e5e5e:{seq}"{more}}}"#, agent.id);
        let (status, body) = world.post(&format!("{PATH}/approve"), &body).await;
        let (_, yaml) = world.get_text(PATH).await;
        let is_allowed = ["/bin/one", "/bin/two", "/bin/three", "/bin/five"].map(|name| yaml.contains(name));
        (status, body["error"].as_str().unwrap_or_default().to_owned(), is_allowed)
    };
    let (status, error, _) = approve(1, "").await;
    assert_eq!(status, 409);
    assert!(error.contains("has 3 behaviours"), "{error}");
    assert_eq!(
        approve(2, "").await,
        (200, String::new(), [false, true, false, false]),
        "the one that is named"
    );
    let one = r#","behaviours":"one""#;
    assert_eq!(approve(1, one).await, (200, String::new(), [true, true, false, false]));
    let (_, whole) = world.get(&format!("/v1/findings/{}:5e5e5e5e:1", agent.id)).await;
    let cursor: i64 = whole["cursor"].as_str().unwrap().parse().unwrap();
    let (status, error, _) = approve(1, &format!(r#","behaviours":"all","upto":"{}""#, cursor - 1)).await;
    assert!(status == 409 && error.contains("has grown"), "nobody has seen all of it: {error}");
    assert_eq!(approve(1, r#","behaviours":"all""#).await.0, 400, "what was seen must be said");
    let all = r#","behaviours":"all","upto":"1000""#;
    assert_eq!(approve(4, all).await, (200, String::new(), [true, true, true, false]), "what is left of it");
    let (status, error, _) = approve(1, all).await;
    assert!(status == 409 && error.contains("allow"), "all is allowed already: {error}");
    let (status, error, is_allowed) = approve(5, all).await;
    assert!(status == 409 && error.contains(":6: Sigma rule"), "{error}");
    assert!(!is_allowed[3], "refused as a whole");
    assert_eq!(approve(5, r#","behaviours":"some""#).await.0, 400);
}

#[tokio::test]
async fn a_finding_that_begins_with_a_repetition_is_not_approved_by_its_id_alone() {
    let world = World::start().await;
    let agent = world.enroll().await;
    world.put(PATH, BASELINE).await;
    let of_finding = |seq: u64, object: &str, severity: v1::Severity, is_repeat: bool| {
        changed(finding(seq, nginx(v1::Action::Exec, object), v1::Reason::Novel), |finding| {
            finding.finding = "a".to_owned();
            (finding.severity, finding.is_repeat) = (severity.into(), is_repeat);
        })
    };
    let (mut stream, _) = FindingsStream::hello(world.connect(&agent).await, 1, 2).await;
    let items = vec![
        of_finding(1, "/bin/evil", v1::Severity::Low, true),
        of_finding(2, "/bin/seen", v1::Severity::High, false),
    ];
    stream.send_items(items).await;
    assert_eq!(stream.ack().await, 2);
    let (_, page) = world.get("/v1/findings").await;
    assert_eq!(
        (&page["findings"][0]["object"], &page["findings"][0]["seq"]),
        (&"/bin/seen".into(), &1.into())
    );
    let (status, _) =
        world.post(&format!("{PATH}/approve"), &format!(r#"{{"finding":"{}:5e5e5e5e:1"}}"#, agent.id)).await;
    assert_eq!(status, 409);
    assert!(!world.get_text(PATH).await.1.contains("/bin/evil"));
}
