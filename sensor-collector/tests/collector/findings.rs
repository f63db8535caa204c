//! Findings from an agent's stream to the operator's query.

use sensor_collector::store::StoreError;
use sensor_proto::v1;
use serde_json::json;
use tonic::Code;

use crate::support::{EPOCH, Enrolled, FindingsStream, World, changed, finding, nginx, within};

fn exec(seq: u64) -> v1::Item {
    finding(seq, nginx(v1::Action::Exec, "/usr/bin/curl"), v1::Reason::Novel)
}

fn listed(page: &serde_json::Value) -> Vec<u64> {
    page["findings"].as_array().unwrap().iter().map(|finding| finding["seq"].as_u64().unwrap()).collect()
}

#[tokio::test]
async fn a_finding_goes_from_the_stream_to_the_query() {
    let world = World::start().await;
    let agent = world.enroll().await;
    assert_eq!(agent.fleet, "web");
    let (mut stream, welcome) = FindingsStream::hello(world.connect(&agent).await, 1, 2).await;
    assert_eq!(welcome.durable_upto, 0);
    stream.send_items(vec![exec(1), exec(2)]).await;
    assert_eq!(stream.ack().await, 2);

    let (status, page) = world.get("/v1/findings").await;
    assert_eq!((status, listed(&page)), (200, vec![1, 2]));
    let first = &page["findings"][0];
    assert_eq!(first["id"], format!("{}:5e5e5e5e:1", agent.id));
    assert_eq!(first["agent"], agent.id);
    assert_eq!(first["fleet"], "web");
    assert_eq!(first["hostname"], "host-a");
    assert_eq!(first["time"], "2027-01-15T08:00:00.123456789Z");
    assert_eq!((&first["severity"], &first["reason"]), (&"high".into(), &"novel".into()));
    assert_eq!((&first["action"], &first["object"]), (&"exec".into(), &"/usr/bin/curl".into()));
    assert_eq!(first["process"]["argv"][1], "-s \\x0a \"q\"");
    assert_eq!(first["ancestors"][0]["exe"], "/usr/sbin/nginx");
    assert_eq!(first["explanation"]["edit"], "an edit");
    assert!(first["latency_ms"].is_f64() && first["floor_rule"].is_null());
    assert_eq!(first["rules"], json!([]), "an agent without rules sends none");

    assert_eq!((&first["behaviours"], &first["count"]), (&1.into(), &1.into()));
    assert_eq!((&first["first_time"], &first["last_time"]), (&first["time"], &first["time"]));

    let (status, one) = world.get(&format!("/v1/findings/{}", first["id"].as_str().unwrap())).await;
    assert_eq!(status, 200);
    let mut whole = first.clone();
    let mut evidence = first.clone();
    for name in ["cursor", "behaviours", "first_time", "last_time", "hosts", "fleet_hosts", "is_rare"] {
        evidence.as_object_mut().unwrap().remove(name);
    }
    evidence["is_repeat"] = false.into();
    whole["evidence"] = json!([evidence]);
    whole["evidence_left_off"] = 0.into();
    whole["evidence_next"] = json!(null);
    assert_eq!(one, whole);
    let (status, _) = world.get(&format!("/v1/findings/{}:5e5e5e5e:3", agent.id)).await;
    assert_eq!(status, 404);
    let (status, error) = world.get("/v1/findings/../../etc").await;
    assert_eq!(status, 404, "{error}");
}

#[tokio::test]
async fn the_sigma_rules_of_a_finding_are_shown() {
    let world = World::start().await;
    let agent = world.enroll().await;
    let item = finding(1, nginx(v1::Action::Exec, "/usr/bin/curl"), v1::Reason::Sigma);
    let rule = v1::SigmaRule {
        id: "r-1".to_owned(),
        title: "A rule".to_owned(),
        level: v1::Severity::High.into(),
        techniques: vec!["T1105".to_owned()],
    };
    let item = changed(item, |finding| finding.sigma_rules = vec![rule]);
    let (mut stream, _) = FindingsStream::hello(world.connect(&agent).await, 1, 1).await;
    stream.send_items(vec![item]).await;
    assert_eq!(stream.ack().await, 1);
    let (_, page) = world.get("/v1/findings").await;
    let told = &page["findings"][0];
    assert_eq!(told["reason"], "sigma");
    let rule = json!({"id": "r-1", "title": "A rule", "level": "high", "techniques": ["T1105"]});
    assert_eq!(told["rules"], json!([rule]));
}

