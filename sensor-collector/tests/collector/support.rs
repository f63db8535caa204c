//! A collector in a temporary directory, an agent made of a tonic client, and an operator. It asserts nothing but that
//! the set-up works.

use std::ops::Deref;
use std::path::PathBuf;
use std::time::Duration;

use rcgen::{CertificateParams, KeyPair};
use sensor_collector::config::Config;
use sensor_collector::init::{InitOptions, Initialised, init};
use sensor_collector::serve::{self, Running};
use sensor_proto::v1;
use sensor_proto::v1::control_client::ControlClient;
use sensor_proto::v1::enroll_client::EnrollClient;
use sensor_proto::v1::findings_client::FindingsClient;
use serde_json::Value;
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;
use tonic::transport::{Certificate, Channel, ClientTlsConfig, Endpoint, Identity};
use tonic::{Request, Status, Streaming};

/// Nothing here takes so long, and a test that hangs should say where.
const DEADLINE: Duration = Duration::from_secs(20);

/// A collector in this process and its directory.
pub(crate) struct World {
    pub(crate) running: Running,
    pub(crate) site: Site,
}

/// What clients need to know of a collector, wherever it runs.
pub(crate) struct Site {
    pub(crate) made: Initialised,
    pub(crate) grpc_port: u16,
    pub(crate) http_port: u16,
    dir: tempfile::TempDir,
}

impl Deref for World {
    type Target = Site;

    fn deref(&self) -> &Site {
        &self.site
    }
}

/// What an agent has after enrolling.
#[derive(Clone)]
pub(crate) struct Enrolled {
    pub(crate) id: String,
    pub(crate) fleet: String,
    pub(crate) certificate_pem: String,
    pub(crate) key_pem: String,
    pub(crate) ca_pem: String,
}

impl World {
    /// A new collector with fleet `web`.
    pub(crate) async fn start() -> Self {
        Self::start_with("").await
    }

    /// With more lines of configuration.
    pub(crate) async fn start_with(config: &str) -> Self {
        Self::serve(Site::init(config).await).await
    }

    /// Stops the collector and starts it again on its state.
    pub(crate) async fn restart(self) -> Self {
        within(self.running.stop()).await.unwrap();
        Self::serve(self.site).await
    }

    async fn serve(site: Site) -> Self {
        let running = serve::start(Config::read(&site.made.config).unwrap()).await.unwrap();
        let (grpc_port, http_port) = (running.grpc_address.port(), running.http_address.port());
        Self { running, site: Site { grpc_port, http_port, ..site } }
    }
}

impl Site {
    /// The state of a collector that has not run yet.
    pub(crate) async fn init(config: &str) -> Self {
        // Another test of this process may have installed it.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let dir = tempfile::tempdir().unwrap();
        let free = "127.0.0.1:0".parse().unwrap();
        let options = InitOptions {
            state_dir: dir.path().join("state"),
            config: None,
            fleet: "web".to_owned(),
            listen_grpc: free,
            listen_http: free,
            names: vec![],
        };
        let made = init(&options).await.unwrap();
        let text = std::fs::read_to_string(&made.config).unwrap();
        std::fs::write(&made.config, format!("{text}{config}\n")).unwrap();
        Self { made, grpc_port: 0, http_port: 0, dir }
    }

    pub(crate) fn state_dir(&self) -> PathBuf {
        self.dir.path().join("state")
    }

    pub(crate) fn ca_pem(&self) -> String {
        std::fs::read_to_string(self.state_dir().join("ca.pem")).unwrap()
    }

    fn endpoint(&self) -> Endpoint {
        Endpoint::from_shared(format!("https://localhost:{}", self.grpc_port)).unwrap()
    }

    /// A connection without a client certificate.
    pub(crate) async fn anonymous(&self) -> Channel {
        let tls = ClientTlsConfig::new().ca_certificate(Certificate::from_pem(self.ca_pem()));
        within(self.endpoint().tls_config(tls).unwrap().connect()).await.unwrap()
    }

