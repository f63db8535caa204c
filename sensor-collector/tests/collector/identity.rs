//! Who may do what: enrollment tokens, client certificates, revocation, API tokens.

use rcgen::{BasicConstraints, CertificateParams, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, SanType};
use sensor_proto::v1;
use sensor_proto::v1::enroll_client::EnrollClient;
use tonic::Code;

use crate::support::{ControlStream, FindingsStream, World, certificate_request, finding, nginx, within};

#[tokio::test]
async fn a_token_works_once_and_each_refusal_says_why() {
    let world = World::start().await;
    let agent = world.enroll().await;
    let check = async |token: &str, expected: &str| {
        let status = world.enroll_with(token).await.map(|_| ()).unwrap_err();
        assert_eq!(status.code(), Code::Unauthenticated);
        assert!(status.message().contains(expected), "{}", status.message());
    };
    check(&world.made.enrollment_token, "was used at 2").await;
    check(&world.made.enrollment_token, &agent.id).await;
    check("sensor1.x.y", "malformed").await;
    let other = World::start().await;
    check(&other.made.enrollment_token, "is unknown").await;
    let (_, status) = world.get("/v1/status").await;
    assert_eq!(status["counters"]["enrollments_refused"], 4);
}

#[tokio::test]
async fn a_bad_certificate_request_does_not_use_the_token_up() {
    let world = World::start().await;
    let request = v1::EnrollRequest {
        token: world.made.enrollment_token.clone(),
        csr_der: vec![1, 2, 3],
        ..v1::EnrollRequest::default()
    };
    let status = EnrollClient::new(world.anonymous().await).enroll(request).await.unwrap_err();
    assert_eq!(status.code(), Code::InvalidArgument);
    assert!(status.message().starts_with("certificate request:"), "{}", status.message());
    world.enroll().await;
}

#[tokio::test]
async fn without_a_client_certificate_there_is_only_enrollment() {
    let world = World::start().await;
    let status = FindingsStream::open(world.anonymous().await).await.map(|_| ()).unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated);
    assert_eq!(status.message(), "no client certificate: enroll this agent first");
}

#[tokio::test]
async fn a_certificate_of_another_authority_is_refused() {
    let world = World::start().await;
    let agent = world.enroll().await;
    // The right name, signed by somebody else.
    let ca_key = KeyPair::generate().unwrap();
    let mut ca = CertificateParams::default();
    ca.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let issuer = Issuer::new(ca, ca_key);
    let key = KeyPair::generate().unwrap();
    let mut forged = CertificateParams::default();
    let name = format!("spiffe://sensor/agent/{}", agent.id);
    forged.subject_alt_names = vec![SanType::URI(name.try_into().unwrap())];
    forged.extended_key_usages = vec![ExtendedKeyUsagePurpose::ClientAuth];
    let certificate = forged.signed_by(&key, &issuer).unwrap();
    let connected = world.try_connect(&certificate.pem(), &key.serialize_pem(), &agent.ca_pem).await;
    // With TLS 1.3 the client hears of it with its first read.
    let refused = match connected {
        Err(_) => true,
        Ok(channel) => FindingsStream::open(channel).await.is_err(),
    };
    assert!(refused);
    let (_, status) = world.get("/v1/status").await;
    assert_eq!(status["streams"], 0);
}

#[tokio::test]
async fn an_agent_does_not_accept_a_collector_of_another_authority() {
    let (world, other) = (World::start().await, World::start().await);
    let agent = world.enroll().await;
    let connected = world.try_connect(&agent.certificate_pem, &agent.key_pem, &other.ca_pem()).await;
    assert!(connected.is_err());
}

#[tokio::test]
async fn an_agent_of_another_collector_with_this_authority_is_not_enrolled() {
    let world = World::start().await;
    let agent = world.enroll().await;
    let database = world.state_dir().join("collector.db");
    let connection = rusqlite::Connection::open(database).unwrap();
    connection.execute("DELETE FROM agents", []).unwrap();
    let status = FindingsStream::open(world.connect(&agent).await).await.map(|_| ()).unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated);
    assert_eq!(status.message(), format!("agent {} is not enrolled here", agent.id));
}

#[tokio::test]
async fn a_revocation_cuts_live_streams_and_refuses_new_ones() {
    let world = World::start().await;
    let agent = world.enroll().await;
    let (mut findings, _) = FindingsStream::hello(world.connect(&agent).await, 0, 0).await;
    let (mut control, _) = ControlStream::open(world.connect(&agent).await, &[]).await;
    let (status, body) = world.post(&format!("/v1/agents/{}/revoke", agent.id), "").await;
    assert_eq!((status, &body["revoked"]), (200, &true.into()));
    assert_eq!(findings.go_away().await.reason, "this agent is revoked");
    let Ok(Some(v1::control_down::Frame::GoAway(go_away))) = control.next().await else {
        panic!("expected a go-away");
    };
    assert_eq!(go_away.reason, "this agent is revoked");
    let status = FindingsStream::open(world.connect(&agent).await).await.map(|_| ()).unwrap_err();
    assert_eq!(status.message(), format!("agent {} is revoked", agent.id));
    let renew = v1::RenewRequest { csr_der: certificate_request().1 };
    let status = EnrollClient::new(world.connect(&agent).await).renew(renew).await.unwrap_err();
    assert_eq!(status.code(), Code::Unauthenticated);
}

