//! Requests to the collector and what can go wrong with them. Knows paths and statuses, not what answers mean. May
//! call: `config`, ureq.

use std::fmt::{self, Write as _};
use std::time::Duration;

use anyhow::{Context as _, Result, anyhow, bail};
use serde_json::Value;
use ureq::tls::{PemItem, RootCerts, TlsConfig, parse_pem};
use ureq::{Agent, Body, http::Response};

use crate::config::Config;
use crate::file::FILE_BYTES_MAX;

/// How long one request may take.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(30);

/// A connection to one collector.
pub(crate) struct Client {
    agent: Agent,
    config: Config,
}

/// A baseline that the collector refused, with the place of the mistake.
#[derive(Debug)]
pub(crate) struct InvalidBaseline {
    pub(crate) line: u64,
    pub(crate) column: u64,
    pub(crate) message: String,
}

impl fmt::Display for InvalidBaseline {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}:{}: {}", self.line, self.column, self.message)
    }
}

impl std::error::Error for InvalidBaseline {}

/// The collector says that something does not exist.
#[derive(Debug)]
pub(crate) struct NotFound(String);

impl fmt::Display for NotFound {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str(&self.0)
    }
}

impl std::error::Error for NotFound {}

impl Client {
    pub(crate) fn new(config: Config) -> Result<Self> {
        let tls = match &config.ca_pem {
            None => TlsConfig::default(),
            Some(pem) => {
                TlsConfig::builder().root_certs(roots(pem).context("reading the CA certificate")?).build()
            }
        };
        let agent = Agent::config_builder()
            .tls_config(tls)
            .timeout_global(Some(REQUEST_TIMEOUT))
            .http_status_as_error(false)
            // The token must not follow a redirect, and no proxy has a place between here and the collector.
            .max_redirects(0)
            .proxy(None)
            .user_agent(concat!("sensorctl/", env!("CARGO_PKG_VERSION")))
            .build()
            .new_agent();
        Ok(Self { agent, config })
    }

    /// JSON at a path.
    pub(crate) fn get(&self, path: &Path) -> Result<Value> {
        self.parse(&self.get_text(path)?)
    }

    /// Text at a path.
    pub(crate) fn get_text(&self, path: &Path) -> Result<String> {
        let request = self.agent.get(self.url(path)).header("authorization", self.bearer());
        self.answer(request.call())
    }

    /// Posts JSON, gets JSON.
    pub(crate) fn post(&self, path: &Path, body: &Value) -> Result<Value> {
        let request = self.agent.post(self.url(path)).header("authorization", self.bearer());
        let text = self.answer(request.content_type("application/json").send(body.to_string()))?;
        self.parse(&text)
    }

    /// Puts YAML, gets JSON.
    pub(crate) fn put_yaml(&self, path: &Path, yaml: &[u8]) -> Result<Value> {
        let request = self.agent.put(self.url(path)).header("authorization", self.bearer());
        let text = self.answer(request.content_type("application/yaml").send(yaml))?;
        self.parse(&text)
    }

    fn url(&self, path: &Path) -> String {
        format!("{}{}", self.config.url, path.0)
    }

    fn bearer(&self) -> String {
        format!("Bearer {}", self.config.token)
    }

    fn parse(&self, text: &str) -> Result<Value> {
        serde_json::from_str(text)
            .with_context(|| format!("collector {}: answer is not JSON", self.config.url))
    }

    fn answer(&self, sent: Result<Response<Body>, ureq::Error>) -> Result<String> {
        let url = &self.config.url;
        let mut response = sent.map_err(|error| anyhow!("collector {url}: {}", self.cause(&error)))?;
        let status = response.status().as_u16();
        let text = response
            .body_mut()
            .with_config()
            .limit(FILE_BYTES_MAX)
            .read_to_string()
            .map_err(|error| anyhow!("collector {url}: reading the answer: {}", self.cause(&error)))?;
        if (200..300).contains(&status) {
            return Ok(text);
        }
        let body: Value = serde_json::from_str(&text).unwrap_or(Value::Null);
        let said = body["error"].as_str().unwrap_or("no reason given");
        match status {
            401 => bail!("collector {url} refused the token of {}: {said}", self.config.path.display()),
            404 => Err(NotFound(format!("collector {url}: {said}")).into()),
            422 if body["line"].is_u64() => Err(InvalidBaseline {
                line: body["line"].as_u64().unwrap_or(0),
                column: body["column"].as_u64().unwrap_or(0),
                message: body["message"].as_str().unwrap_or(said).to_owned(),
            }
            .into()),
            _ => bail!("collector {url}: {said} (HTTP {status})"),
        }
    }

    /// What went wrong below HTTP, in words.
    fn cause(&self, error: &ureq::Error) -> String {
        let text = error.to_string();
        match error {
            ureq::Error::Io(error) if error.kind() == std::io::ErrorKind::ConnectionRefused => {
                "connection refused; is the collector running?".to_owned()
            }
            ureq::Error::ConnectionFailed => "connection failed; is the collector running?".to_owned(),
            ureq::Error::Timeout(_) => format!("no answer within {} s", REQUEST_TIMEOUT.as_secs()),
            _ if text.contains("UnknownIssuer") => {
                let config = self.config.path.display();
                format!("its certificate is not of the CA that {config} names ({text})")
            }
            _ => text,
        }
    }
}

fn roots(pem: &[u8]) -> Result<RootCerts> {
    let mut certificates = Vec::new();
    for item in parse_pem(pem) {
        if let PemItem::Certificate(certificate) = item.context("not PEM")? {
            certificates.push(certificate);
        }
    }
    if certificates.is_empty() {
        bail!("no certificate in the file");
    }
    Ok(RootCerts::from(certificates))
}

/// A path with its query, everything in it encoded.
pub(crate) struct Path(String);

impl Path {
    /// The path of these segments.
    pub(crate) fn new(segments: &[&str]) -> Self {
        let mut path = String::new();
        for segment in segments {
            path.push('/');
            push_encoded(&mut path, segment);
        }
        Self(path)
    }

    /// The path with one more query parameter, where there is a value.
    pub(crate) fn with(mut self, name: &str, value: Option<&str>) -> Self {
        if let Some(value) = value {
            self.0.push(if self.0.contains('?') { '&' } else { '?' });
            self.0.push_str(name);
            self.0.push('=');
            push_encoded(&mut self.0, value);
        }
        self
    }
}

/// Percent-encodes all but unreserved characters (RFC 3986, section 2.3), and the colon, which ids are full of.
fn push_encoded(out: &mut String, text: &str) {
    for byte in text.bytes() {
        if byte.is_ascii_alphanumeric() || b"-._~:".contains(&byte) {
            out.push(char::from(byte));
        } else {
            write!(out, "%{byte:02X}").expect("writing to a string cannot fail");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::Path;

    #[test]
    fn nothing_in_a_name_reaches_the_path_as_syntax() {
        let path = Path::new(&["v1", "fleets", "a/../b?c#d%é", "baseline"]).with("version", Some("1&x=2"));
        assert_eq!(path.0, "/v1/fleets/a%2F..%2Fb%3Fc%23d%25%C3%A9/baseline?version=1%26x%3D2");
        assert_eq!(
            Path::new(&["v1"]).with("a", None).with("b", Some("1")).with("c", Some("2")).0,
            "/v1?b=1&c=2"
        );
    }
}
