//! The configuration file: `ConfigFile` as written, `Config` as checked. It does not make the file (`init` does). It
//! may read the one file it is given.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::Deserialize;

/// Why there is no configuration.
#[derive(Debug, thiserror::Error)]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("{path}: {cause}", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// Why.
        cause: std::io::Error,
    },
    /// The text is not a configuration; the message has the line, the key and what was expected.
    #[error("{path}: {message}", path = path.display())]
    Parse {
        /// The file.
        path: PathBuf,
        /// With line and key.
        message: String,
    },
    /// A value out of range.
    #[error("{path}: {key} = {value}: expected {expected}", path = path.display())]
    Range {
        /// The file.
        path: PathBuf,
        /// The key.
        key: &'static str,
        /// What stood there.
        value: u64,
        /// What would have been right.
        expected: &'static str,
    },
}

/// The file as written. Every key but the first three may be left out.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ConfigFile {
    state_dir: PathBuf,
    listen_grpc: SocketAddr,
    listen_http: SocketAddr,
    #[serde(default = "default_certificate_lifetime_hours")]
    certificate_lifetime_hours: u64,
    #[serde(default = "default_token_lifetime_hours")]
    token_lifetime_hours: u64,
    #[serde(default = "default_heartbeat_interval_ms")]
    heartbeat_interval_ms: u64,
    #[serde(default = "default_store_bytes_max")]
    store_bytes_max: u64,
}

/// A checked configuration.
#[derive(Clone, Debug)]
pub struct Config {
    /// Where all state is.
    pub state_dir: PathBuf,
    /// Where agents connect; port 0 takes a free one.
    pub listen_grpc: SocketAddr,
    /// Where operators connect; port 0 takes a free one.
    pub listen_http: SocketAddr,
    /// Life of an agent's certificate.
    pub certificate_lifetime: Duration,
    /// Life of an enrollment token, when its maker names none.
    pub token_lifetime: Duration,
    /// How often agents send a heartbeat.
    pub heartbeat_interval: Duration,
    /// Largest size of the store.
    pub store_bytes_max: u64,
}

impl Config {
    /// Reads and checks a file.
    pub fn read(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|cause| ConfigError::Read { path: path.to_owned(), cause })?;
        Self::parse(&text, path)
    }

    /// Checks a text that was read from `path`.
    pub fn parse(text: &str, path: &Path) -> Result<Self, ConfigError> {
        let file: ConfigFile = toml::from_str(text).map_err(|error| ConfigError::Parse {
            path: path.to_owned(),
            message: parse_message(text, &error),
        })?;
        let check = |key, value, range: std::ops::RangeInclusive<u64>, expected| {
            if range.contains(&value) {
                Ok(value)
            } else {
                Err(ConfigError::Range { path: path.to_owned(), key, value, expected })
            }
        };
        let certificate_hours =
            check("certificate_lifetime_hours", file.certificate_lifetime_hours, 1..=8760, "1 to 8760")?;
        let token_hours = check("token_lifetime_hours", file.token_lifetime_hours, 1..=8760, "1 to 8760")?;
        let heartbeat_ms =
            check("heartbeat_interval_ms", file.heartbeat_interval_ms, 100..=300_000, "100 to 300000")?;
        let store_bytes_max =
            check("store_bytes_max", file.store_bytes_max, 1 << 20..=1 << 46, "1048576 to 70368744177664")?;
        Ok(Self {
            state_dir: file.state_dir,
            listen_grpc: file.listen_grpc,
            listen_http: file.listen_http,
            certificate_lifetime: Duration::from_secs(certificate_hours * SECONDS_PER_HOUR),
            token_lifetime: Duration::from_secs(token_hours * SECONDS_PER_HOUR),
            heartbeat_interval: Duration::from_millis(heartbeat_ms),
            store_bytes_max,
        })
    }

    /// The text of a file that says this much and leaves the rest at its default.
    pub fn text(state_dir: &Path, listen_grpc: SocketAddr, listen_http: SocketAddr) -> String {
        let state_dir = toml::Value::from(state_dir.to_string_lossy().into_owned());
        format!(
            "# Written by sensor-collector init.\n\
             state_dir = {state_dir}\n\
             # Agents connect here (gRPC over mutual TLS). Port 0 takes a free port and prints it.\n\
             listen_grpc = \"{listen_grpc}\"\n\
             # Operators and sensorctl connect here (HTTPS with a bearer token).\n\
             listen_http = \"{listen_http}\"\n\
             \n\
             # certificate_lifetime_hours = {CERTIFICATE_LIFETIME_HOURS}\n\
             # token_lifetime_hours = {TOKEN_LIFETIME_HOURS}\n\
             # heartbeat_interval_ms = {HEARTBEAT_INTERVAL_MS}\n\
             # store_bytes_max = {STORE_BYTES_MAX}\n"
        )
    }
}