#[tokio::test]
async fn a_page_of_huge_findings_is_cut_and_says_so() {
    let world = World::start().await;
    let agent = world.enroll().await;
    let (mut stream, _) = FindingsStream::hello(world.connect(&agent).await, 1, 3).await;
    for seq in 1..=3 {
        stream.send_items(vec![changed(exec(seq), |finding| finding.tier = "x".repeat(1_500_000))]).await;
        assert_eq!(stream.ack().await, seq);
    }
    let (_, page) = world.get("/v1/findings").await;
    assert_eq!(listed(&page), [1, 2]);
    let next = page["next"].as_str().expect("there is more");
    let (_, rest) = world.get(&format!("/v1/findings?after={next}")).await;
    assert_eq!((listed(&rest), rest["next"].is_null()), (vec![3], true));
}

/// Evidence of the finding `name`: nginx starts `object`.
fn evidence(seq: u64, name: &str, object: &str, severity: v1::Severity) -> v1::Item {
    changed(finding(seq, nginx(v1::Action::Exec, object), v1::Reason::Novel), |finding| {
        finding.finding = name.to_owned();
        finding.severity = severity.into();
        finding.time_unix_ns = 1_800_000_000_000_000_000 + seq * 1_000_000_000;
    })
}

#[tokio::test]
async fn all_evidence_of_a_finding_is_listed_as_one_with_the_worst_in_front() {
    let world = World::start().await;
    let agent = world.enroll().await;
    let (mut stream, _) = FindingsStream::hello(world.connect(&agent).await, 1, 4).await;
    let low = evidence(1, "7-5-1/1", "/bin/low", v1::Severity::Low);
    let high = evidence(2, "7-5-1/1", "/bin/high", v1::Severity::High);
    let again = changed(evidence(3, "7-5-1/1", "/bin/low", v1::Severity::Low), |finding| {
        (finding.count, finding.is_repeat) = (40, true);
    });
    stream.send_items(vec![low, high, again, exec(4)]).await;
    assert_eq!(stream.ack().await, 4);

    let (_, page) = world.get("/v1/findings").await;
    assert_eq!(listed(&page), [1, 4], "by the first of each");
    let told = &page["findings"][0];
    let id = |seq: u64| format!("{}:5e5e5e5e:{seq}", agent.id);
    assert_eq!((&told["id"], &told["severity"]), (&id(1).into(), &"high".into()));
    assert_eq!(
        (&told["object"], &told["time"]),
        (&"/bin/high".into(), &"2027-01-15T08:00:02.000000000Z".into())
    );
    assert_eq!((&told["behaviours"], &told["count"]), (&2.into(), &42.into()));
    assert_eq!(told["first_time"], "2027-01-15T08:00:01.000000000Z");
    assert_eq!(told["last_time"], "2027-01-15T08:00:03.000000000Z");

    for seq in 1..=3 {
        let (status, whole) = world.get(&format!("/v1/findings/{}", id(seq))).await;
        assert_eq!(
            (status, &whole["id"], &whole["count"]),
            (200, &id(1).into(), &42.into()),
            "by the id of any"
        );
        let evidence = whole["evidence"].as_array().unwrap();
        let told: Vec<_> = evidence
            .iter()
            .map(|piece| (&piece["id"], &piece["object"], &piece["count"], &piece["is_repeat"]))
            .collect();
        let expected = [
            (&id(1).into(), &"/bin/low".into(), &1.into(), &false.into()),
            (&id(2).into(), &"/bin/high".into(), &1.into(), &false.into()),
            (&id(3).into(), &"/bin/low".into(), &40.into(), &true.into()),
        ];
        assert_eq!(told, expected);
    }
    let (_, status) = world.get("/v1/status").await;
    assert_eq!((&status["findings"], &status["evidence"]), (&2.into(), &4.into()));
    let (_, fleets) = world.get("/v1/fleets").await;
    assert_eq!(fleets["fleets"][0]["findings"], 2);
}

#[tokio::test]
async fn who_follows_the_list_sees_a_finding_again_when_it_has_grown() {
    let world = World::start().await;
    let agent = world.enroll().await;
    let (mut stream, _) = FindingsStream::hello(world.connect(&agent).await, 1, 3).await;
    stream.send_items(vec![evidence(1, "a", "/bin/x", v1::Severity::Low), exec(2)]).await;
    assert_eq!(stream.ack().await, 2);
    let (_, page) = world.get("/v1/findings").await;
    let cursor = page["findings"][1]["cursor"].as_str().unwrap();
    stream.send_items(vec![evidence(3, "a", "/bin/y", v1::Severity::Low)]).await;
    assert_eq!(stream.ack().await, 3);
    let (_, news) = world.get(&format!("/v1/findings?after={cursor}")).await;
    assert_eq!((listed(&news), &news["findings"][0]["behaviours"]), (vec![1], &2.into()));
}