#[tokio::test]
async fn a_renewed_certificate_is_the_same_agent() {
    let world = World::start().await;
    let mut agent = world.enroll().await;
    let (key_pem, csr_der) = certificate_request();
    let renew = v1::RenewRequest { csr_der };
    let mut client = EnrollClient::new(world.connect(&agent).await);
    let renewed = within(client.renew(renew)).await.unwrap().into_inner();
    assert_eq!((&renewed.agent_id, &renewed.fleet), (&agent.id, &agent.fleet));
    agent.certificate_pem = renewed.certificate_pem;
    agent.key_pem = key_pem;
    let (mut stream, _) = FindingsStream::hello(world.connect(&agent).await, 1, 1).await;
    stream.send_items(vec![finding(1, nginx(v1::Action::Exec, "/x"), v1::Reason::Novel)]).await;
    assert_eq!(stream.ack().await, 1);
}

#[tokio::test]
async fn the_api_wants_a_good_token_and_healthz_none() {
    let world = World::start().await;
    for (token, expected) in [(None, "no bearer token"), (Some("sensorapi1.x"), "bearer token is unknown")] {
        for path in ["/v1/findings", "/v1/fleets/web/baseline", "/v1/status"] {
            let (status, body) = world.request("GET", path, None, token).await;
            assert_eq!(status, 401, "{path}");
            assert!(body.contains(expected), "{body}");
        }
    }
    let (status, _) = world.request("PUT", "/v1/fleets/web/baseline", Some("x"), None).await;
    assert_eq!(status, 401);
    let (status, body) = world.request("GET", "/healthz", None, None).await;
    assert_eq!((status, body.as_str()), (200, r#"{"status":"ok"}"#));
}

#[tokio::test]
async fn init_never_overwrites() {
    let world = World::start().await;
    let free = "127.0.0.1:0".parse().unwrap();
    let options = sensor_collector::init::InitOptions {
        state_dir: world.state_dir(),
        config: None,
        fleet: "web".to_owned(),
        listen_grpc: free,
        listen_http: free,
        names: vec![],
    };
    let before = world.ca_pem();
    let error = sensor_collector::init::init(&options).await.unwrap_err().to_string();
    assert!(error.ends_with("ca.pem exists: init does not overwrite a collector's state"), "{error}");
    assert_eq!(world.ca_pem(), before);
}

#[tokio::test]
async fn a_second_collector_on_the_same_state_is_refused() {
    let world = World::start().await;
    let config = sensor_collector::config::Config::read(&world.made.config).unwrap();
    let error = sensor_collector::serve::start(config).await.map(|_| ()).unwrap_err().to_string();
    assert!(error.ends_with("is in use by another collector"), "{error}");
}

#[tokio::test]
async fn what_init_and_run_write_is_readable_by_others_only_where_it_is_public() {
    use std::os::unix::fs::PermissionsExt;
    let world = World::start().await;
    let mut secret = Vec::new();
    for entry in std::fs::read_dir(world.state_dir()).unwrap() {
        let entry = entry.unwrap();
        let mode = entry.metadata().unwrap().permissions().mode() & 0o777;
        let name = entry.file_name().into_string().unwrap();
        let public = ["ca.pem", "server.pem", "collector.toml"].contains(&name.as_str());
        // The process's own mask may take more away.
        assert_eq!(mode & !if public { 0o644 } else { 0o600 }, 0, "{name} has mode {mode:o}");
        secret.extend((!public).then_some(name));
    }
    for name in ["ca.key", "server.key", "sensorctl.toml", "collector.db"] {
        assert!(secret.iter().any(|found| found == name), "{name} is there");
    }
    // The port was chosen at start, and sensorctl's file says which.
    let text = std::fs::read_to_string(world.state_dir().join("sensorctl.toml")).unwrap();
    assert!(text.contains(&format!("url = \"https://127.0.0.1:{}\"", world.http_port)), "{text}");
}

#[tokio::test]
async fn a_wrong_method_and_a_wrong_page_are_answered_in_json() {
    let world = World::start().await;
    let token = Some(world.made.api_token.as_str());
    let (status, body) = world.request("DELETE", "/v1/findings", None, token).await;
    assert_eq!((status, body.as_str()), (405, r#"{"error":"DELETE is not possible on /v1/findings"}"#));
    let (status, body) = world.request("GET", "/v2/findings", None, token).await;
    assert_eq!((status, body.as_str()), (404, r#"{"error":"no such page: /v2/findings"}"#));
}