/// `line 3: unknown field ...`: one line, in the form of every other message.
fn parse_message(text: &str, error: &toml::de::Error) -> String {
    let message = error.message().trim_end();
    match error.span() {
        Some(span) => {
            let before = &text[..span.start.min(text.len())];
            let line = before.matches('\n').count() + 1;
            format!("line {line}: {message}")
        }
        None => message.to_owned(),
    }
}

const SECONDS_PER_HOUR: u64 = 3600;
const CERTIFICATE_LIFETIME_HOURS: u64 = 7 * 24;
const TOKEN_LIFETIME_HOURS: u64 = 24;
const HEARTBEAT_INTERVAL_MS: u64 = 10_000;
const STORE_BYTES_MAX: u64 = 64 << 30;

fn default_certificate_lifetime_hours() -> u64 {
    CERTIFICATE_LIFETIME_HOURS
}

fn default_token_lifetime_hours() -> u64 {
    TOKEN_LIFETIME_HOURS
}

fn default_heartbeat_interval_ms() -> u64 {
    HEARTBEAT_INTERVAL_MS
}

fn default_store_bytes_max() -> u64 {
    STORE_BYTES_MAX
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::Config;

    const GOOD: &str = "state_dir = \"/s\"\nlisten_grpc = \"127.0.0.1:0\"\nlisten_http = \"127.0.0.1:0\"\n";

    #[test]
    fn the_manual_lists_every_key_with_its_default() {
        let manual = include_str!("../../docs/collector-config.md");
        let address = "127.0.0.1:0".parse().unwrap();
        let text = Config::text(Path::new("/s"), address, address);
        let keys: Vec<_> = text.lines().filter_map(|line| line.split_once(" = ")).collect();
        assert_eq!(keys.len(), 7);
        for (key, value) in keys {
            let default = if key.starts_with('#') { value } else { "required" };
            let row = format!("| `{}` | {default} |", key.trim_start_matches("# "));
            assert!(manual.contains(&row), "{row}");
        }
    }

    fn check_refused(extra: &str, expected: &str) {
        let error = Config::parse(&format!("{GOOD}{extra}"), Path::new("c.toml")).unwrap_err();
        assert_eq!(error.to_string(), expected);
    }

    #[test]
    fn an_unknown_key_is_named_with_its_line() {
        let error = Config::parse(&format!("{GOOD}listen_htp = 1\n"), Path::new("c.toml")).unwrap_err();
        let message = error.to_string();
        assert!(
            message.starts_with("c.toml: line 4: unknown field `listen_htp`, expected one of"),
            "{message}"
        );
    }

    #[test]
    fn a_value_out_of_range_is_named() {
        check_refused(
            "heartbeat_interval_ms = 5",
            "c.toml: heartbeat_interval_ms = 5: expected 100 to 300000",
        );
    }

    #[test]
    fn a_missing_key_is_named() {
        let error = Config::parse("state_dir = \"/s\"\n", Path::new("c.toml")).unwrap_err().to_string();
        assert!(error.contains("missing field `listen_grpc`"), "{error}");
    }

    #[test]
    fn what_init_writes_is_read_back_with_the_defaults() {
        let address = "127.0.0.1:7443".parse().unwrap();
        let text = Config::text(Path::new("/a \"b\""), address, address);
        let config = Config::parse(&text, Path::new("c.toml")).unwrap();
        assert_eq!(config.state_dir, Path::new("/a \"b\""));
        assert_eq!(config.certificate_lifetime.as_secs(), 7 * 24 * 3600);
    }
}