    /// A connection as an agent.
    pub(crate) async fn connect(&self, agent: &Enrolled) -> Channel {
        self.try_connect(&agent.certificate_pem, &agent.key_pem, &agent.ca_pem).await.unwrap()
    }

    pub(crate) async fn try_connect(
        &self,
        certificate: &str,
        key: &str,
        ca: &str,
    ) -> Result<Channel, tonic::transport::Error> {
        let tls = ClientTlsConfig::new()
            .ca_certificate(Certificate::from_pem(ca))
            .identity(Identity::from_pem(certificate, key));
        within(self.endpoint().tls_config(tls).unwrap().connect()).await
    }

    /// Enrolls with the first token.
    pub(crate) async fn enroll(&self) -> Enrolled {
        self.enroll_with(&self.made.enrollment_token).await.unwrap()
    }

    /// Enrolls another agent, with a token of its own.
    pub(crate) async fn enroll_another(&self, fleet: &str) -> Enrolled {
        let (status, body) = self.post(&format!("/v1/fleets/{fleet}/tokens"), "").await;
        assert_eq!(status, 201, "{body}");
        self.enroll_with(body["token"].as_str().unwrap()).await.unwrap()
    }

    pub(crate) async fn enroll_with(&self, token: &str) -> Result<Enrolled, Status> {
        let (key_pem, csr_der) = certificate_request();
        let request = v1::EnrollRequest {
            token: token.to_owned(),
            csr_der,
            hostname: "host-a".to_owned(),
            agent_version: "0.1.0".to_owned(),
            kernel_release: "6.18.0".to_owned(),
        };
        let response = within(EnrollClient::new(self.anonymous().await).enroll(request)).await?.into_inner();
        Ok(Enrolled {
            id: response.agent_id,
            fleet: response.fleet,
            certificate_pem: response.certificate_pem,
            key_pem,
            ca_pem: response.ca_pem,
        })
    }

    pub(crate) async fn get(&self, path: &str) -> (u16, Value) {
        let (status, text) = self.get_text(path).await;
        (status, serde_json::from_str(&text).unwrap_or_else(|error| panic!("{path}: {error}: {text}")))
    }

    pub(crate) async fn get_text(&self, path: &str) -> (u16, String) {
        self.request("GET", path, None, Some(&self.made.api_token)).await
    }

    pub(crate) async fn post(&self, path: &str, body: &str) -> (u16, Value) {
        let (status, text) = self.request("POST", path, Some(body), Some(&self.made.api_token)).await;
        (status, serde_json::from_str(&text).unwrap())
    }

    pub(crate) async fn put(&self, path: &str, body: &str) -> (u16, Value) {
        let (status, text) = self.request("PUT", path, Some(body), Some(&self.made.api_token)).await;
        (status, serde_json::from_str(&text).unwrap())
    }

    pub(crate) async fn request(
        &self,
        method: &str,
        path: &str,
        body: Option<&str>,
        token: Option<&str>,
    ) -> (u16, String) {
        let url = format!("https://127.0.0.1:{}{path}", self.http_port);
        let mut request = ureq::http::Request::builder().method(method).uri(url);
        if let Some(token) = token {
            request = request.header("authorization", format!("Bearer {token}"));
        }
        let request = request.body(body.unwrap_or_default().to_owned()).unwrap();
        let ca = ureq::tls::Certificate::from_pem(self.ca_pem().as_bytes()).unwrap();
        let roots = ureq::tls::RootCerts::new_with_certs(&[ca]);
        let tls = ureq::tls::TlsConfig::builder().root_certs(roots).build();
        let agent = ureq::Agent::config_builder()
            .tls_config(tls)
            .http_status_as_error(false)
            .allow_non_standard_methods(true)
            .timeout_global(Some(DEADLINE))
            .build()
            .new_agent();
        let exchange = move || {
            let mut response = agent.run(request).unwrap();
            (response.status().as_u16(), response.body_mut().read_to_string().unwrap())
        };
        tokio::task::spawn_blocking(exchange).await.unwrap()
    }
}

