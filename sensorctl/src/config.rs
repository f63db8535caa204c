//! Where the collector is and how to prove who is asking. Reads two files, speaks to nobody. May call: nothing.

use std::path::{Path, PathBuf};

use anyhow::{Context as _, Result, bail};
use serde::Deserialize;

use crate::file::read_bounded;

/// A configuration file as written.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
struct ConfigFile {
    url: String,
    token: String,
    ca: Option<PathBuf>,
}

/// A checked configuration.
#[derive(Debug)]
pub(crate) struct Config {
    /// Where it was read.
    pub(crate) path: PathBuf,
    /// Base URL without a slash at its end.
    pub(crate) url: String,
    /// Bearer token.
    pub(crate) token: String,
    /// Certificates to trust, PEM; none only for plain HTTP on loopback.
    pub(crate) ca_pem: Option<Vec<u8>>,
}

impl Config {
    /// Reads the file that was named, else the first that exists.
    pub(crate) fn load(named: Option<&Path>) -> Result<Self> {
        let path = match named {
            Some(path) => path.to_owned(),
            None => find(std::env::var_os("SENSORCTL_CONFIG"), std::env::var_os("HOME"))?,
        };
        let text = read_bounded(&path)?;
        let text = String::from_utf8(text).with_context(|| format!("{}: not UTF-8", path.display()))?;
        Self::parse(&path, &text)
    }

    fn parse(path: &Path, text: &str) -> Result<Self> {
        let file: ConfigFile = toml::from_str(text).with_context(|| path.display().to_string())?;
        let url = file.url.trim_end_matches('/').to_owned();
        let is_tls = url.starts_with("https://");
        if !is_tls && !is_loopback_http(&url) {
            bail!("{}: url {url:?}: expected https://HOST:PORT", path.display());
        }
        if file.token.is_empty() || file.token.chars().any(|character| !character.is_ascii_graphic()) {
            bail!("{}: token: expected printable characters without spaces", path.display());
        }
        let ca_pem = match file.ca {
            None if is_tls => {
                bail!("{}: ca: expected the path of the collector's CA certificate", path.display())
            }
            None => None,
            Some(ca) => {
                let ca = path.parent().unwrap_or(Path::new("")).join(ca);
                Some(read_bounded(&ca).context("reading the CA certificate")?)
            }
        };
        Ok(Self { path: path.to_owned(), url, token: file.token, ca_pem })
    }
}

/// A token may cross an unencrypted connection only when that stays on this host.
fn is_loopback_http(url: &str) -> bool {
    let Some(host) = url.strip_prefix("http://") else { return false };
    ["127.0.0.1:", "localhost:", "[::1]:"]
        .iter()
        .any(|loopback| host.strip_prefix(loopback).is_some_and(|port| port.parse::<u16>().is_ok()))
}

fn find(environment: Option<std::ffi::OsString>, home: Option<std::ffi::OsString>) -> Result<PathBuf> {
    if let Some(path) = environment {
        return Ok(path.into());
    }
    let own = home.map(|home| Path::new(&home).join(".config/sensor/sensorctl.toml"));
    let candidates: Vec<PathBuf> = own.into_iter().chain([PathBuf::from(COLLECTOR_CONFIG)]).collect();
    match candidates.iter().find(|path| path.exists()) {
        Some(path) => Ok(path.clone()),
        None => {
            let tried: Vec<String> = candidates.iter().map(|path| path.display().to_string()).collect();
            bail!("no configuration: tried {}; name one with --config or SENSORCTL_CONFIG", tried.join(", "))
        }
    }
}

/// What `sensor-collector init` writes, readable by root.
const COLLECTOR_CONFIG: &str = "/var/lib/sensor-collector/sensorctl.toml";

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::Config;

    fn check_error(text: &str, expected: &str) {
        let error = format!("{:#}", Config::parse(Path::new("/x/sensorctl.toml"), text).unwrap_err());
        assert!(error.contains(expected), "{error}");
    }

    #[test]
    fn mistakes_name_the_file_and_the_value() {
        check_error("url = 1", "/x/sensorctl.toml");
        check_error("url = \"https://a\"\ntoken = \"t\"\nurll = \"x\"", "unknown field `urll`");
        check_error("url = \"ftp://a\"\ntoken = \"t\"", "url \"ftp://a\": expected https://HOST:PORT");
        check_error("url = \"http://10.0.0.1:1\"\ntoken = \"t\"", "expected https://HOST:PORT");
        check_error("url = \"http://127.0.0.1.evil.example:1\"\ntoken = \"t\"", "expected https://HOST:PORT");
        check_error("url = \"http://127.0.0.1:1@evil.example\"\ntoken = \"t\"", "expected https://HOST:PORT");
        check_error("url = \"https://a\"\ntoken = \"a b\"", "token: expected printable");
        check_error("url = \"https://a\"\ntoken = \"t\"", "ca: expected the path");
        check_error("url = \"https://a\"\ntoken = \"t\"\nca = \"missing.pem\"", "/x/missing.pem");
    }

    #[test]
    fn plain_http_is_for_this_host_only() {
        let config = Config::parse(Path::new("c"), "url = \"http://127.0.0.1:80/\"\ntoken = \"t\"").unwrap();
        assert_eq!(config.url, "http://127.0.0.1:80");
    }
}
