//! The real process, killed while it commits: what it acknowledged is there afterwards, once, and nothing half.

use std::process::Stdio;

use sensor_proto::v1;
use sensor_proto::v1::findings_down::Frame;
use tokio::io::{AsyncBufReadExt, BufReader};
use tokio::process::{Child, Command};

use crate::support::{FindingsStream, Site, finding, nginx, within};

/// Starts the program and waits until it listens.
async fn spawn(site: &mut Site) -> Child {
    let mut child = Command::new(env!("CARGO_BIN_EXE_sensor-collector"))
        .arg("run")
        .arg("--config")
        .arg(&site.made.config)
        .stdout(Stdio::piped())
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let line = within(lines.next_line()).await.unwrap().expect("the collector says where it listens");
    let ports: Vec<u16> = line
        .split(':')
        .skip(1)
        .map(|part| part.split(' ').next().unwrap().parse().unwrap_or_else(|_| panic!("a port in {line:?}")))
        .collect();
    assert!(line.starts_with("listening grpc=127.0.0.1:") && line.contains(" http=127.0.0.1:"), "{line}");
    (site.grpc_port, site.http_port) = (ports[0], ports[1]);
    child
}

fn batch(first: u64) -> Vec<v1::Item> {
    let behaviour = nginx(v1::Action::Exec, "/usr/bin/curl");
    (first..first + BATCH).map(|seq| finding(seq, behaviour.clone(), v1::Reason::Novel)).collect()
}

#[tokio::test]
async fn what_was_acknowledged_survives_every_kill_and_nothing_is_stored_twice() {
    let mut site = Site::init("").await;
    let mut child = spawn(&mut site).await;
    let agent = site.enroll().await;
    let mut acknowledged = 0;
    for round in 0..KILLS {
        let (mut stream, welcome) =
            FindingsStream::hello(site.connect(&agent).await, acknowledged + 1, LAST).await;
        assert!(welcome.durable_upto >= acknowledged, "round {round}: {acknowledged} was acknowledged");
        // Several batches under way when the kill comes, after another number of acks each time.
        let mut next = welcome.durable_upto + 1;
        for _ in 0..8 {
            stream.send_items(batch(next)).await;
            next += BATCH;
        }
        for _ in 0..round % 7 {
            acknowledged = stream.ack().await;
        }
        child.kill().await.unwrap();
        while let Ok(Some(Frame::Ack(ack))) = stream.next().await {
            acknowledged = ack.upto;
        }
        child = spawn(&mut site).await;
    }
    let (_, welcome) = FindingsStream::hello(site.connect(&agent).await, acknowledged + 1, LAST).await;
    let (mut seqs, mut after) = (Vec::new(), String::new());
    loop {
        let (_, page) = site.get(&format!("/v1/findings?limit=1000{after}")).await;
        seqs.extend(page["findings"].as_array().unwrap().iter().map(|f| f["seq"].as_u64().unwrap()));
        match page["next"].as_str() {
            Some(next) => after = format!("&after={next}"),
            None => break,
        }
    }
    assert_eq!(seqs, (1..=welcome.durable_upto).collect::<Vec<_>>());
    assert!(welcome.durable_upto >= acknowledged && acknowledged > 0);
    let (_, gaps) = site.get("/v1/gaps").await;
    assert_eq!(gaps["gaps"], serde_json::json!([]));
}

const KILLS: u64 = 10;
const BATCH: u64 = 20;
/// What the hellos say is in the spool: more than is ever sent.
const LAST: u64 = 1_000_000;
