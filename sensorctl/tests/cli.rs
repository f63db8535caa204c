//! The built `sensorctl` against a collector made of a few canned answers. Not a test of the collector. May call:
//! the binary.

#![expect(clippy::unwrap_used, reason = "a step that fails is a test that fails")]

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Command, Output};
use std::thread;

use tempfile::TempDir;

/// One canned answer: what the request line must be, the status, the body.
type Answer = (&'static str, u16, &'static str);

/// What the collector was sent.
struct Request {
    line: String,
    authorization: String,
    body: String,
}

struct Fixture {
    scratch: TempDir,
    port: u16,
    requests: Option<thread::JoinHandle<Vec<Request>>>,
}

impl Fixture {
    /// A collector that gives these answers, in this order, and then closes.
    fn answering(answers: Vec<Answer>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let requests = thread::spawn(move || answers.into_iter().map(|one| serve(&listener, one)).collect());
        let fixture = Self { scratch: TempDir::new().unwrap(), port, requests: Some(requests) };
        fixture.write("sensorctl.toml", &format!("url = \"http://127.0.0.1:{port}\"\ntoken = \"secret\"\n"));
        fixture
    }

    fn write(&self, name: &str, text: &str) -> PathBuf {
        let path = self.scratch.path().join(name);
        std::fs::write(&path, text).unwrap();
        path
    }

    fn run(&self, arguments: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_sensorctl"))
            .current_dir(self.scratch.path())
            .env("SENSORCTL_CONFIG", "sensorctl.toml")
            .args(arguments)
            .output()
            .unwrap()
    }

    /// What the collector was asked.
    fn requests(&mut self) -> Vec<Request> {
        self.requests.take().unwrap().join().unwrap()
    }

    /// Runs and expects exit 0.
    fn ok(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", text(&output.stderr));
        text(&output.stdout)
    }

    /// Runs and expects exit 1, with nothing on standard output.
    fn fails(&self, arguments: &[&str]) -> String {
        let output = self.run(arguments);
        assert_eq!((output.status.code(), text(&output.stdout)), (Some(1), String::new()), "{arguments:?}");
        text(&output.stderr)
    }
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8(bytes.to_vec()).unwrap()
}

fn serve(listener: &TcpListener, (expected, status, body): Answer) -> Request {
    let (stream, _) = listener.accept().unwrap();
    let request = read(&stream);
    let (status, body) = if request.line == expected {
        (status, body.to_owned())
    } else {
        (500, format!("{{\"error\": \"expected {expected}, asked {}\"}}", request.line))
    };
    let head = format!("HTTP/1.1 {status} X\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", body.len());
    (&stream).write_all(format!("{head}{body}").as_bytes()).unwrap();
    request
}

fn read(stream: &TcpStream) -> Request {
    let mut reader = BufReader::new(stream);
    let mut request = Request { line: String::new(), authorization: String::new(), body: String::new() };
    let mut length = 0;
    for at in 0.. {
        let mut line = String::new();
        reader.read_line(&mut line).unwrap();
        let line = line.trim_end();
        match line.split_once(": ") {
            _ if line.is_empty() => break,
            None if at == 0 => request.line = line.trim_end_matches(" HTTP/1.1").to_owned(),
            Some((name, value)) if name.eq_ignore_ascii_case("content-length") => {
                length = value.parse().unwrap();
            }
            Some((name, value)) if name.eq_ignore_ascii_case("authorization") => {
                request.authorization = value.to_owned();
            }
            _ => {}
        }
    }
    let mut body = vec![0; length];
    reader.read_exact(&mut body).unwrap();
    request.body = text(&body);
    request
}

const FINDING: &str = r#"{"id":"a:b:1","fleet":"web","hostname":"h1","severity":"low","reason":"novel","action":"exec",
    "object":"/bin/sh","workload":"unit:a.service","subject":"/usr/bin/a","time":"2026-11-23T05:00:00.5Z"}"#;