#[tokio::test]
async fn evidence_beyond_a_page_is_counted_and_can_be_asked_for() {
    let world = World::start().await;
    let agent = world.enroll().await;
    let (mut stream, _) = FindingsStream::hello(world.connect(&agent).await, 1, 3).await;
    for seq in 1..=3 {
        let huge = evidence(seq, "a", "/bin/x", v1::Severity::Low);
        stream.send_items(vec![changed(huge, |finding| finding.tier = "x".repeat(1_500_000))]).await;
        assert_eq!(stream.ack().await, seq);
    }
    let path = format!("/v1/findings/{}:5e5e5e5e:1", agent.id);
    let seqs = |whole: &serde_json::Value| -> Vec<u64> {
        whole["evidence"].as_array().unwrap().iter().map(|piece| piece["seq"].as_u64().unwrap()).collect()
    };
    let (_, whole) = world.get(&path).await;
    assert_eq!((seqs(&whole), &whole["evidence_left_off"]), (vec![1, 2], &1.into()));
    let next = whole["evidence_next"].as_str().expect("there is more");
    let (_, rest) = world.get(&format!("{path}?after={next}")).await;
    assert_eq!((seqs(&rest), &rest["evidence_left_off"]), (vec![3], &0.into()));
    assert!(rest["evidence_next"].is_null());
}

#[tokio::test]
async fn findings_of_an_incident_are_listed_for_its_agent() {
    let world = World::start().await;
    let agent = world.enroll().await;
    let (mut stream, _) = FindingsStream::hello(world.connect(&agent).await, 1, 2).await;
    let other = changed(exec(2), |finding| finding.incident = "8-1-1".to_owned());
    stream.send_items(vec![exec(1), other]).await;
    assert_eq!(stream.ack().await, 2);
    let (_, page) = world.get(&format!("/v1/findings?agent={}&incident=8-1-1", agent.id)).await;
    assert_eq!(listed(&page), [2]);
    for path in ["/v1/findings?incident=8-1-1", "/v1/gaps?incident=8-1-1"] {
        let (status, error) = world.get(path).await;
        assert_eq!(status, 400, "{error}");
    }
}

#[tokio::test]
async fn pages_follow_each_other_in_both_orders() {
    let world = World::start().await;
    let agent = world.enroll().await;
    let (mut stream, _) = FindingsStream::hello(world.connect(&agent).await, 1, 5).await;
    stream.send_items((1..=5).map(exec).collect()).await;
    assert_eq!(stream.ack().await, 5);
    for (order, expected) in [("oldest", [1, 2, 3, 4, 5]), ("newest", [5, 4, 3, 2, 1])] {
        let mut seen = Vec::new();
        let mut after = String::new();
        loop {
            let (_, page) = world.get(&format!("/v1/findings?limit=2&order={order}{after}")).await;
            seen.extend(listed(&page));
            match page["next"].as_str() {
                Some(next) => after = format!("&after={next}"),
                None => break,
            }
        }
        assert_eq!(seen, expected, "{order}");
    }
    let (_, none) = world.get("/v1/findings?fleet=db").await;
    assert_eq!(listed(&none), Vec::<u64>::new());
    let (_, mine) = world.get(&format!("/v1/findings?agent={}", agent.id)).await;
    assert_eq!(listed(&mine).len(), 5);
    for (query, part) in
        [("limit=0", "limit 0"), ("agent=x", "agent \"x\""), ("color=red", "unknown field `color`")]
    {
        let (status, error) = world.get(&format!("/v1/findings?{query}")).await;
        assert_eq!(status, 400);
        assert!(error["error"].as_str().unwrap().contains(part), "{error}");
    }
}

#[tokio::test]
async fn a_restarted_collector_says_where_to_resume_and_stores_nothing_twice() {
    let world = World::start().await;
    let agent = world.enroll().await;
    let (mut stream, _) = FindingsStream::hello(world.connect(&agent).await, 1, 3).await;
    stream.send_items((1..=3).map(exec).collect()).await;
    assert_eq!(stream.ack().await, 3);
    let world = world.restart().await;
    assert_eq!(stream.go_away().await.reason, "the collector is shutting down");

    let (mut stream, welcome) = FindingsStream::hello(world.connect(&agent).await, 2, 5).await;
    assert_eq!(welcome.durable_upto, 3);
    stream.send_items((2..=5).map(exec).collect()).await;
    assert_eq!(stream.ack().await, 5);
    let (_, page) = world.get("/v1/findings").await;
    assert_eq!(listed(&page), vec![1, 2, 3, 4, 5]);
    let (_, status) = world.get("/v1/status").await;
    assert_eq!(status["counters"]["items_duplicate"], 2);
}