/// A Findings stream of an agent.
pub(crate) struct FindingsStream {
    pub(crate) up: mpsc::Sender<v1::FindingsUp>,
    pub(crate) down: Streaming<v1::FindingsDown>,
}

impl FindingsStream {
    pub(crate) async fn open(channel: Channel) -> Result<Self, Status> {
        let (up, frames) = mpsc::channel(64);
        let mut client = FindingsClient::new(channel).max_encoding_message_size(16 << 20);
        let down = within(client.stream(Request::new(ReceiverStream::new(frames)))).await?.into_inner();
        Ok(Self { up, down })
    }

    /// Opens, says hello and returns the welcome.
    pub(crate) async fn hello(channel: Channel, first_seq: u64, last_seq: u64) -> (Self, v1::Welcome) {
        let mut stream = Self::open(channel).await.unwrap();
        let hello = v1::Hello { epoch: EPOCH.to_vec(), first_seq, last_seq };
        stream.send(v1::findings_up::Frame::Hello(hello)).await;
        match stream.next().await {
            Ok(Some(v1::findings_down::Frame::Welcome(welcome))) => (stream, welcome),
            other => panic!("expected a welcome, got {other:?}"),
        }
    }

    pub(crate) async fn send(&self, frame: v1::findings_up::Frame) {
        within(self.up.send(v1::FindingsUp { frame: Some(frame) })).await.unwrap();
    }

    pub(crate) async fn send_items(&self, items: Vec<v1::Item>) {
        self.send(v1::findings_up::Frame::Batch(v1::Batch { epoch: EPOCH.to_vec(), items })).await;
    }

    pub(crate) async fn next(&mut self) -> Result<Option<v1::findings_down::Frame>, Status> {
        Ok(within(self.down.message()).await?.map(|frame| frame.frame.expect("a frame has content")))
    }

    /// The next frame, which must be an ack.
    pub(crate) async fn ack(&mut self) -> u64 {
        match self.next().await {
            Ok(Some(v1::findings_down::Frame::Ack(ack))) => ack.upto,
            other => panic!("expected an ack, got {other:?}"),
        }
    }

    /// The next frame, which must be a go-away, and after which the stream must end.
    pub(crate) async fn go_away(&mut self) -> v1::GoAway {
        match self.next().await {
            Ok(Some(v1::findings_down::Frame::GoAway(go_away))) => {
                assert!(matches!(self.next().await, Ok(None)), "nothing follows a go-away");
                go_away
            }
            other => panic!("expected a go-away, got {other:?}"),
        }
    }
}

/// A Control stream of an agent.
pub(crate) struct ControlStream {
    pub(crate) up: mpsc::Sender<v1::ControlUp>,
    pub(crate) down: Streaming<v1::ControlDown>,
}

impl ControlStream {
    /// Opens, sends a heartbeat with that baseline in force and returns the welcome.
    pub(crate) async fn open(channel: Channel, baseline_sha256: &[u8]) -> (Self, v1::ControlWelcome) {
        let (up, frames) = mpsc::channel(64);
        let down = within(ControlClient::new(channel).session(ReceiverStream::new(frames))).await.unwrap();
        let mut stream = Self { up, down: down.into_inner() };
        stream.send(v1::control_up::Frame::Heartbeat(heartbeat(baseline_sha256))).await;
        match stream.next().await {
            Ok(Some(v1::control_down::Frame::Welcome(welcome))) => (stream, welcome),
            other => panic!("expected a welcome, got {other:?}"),
        }
    }

    pub(crate) async fn send(&self, frame: v1::control_up::Frame) {
        within(self.up.send(v1::ControlUp { frame: Some(frame) })).await.unwrap();
    }

    pub(crate) async fn next(&mut self) -> Result<Option<v1::control_down::Frame>, Status> {
        Ok(within(self.down.message()).await?.map(|frame| frame.frame.expect("a frame has content")))
    }

    /// The next frame, which must be a baseline.
    pub(crate) async fn offer(&mut self) -> v1::BaselineOffer {
        match self.next().await {
            Ok(Some(v1::control_down::Frame::Baseline(offer))) => offer,
            other => panic!("expected a baseline, got {other:?}"),
        }
    }
}

