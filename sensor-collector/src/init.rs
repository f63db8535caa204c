//! `sensor-collector init`: a new collector's certificates, store, first tokens and configuration. It starts nothing
//! and never overwrites. It may call the file system, the clock and the store's schema.

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, bail};

use crate::clock;
use crate::config::Config;
use crate::identity::authority::{Authority, Identity};
use crate::identity::check_fleet_name;
use crate::identity::secret::{Sha256Hash, new_api_token, new_enrollment_token};
use crate::state::{MODE_PUBLIC, MODE_SECRET, StateDir, write_new};
use crate::store::{Store, StoreError, tokens};

/// What `init` is asked for.
#[derive(Clone, Debug)]
pub struct InitOptions {
    /// Where the state goes.
    pub state_dir: PathBuf,
    /// Where the configuration goes; inside the state directory by default.
    pub config: Option<PathBuf>,
    /// The first fleet.
    pub fleet: String,
    /// Where agents connect.
    pub listen_grpc: SocketAddr,
    /// Where operators connect.
    pub listen_http: SocketAddr,
    /// More names and addresses that agents and operators reach it by.
    pub names: Vec<String>,
}

/// What `init` made; the tokens are nowhere else in plain text but in `sensorctl.toml`.
#[derive(Clone, Debug)]
pub struct Initialised {
    /// The configuration file.
    pub config: PathBuf,
    /// For sensorctl.
    pub sensorctl: PathBuf,
    /// For operators.
    pub api_token: String,
    /// For the first agent.
    pub enrollment_token: String,
}

/// Makes a new state directory. Fails when there is a part of one.
pub async fn init(options: &InitOptions) -> anyhow::Result<Initialised> {
    check_fleet_name(&options.fleet)?;
    let state = StateDir::new(&options.state_dir);
    let config = options.config.clone().unwrap_or_else(|| state.config());
    if let Some(existing) = state.first_existing().or_else(|| config.exists().then(|| config.clone())) {
        bail!("{} exists: init does not overwrite a collector's state", existing.display());
    }
    let names = certificate_names(options);
    let now = clock::now();
    let ca = Authority::generate(now)?;
    let authority = Authority::load(&ca)?;
    let server = authority.issue_server(&names, now)?;
    let enrollment_token = new_enrollment_token(&authority.fingerprint())?;
    let api_token = new_api_token()?;

    state.create()?;
    write_identity(&state, &ca, &server)?;
    let store = Store::open(&state.database(), INIT_STORE_BYTES_MAX)?;
    let (fleet, enrollment, api) = (options.fleet.clone(), enrollment_token.clone(), api_token.clone());
    store
        .write(move |connection| -> Result<(), StoreError> {
            tokens::ensure_fleet(connection, &fleet, now)?;
            let expires = now.plus_seconds(FIRST_TOKEN_LIFETIME.as_secs());
            let hash = Sha256Hash::of(enrollment.as_bytes());
            tokens::insert_enrollment(connection, hash, &fleet, "init", now, expires)?;
            tokens::insert_api(connection, Sha256Hash::of(api.as_bytes()), FIRST_API_TOKEN_NAME, now)
        })
        .await
        .context("writing the first tokens")?;
    let url = format!("https://{}", url_host_and_port(&names, options.listen_http));
    let ca_path = std::path::absolute(state.ca_certificate())?;
    write_new(
        &state.sensorctl(),
        &sensorctl_text(&url, &api_token, &ca_path.to_string_lossy()),
        MODE_SECRET,
    )?;
    // Last: a configuration file means that everything before it is there.
    let state_dir = std::path::absolute(state.root())?;
    write_new(&config, &Config::text(&state_dir, options.listen_grpc, options.listen_http), MODE_PUBLIC)?;
    Ok(Initialised { config, sensorctl: state.sensorctl(), api_token, enrollment_token })
}

fn write_identity(state: &StateDir, ca: &Identity, server: &Identity) -> anyhow::Result<()> {
    write_new(&state.ca_key(), &ca.key_pem, MODE_SECRET)?;
    write_new(&state.ca_certificate(), &ca.certificate_pem, MODE_PUBLIC)?;
    write_new(&state.server_key(), &server.key_pem, MODE_SECRET)?;
    write_new(&state.server_certificate(), &server.certificate_pem, MODE_PUBLIC)
}

/// The names that the server certificate carries, the asked-for ones first.
fn certificate_names(options: &InitOptions) -> Vec<String> {
    let mut names = options.names.clone();
    let listened = [options.listen_http.ip(), options.listen_grpc.ip()];
    names.extend(listened.into_iter().filter(|ip| !ip.is_unspecified()).map(|ip| ip.to_string()));
    names.extend(["localhost", "127.0.0.1", "::1"].map(str::to_owned));
    let mut seen = std::collections::BTreeSet::new();
    names.retain(|name| seen.insert(name.clone()));
    names
}

/// How an operator on this host reaches the API.
fn url_host_and_port(names: &[String], listen: SocketAddr) -> String {
    if !listen.ip().is_unspecified() {
        return listen.to_string();
    }
    let name = names.first().map_or("localhost", String::as_str);
    match name.parse::<IpAddr>() {
        Ok(address) => SocketAddr::new(address, listen.port()).to_string(),
        Err(_) => format!("{name}:{}", listen.port()),
    }
}

/// The text of `sensorctl.toml`.
fn sensorctl_text(url: &str, token: &str, ca: &str) -> String {
    let quoted = |text: &str| toml::Value::from(text);
    format!(
        "# Written by sensor-collector init. Whoever reads the token can change every baseline.\n\
         url = {}\ntoken = {}\nca = {}\n",
        quoted(url),
        quoted(token),
        quoted(ca)
    )
}

/// The same text with another port in its URL, for a collector that listens on a port it chose at start.
pub fn with_port(sensorctl: &str, port: u16) -> String {
    let mut text = String::with_capacity(sensorctl.len());
    for line in sensorctl.lines() {
        match line.strip_prefix("url = \"").and_then(|rest| rest.strip_suffix('"')) {
            Some(url) => {
                let host = url.rsplit_once(':').map_or(url, |(host, _)| host);
                text.push_str(&format!("url = \"{host}:{port}\""));
            }
            None => text.push_str(line),
        }
        text.push('\n');
    }
    text
}

const FIRST_API_TOKEN_NAME: &str = "admin";
const FIRST_TOKEN_LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);
/// The new store holds a few rows; `run` opens it with the configured bound.
const INIT_STORE_BYTES_MAX: u64 = 1 << 30;

#[cfg(test)]
mod tests {
    use super::{sensorctl_text, url_host_and_port, with_port};

    #[test]
    fn the_url_names_an_address_that_can_be_reached() {
        let names = ["collector.example".to_owned()];
        assert_eq!(url_host_and_port(&names, "127.0.0.1:7444".parse().unwrap()), "127.0.0.1:7444");
        assert_eq!(url_host_and_port(&names, "0.0.0.0:7444".parse().unwrap()), "collector.example:7444");
        assert_eq!(url_host_and_port(&["::1".to_owned()], "[::]:1".parse().unwrap()), "[::1]:1");
    }

    #[test]
    fn a_new_port_changes_the_url_only() {
        let text = sensorctl_text("https://127.0.0.1:0", "t:0", "/x:0/ca.pem");
        let changed = with_port(&text, 81);
        assert_eq!(changed, text.replace("127.0.0.1:0", "127.0.0.1:81"));
        assert_eq!(with_port(&changed, 81), changed);
    }
}