#[tokio::test]
async fn declared_gaps_and_holes_are_listed() {
    let world = World::start().await;
    let agent = world.enroll().await;
    let (mut stream, _) = FindingsStream::hello(world.connect(&agent).await, 1, 9).await;
    let gap = v1::Gap {
        from_unix_ns: 1_800_000_000_000_000_000,
        to_unix_ns: 1_800_000_001_000_000_000,
        kind: "finding".to_owned(),
        count: 3,
        reason: "spool_full".to_owned(),
    };
    let stand_in = v1::Item { seq: 3, first_seq: 1, content: Some(v1::item::Content::Gap(gap)) };
    stream.send_items(vec![stand_in, exec(4)]).await;
    assert_eq!(stream.ack().await, 4);
    stream.send_items(vec![exec(7)]).await;
    assert_eq!(stream.ack().await, 7);
    let (_, page) = world.get("/v1/gaps").await;
    let gaps = page["gaps"].as_array().unwrap();
    assert_eq!(gaps.len(), 2);
    assert_eq!((&gaps[0]["source"], &gaps[0]["reason"]), (&"agent".into(), &"spool_full".into()));
    assert_eq!(
        (&gaps[0]["first_seq"], &gaps[0]["seq"], &gaps[0]["count"]),
        (&1.into(), &3.into(), &3.into())
    );
    assert_eq!((&gaps[1]["source"], &gaps[1]["reason"]), (&"collector".into(), &"sequence_hole".into()));
    assert_eq!(
        (&gaps[1]["first_seq"], &gaps[1]["seq"], &gaps[1]["count"]),
        (&5.into(), &6.into(), &2.into())
    );
}

#[tokio::test]
async fn a_violation_ends_the_stream_with_its_reason() {
    let world = World::start().await;
    let agent = world.enroll().await;
    let mut stream = FindingsStream::open(world.connect(&agent).await).await.unwrap();
    stream.send_items(vec![exec(1)]).await;
    let status = stream.next().await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert_eq!(status.message(), "protocol violation: the first frame must be hello");
}

#[tokio::test]
async fn a_frame_that_is_too_large_ends_the_stream() {
    let world = World::start().await;
    let agent = world.enroll().await;
    let (mut stream, _) = FindingsStream::hello(world.connect(&agent).await, 1, 1).await;
    stream
        .send_items(vec![finding(1, nginx(v1::Action::Exec, &"x".repeat(5 << 20)), v1::Reason::Novel)])
        .await;
    let status = stream.next().await.unwrap_err();
    assert_eq!(status.code(), Code::OutOfRange, "{status}");
}

#[tokio::test]
async fn more_unacknowledged_bytes_than_the_credit_end_the_stream() {
    let world = World::start().await;
    let agent = world.enroll().await;
    let (mut stream, welcome) = FindingsStream::hello(world.connect(&agent).await, 1, 9).await;
    // The writer is held, so that nothing is acknowledged meanwhile.
    let (release, held) = std::sync::mpsc::channel::<()>();
    let store = &world.running.collector().store;
    let blocker = store
        .submit(move |_| {
            held.recv().expect("the test lets the writer go");
            Ok::<(), StoreError>(())
        })
        .await
        .unwrap();
    let half = usize::try_from(welcome.credit_bytes / 2 + 1000).unwrap();
    for seq in 1..=2 {
        let object = format!("/{}", "x".repeat(half));
        stream.send_items(vec![finding(seq, nginx(v1::Action::Exec, &object), v1::Reason::Novel)]).await;
    }
    let status = stream.next().await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(status.message().contains("the credit is 4194304"), "{status}");
    release.send(()).unwrap();
    within(blocker).await.unwrap().unwrap();
}

#[tokio::test]
async fn a_full_store_sends_the_agent_away_and_acknowledges_nothing() {
    let world = World::start_with("store_bytes_max = 1048576").await;
    let agent = world.enroll().await;
    let (mut stream, _) = FindingsStream::hello(world.connect(&agent).await, 1, 1).await;
    let object = format!("/{}", "x".repeat(2 << 20));
    stream.send_items(vec![finding(1, nginx(v1::Action::Exec, &object), v1::Reason::Novel)]).await;
    let go_away = stream.go_away().await;
    assert!(go_away.retry_after_ms > 0);
    assert!(go_away.reason.contains("cannot take findings now"), "{}", go_away.reason);
    let (_, welcome) = FindingsStream::hello(world.connect(&agent).await, 1, 1).await;
    assert_eq!(welcome.durable_upto, 0);
    let (_, status) = world.get("/v1/status").await;
    assert_eq!((&status["findings"], &status["counters"]["commits_failed"]), (&0.into(), &1.into()));
}