pub(crate) fn heartbeat(baseline_sha256: &[u8]) -> v1::Heartbeat {
    v1::Heartbeat {
        agent_version: "0.1.0".to_owned(),
        hostname: "host-a".to_owned(),
        kernel_release: "6.18.0".to_owned(),
        boot_id: vec![0xab; 16],
        counters: [("records_seen{kind=exec}".to_owned(), 3)].into(),
        hooks: [("exec".to_owned(), "tp_btf/sched_process_exec".to_owned())].into(),
        baseline_version: 0,
        baseline_sha256: baseline_sha256.to_vec(),
        degraded: vec![],
        spool_items: 1,
        spool_bytes: 2,
    }
}

/// A finding about `behaviour`, as an agent would send it.
pub(crate) fn finding(seq: u64, behaviour: v1::Behaviour, reason: v1::Reason) -> v1::Item {
    let process = |pid: u32, exe: &str| v1::Process {
        pid,
        start_time_ns: 5,
        exe: exe.to_owned(),
        argv: vec!["curl".to_owned(), "-s \\x0a \"q\"".to_owned()],
        cwd: "/".to_owned(),
        uid: 33,
        euid: 33,
        comm: "curl".to_owned(),
        cgroup: "/system.slice/nginx.service".to_owned(),
        who: None,
    };
    let finding = v1::Finding {
        time_unix_ns: 1_800_000_000_123_456_789,
        severity: v1::Severity::High.into(),
        reason: reason.into(),
        behaviour: Some(behaviour),
        process: Some(process(10, "/usr/bin/curl")),
        ancestors: vec![process(9, "/usr/sbin/nginx")],
        floor_rule: None,
        sigma_rules: Vec::new(),
        explanation: Some(v1::Explanation {
            summary: "a sentence".to_owned(),
            nearest: vec!["/usr/sbin/nginx".to_owned()],
            edit: "an edit".to_owned(),
        }),
        tier: "tracepoint".to_owned(),
        object_from_caller: false,
        incident: "7-5-1".to_owned(),
        baseline_version: 1,
        hostname: "host-a".to_owned(),
        finding: String::new(),
        count: 0,
        is_repeat: false,
    };
    v1::Item { seq, content: Some(v1::item::Content::Finding(finding)), first_seq: 0 }
}

/// The item with another finding in it.
pub(crate) fn changed(mut item: v1::Item, change: impl FnOnce(&mut v1::Finding)) -> v1::Item {
    let Some(v1::item::Content::Finding(finding)) = &mut item.content else { panic!("it is a finding") };
    change(finding);
    item
}

/// nginx does something.
pub(crate) fn nginx(action: v1::Action, object: &str) -> v1::Behaviour {
    v1::Behaviour {
        workload: "unit:nginx.service".to_owned(),
        subject: "/usr/sbin/nginx".to_owned(),
        action: action.into(),
        object: object.to_owned(),
    }
}

/// A key (PEM) and a request for it (DER).
pub(crate) fn certificate_request() -> (String, Vec<u8>) {
    let key = KeyPair::generate().unwrap();
    let request = CertificateParams::default().serialize_request(&key).unwrap();
    (key.serialize_pem(), request.der().to_vec())
}

/// The result, or a failed test after the deadline.
pub(crate) async fn within<F: Future>(future: F) -> F::Output {
    tokio::time::timeout(DEADLINE, future).await.expect("done before the deadline")
}

/// Asks again until the answer is right, or the deadline has passed.
pub(crate) async fn until<F, T>(what: &str, mut ask: impl FnMut() -> F) -> T
where
    F: Future<Output = Option<T>>,
{
    let start = std::time::Instant::now();
    loop {
        if let Some(answer) = ask().await {
            return answer;
        }
        assert!(start.elapsed() < DEADLINE, "{what}: not before the deadline");
        tokio::task::yield_now().await;
    }
}

pub(crate) const EPOCH: [u8; 16] = [0x5e; 16];