#[test]
fn findings_are_a_table_or_the_answer_itself() {
    let page = r#"{"findings":[{"id":"a:b:1","severity":"low","object":"/bin/sh"}],"next":"7"}"#;
    let asked = "GET /v1/findings?fleet=web&limit=1&order=newest";
    let mut fixture = Fixture::answering(vec![(asked, 200, page), (asked, 200, page)]);
    let listed = fixture.ok(&["findings", "list", "--fleet", "web", "--limit", "1"]);
    assert!(listed.starts_with("LAST") && listed.contains("/bin/sh"), "{listed}");
    assert!(listed.ends_with("more: --after 7\n"), "{listed}");
    let json = fixture.ok(&["findings", "list", "--fleet", "web", "--limit", "1", "--json"]);
    assert!(json.contains("\"next\": \"7\""), "{json}");
    assert!(fixture.requests().iter().all(|request| request.authorization == "Bearer secret"));
}

#[test]
fn approval_goes_to_the_fleet_of_the_finding() {
    let mut fixture = Fixture::answering(vec![
        ("GET /v1/findings/a:b:1", 200, FINDING),
        ("POST /v1/fleets/web/baseline/approve", 200, r#"{"fleet":"web","version":4}"#),
    ]);
    assert!(fixture.ok(&["baseline", "approve", "a:b:1"]).starts_with("version 4 of fleet web is stored"));
    assert_eq!(fixture.requests()[1].body, r#"{"finding":"a:b:1"}"#);
}

#[test]
fn approval_says_how_much_of_a_finding_is_meant() {
    let asked = ("GET /v1/findings/a:b:2", 200, FINDING);
    let approved = ("POST /v1/fleets/web/baseline/approve", 200, r#"{"fleet":"web","version":4}"#);
    let mut fixture = Fixture::answering(vec![asked, approved, asked, approved]);
    fixture.ok(&["baseline", "approve", "a:b:2", "--all", "118"]);
    fixture.ok(&["baseline", "approve", "--one", "a:b:2"]);
    let requests = fixture.requests();
    assert_eq!(requests[1].body, r#"{"behaviours":"all","finding":"a:b:2","upto":"118"}"#);
    assert_eq!(
        requests[3].body, r#"{"behaviours":"one","finding":"a:b:2"}"#,
        "of the evidence that is named"
    );
}

#[test]
fn a_finding_is_shown_with_all_pages_of_its_evidence() {
    let first = r#"{"id":"a:b:1","behaviours":3,"count":3,"evidence":[{"id":"a:b:1","object":"/one"},
        {"id":"a:b:2","object":"/two"}],"evidence_left_off":1,"evidence_next":"7"}"#;
    let second = r#"{"id":"a:b:1","behaviours":3,"count":3,"evidence":[{"id":"a:b:3","object":"/three"}],
        "evidence_left_off":0,"evidence_next":null}"#;
    let fixture = Fixture::answering(vec![
        ("GET /v1/findings/a:b:1", 200, first),
        ("GET /v1/findings/a:b:1?after=7", 200, second),
    ]);
    let shown = fixture.ok(&["findings", "show", "a:b:1"]);
    let places: Vec<_> = ["id a:b:1", "id a:b:2", "id a:b:3"].iter().map(|id| shown.find(id)).collect();
    assert!(places[0].is_some() && places.is_sorted() && !shown.contains("more"), "{shown}");
}

#[test]
fn an_incident_is_shown_with_the_processes_of_all_its_evidence() {
    let page = r#"{"findings":[
        {"id":"a:b:1","agent":"a","incident":"x","severity":"high","count":2,"behaviours":2,"process":{"pid":3}},
        {"id":"a:b:9","agent":"a","incident":"x","severity":"low","count":1,"process":{"pid":9},"object":"/nine"}
        ],"next":null}"#;
    let whole = r#"{"id":"a:b:1","agent":"a","incident":"x","severity":"high","count":2,"behaviours":2,"evidence":[
        {"process":{"pid":3},"object":"/three"},{"process":{"pid":4},"object":"/four"}]}"#;
    let fixture = Fixture::answering(vec![
        ("GET /v1/findings?agent=a&incident=x&limit=200", 200, page),
        ("GET /v1/findings/a:b:1", 200, whole),
        ("GET /v1/findings/a:b:1", 200, whole),
    ]);
    let shown = fixture.ok(&["incidents", "show", "a:x"]);
    assert!(shown.starts_with("incident a:x\n2 findings, 3 behaviours, high, "), "{shown}");
    for part in ["\n3 - ", "/three", "\n4 - ", "/four", "\n9 - ", "/nine"] {
        assert!(shown.contains(part), "{part}: {shown}");
    }
    let alone = fixture.ok(&["incidents", "show", "a:b:1"]);
    assert!(alone.contains("/four"), "a finding without an incident is one by itself: {alone}");
}