#[tokio::test]
async fn a_newer_stream_ends_the_older_one() {
    let world = World::start().await;
    let agent = world.enroll().await;
    let (mut older, _) = FindingsStream::hello(world.connect(&agent).await, 0, 0).await;
    let (mut newer, _) = FindingsStream::hello(world.connect(&agent).await, 0, 0).await;
    assert_eq!(older.go_away().await.reason, "superseded by a newer session of this agent");
    newer.send_items(vec![exec(1)]).await;
    assert_eq!(newer.ack().await, 1);
}

#[tokio::test]
async fn two_agents_with_the_same_epoch_do_not_mix() {
    let world = World::start().await;
    let (one, two) = (world.enroll().await, world.enroll_another("db").await);
    assert_eq!(two.fleet, "db");
    for agent in [&one, &two] {
        let (mut stream, welcome) = FindingsStream::hello(world.connect(agent).await, 1, 1).await;
        assert_eq!(welcome.durable_upto, 0);
        stream.send_items(vec![exec(1)]).await;
        assert_eq!(stream.ack().await, 1);
    }
    let (_, page) = world.get("/v1/findings?fleet=db").await;
    assert_eq!(page["findings"][0]["agent"], two.id);
    assert_eq!(listed(&page), vec![1]);
    assert_eq!(EPOCH.len(), 16);
}

#[tokio::test]
async fn what_is_novel_on_one_host_of_many_is_worse_until_others_do_it() {
    let world = World::start().await;
    let mut agents = vec![world.enroll().await];
    for _ in 1..20 {
        agents.push(world.enroll_another("web").await);
    }
    let low = || changed(exec(1), |finding| finding.severity = v1::Severity::Low.into());
    let found = async |agent: &Enrolled| {
        let (mut stream, _) = FindingsStream::hello(world.connect(agent).await, 1, 1).await;
        stream.send_items(vec![low()]).await;
        assert_eq!(stream.ack().await, 1);
        let (_, page) = world.get("/v1/findings").await;
        let first = &page["findings"][0];
        ["severity", "hosts", "fleet_hosts", "is_rare"].map(|name| first[name].clone())
    };
    assert_eq!(found(&agents[0]).await, [json!("medium"), json!(1), json!(20), json!(true)]);
    assert_eq!(found(&agents[1]).await, [json!("low"), json!(2), json!(20), json!(false)]);
    // Another program's doing, another fleet's, and one that has gone.
    let of_other = changed(low(), |finding| {
        finding.behaviour.as_mut().unwrap().subject = "/usr/bin/other".to_owned();
    });
    let elsewhere = world.enroll_another("db").await;
    for (agent, item) in [(&agents[2], of_other), (&elsewhere, low())] {
        let (mut stream, _) = FindingsStream::hello(world.connect(agent).await, 1, 1).await;
        stream.send_items(vec![item]).await;
        assert_eq!(stream.ack().await, 1);
    }
    let (_, page) = world.get("/v1/findings?fleet=web").await;
    let hosts: Vec<_> = page["findings"].as_array().unwrap().iter().map(|one| one["hosts"].clone()).collect();
    assert_eq!(hosts, [2, 2, 1]);
    let (status, _) = world.post(&format!("/v1/agents/{}/revoke", agents[1].id), "").await;
    assert_eq!(status, 200);
    let (_, page) = world.get("/v1/findings?fleet=web").await;
    let first = &page["findings"][0];
    assert_eq!((&first["hosts"], &first["fleet_hosts"]), (&json!(1), &json!(19)));

    let other = changed(low(), |finding| finding.reason = v1::Reason::Floor.into());
    let (mut stream, _) = FindingsStream::hello(world.connect(&agents[3]).await, 1, 1).await;
    stream.send_items(vec![other]).await;
    assert_eq!(stream.ack().await, 1);
    let (_, page) = world.get("/v1/findings?fleet=web&order=newest").await;
    let floor = &page["findings"][0];
    assert_eq!(
        (&floor["severity"], &floor["hosts"]),
        (&json!("low"), &json!(null)),
        "not a matter of how many"
    );
}