#[test]
fn a_pulled_candidate_is_written_as_it_came() {
    let yaml = "fleet: web\nworkloads: {} # 2 of 3 hosts\n";
    let asked = "GET /v1/fleets/web/candidate";
    let fixture = Fixture::answering(vec![(asked, 200, yaml), (asked, 200, yaml)]);
    assert_eq!(fixture.ok(&["baseline", "pull", "--fleet", "web"]), yaml);
    let said = fixture.ok(&["baseline", "pull", "--fleet", "web", "out.yaml"]);
    assert!(said.starts_with("wrote out.yaml: 2 lines"), "{said}");
    assert_eq!(std::fs::read_to_string(fixture.scratch.path().join("out.yaml")).unwrap(), yaml);
}

#[test]
fn a_push_sends_the_file_and_a_mistake_names_its_place() {
    let asked = "PUT /v1/fleets/web/baseline";
    let refusal = r#"{"error":"x","line":5,"column":7,"message":"expected exec, found \"exce\""}"#;
    let mut fixture = Fixture::answering(vec![
        (asked, 200, r#"{"fleet":"web","version":1}"#),
        (asked, 422, refusal),
        ("PUT /v1/fleets/web/baseline?base=1", 409, r#"{"error":"version 2 is in force"}"#),
    ]);
    fixture.write("b.yaml", "fleet: web\n");
    fixture.ok(&["baseline", "push", "--fleet", "web", "b.yaml"]);
    let refused = fixture.fails(&["baseline", "push", "--fleet", "web", "b.yaml"]);
    assert_eq!(refused, "b.yaml:5:7: expected exec, found \"exce\"\n");
    let conflict = fixture.fails(&["baseline", "push", "--fleet", "web", "--base", "1", "b.yaml"]);
    assert!(conflict.contains("version 2 is in force (HTTP 409)"), "{conflict}");
    assert_eq!(fixture.requests()[0].body, "fleet: web\n");
}

#[test]
fn a_diff_against_no_baseline_shows_everything_as_new() {
    let mut fixture = Fixture::answering(vec![(
        "GET /v1/fleets/web/baseline",
        404,
        r#"{"error":"fleet web has no baseline"}"#,
    )]);
    fixture.write("b.yaml", "fleet: web\nworkloads:\n  host: {}\n");
    let diff = fixture.ok(&["baseline", "diff", "--fleet", "web", "b.yaml"]);
    assert_eq!(diff, "+ fleet: web\n+ workloads:\n+   host: {}\n");
    assert_eq!(fixture.requests().len(), 1);
}

#[test]
fn refusals_name_what_was_refused() {
    let fixture = Fixture::answering(vec![
        ("GET /v1/findings/x:y:1", 404, r#"{"error":"finding \"x:y:1\" does not exist"}"#),
        ("GET /v1/agents", 401, r#"{"error":"bearer token is unknown"}"#),
        ("GET /v1/fleets", 200, "no json"),
    ]);
    let url = format!("collector http://127.0.0.1:{}", fixture.port);
    assert_eq!(
        fixture.fails(&["findings", "show", "x:y:1"]),
        format!("{url}: finding \"x:y:1\" does not exist\n")
    );
    assert_eq!(
        fixture.fails(&["agents", "list"]),
        format!("{url} refused the token of sensorctl.toml: bearer token is unknown\n")
    );
    assert!(fixture.fails(&["fleets", "list"]).starts_with(&format!("{url}: answer is not JSON")));
}

#[test]
fn a_collector_that_is_away_is_named() {
    let mut fixture = Fixture::answering(Vec::new());
    fixture.requests();
    let away = fixture.fails(&["gaps", "list"]);
    let url = format!("http://127.0.0.1:{}", fixture.port);
    assert_eq!(away, format!("collector {url}: connection refused; is the collector running?\n"));
}

#[test]
fn wrong_usage_and_missing_files_exit_1() {
    let fixture = Fixture::answering(Vec::new());
    assert!(fixture.fails(&["findings", "lst"]).contains("lst"));
    assert!(fixture.fails(&["baseline", "push", "--fleet", "web", "no.yaml"]).contains("reading no.yaml"));
    assert!(fixture.fails(&["--config", "no.toml", "fleets", "list"]).contains("no.toml"));
}
