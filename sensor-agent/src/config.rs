//! The agent's configuration file, read once into values that need no further checking. Not the state it keeps, and
//! not the command line. It may read the one file it is given,
//! and the host name.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, bail};
use sensor_baseline::Severity;
use serde::Deserialize;

/// The configuration, complete: an absent key has become its default.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Where the agent keeps its identity, spool, learned behaviours and baseline.
    pub state_dir: PathBuf,
    /// Where the collector is.
    pub collector: Collector,
    /// Bytes of the ring that carries process records: a power of two.
    pub lifecycle_ring_bytes: u32,
    /// Bytes of the ring that carries file and network records: a power of two.
    pub activity_ring_bytes: u32,
    /// Verdicts that the kernel remembers at most; 0 and it remembers none.
    pub verdicts_max: u32,
    /// Bytes of findings that the spool keeps at most.
    pub spool_bytes_max: u64,
    /// State folders of containerd, each with its socket, besides the usual ones.
    pub containerd: Vec<PathBuf>,
    /// Where Sigma rules are, and how bad one has to be.
    pub sigma: Sigma,
    /// Files of floor rules and silences, besides the built-in rules.
    pub floor: Vec<PathBuf>,
    /// Baselines on this host, below and above the collector's.
    pub layers: LayerFiles,
    /// The host name in findings.
    pub hostname: String,
    /// What is logged, in the syntax of `RUST_LOG`.
    pub log: String,
}

/// Baselines on this host: each is a layer.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct LayerFiles {
    /// Below the collector's.
    pub vendor: Option<PathBuf>,
    /// Above it.
    pub group: Option<PathBuf>,
    /// Above all others.
    pub host: Option<PathBuf>,
}

/// Where Sigma rules are, and how bad one has to be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sigma {
    /// Folders of rules; none, and no rule is in force.
    pub folders: Vec<PathBuf>,
    /// The least level of a rule that is put in force.
    pub level_min: Severity,
}

/// Where the collector is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Collector {
    /// Where `enroll` found it.
    AsEnrolled,
    /// At this address.
    At {
        /// `HOST:PORT`.
        address: String,
        /// The name its certificate is checked for.
        server_name: String,
    },
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct ConfigFile {
    state_dir: Option<PathBuf>,
    hostname: Option<String>,
    log: Option<String>,
    collector: CollectorTable,
    rings: RingsTable,
    verdict_cache: VerdictCacheTable,
    spool: SpoolTable,
    containers: ContainersTable,
    sigma: SigmaTable,
    floor: FloorTable,
    layers: LayersTable,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct CollectorTable {
    address: Option<String>,
    server_name: Option<String>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct RingsTable {
    lifecycle_bytes: Option<u32>,
    activity_bytes: Option<u32>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct VerdictCacheTable {
    entries_max: Option<u32>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct SpoolTable {
    bytes_max: Option<u64>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct ContainersTable {
    containerd: Vec<PathBuf>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct SigmaTable {
    folders: Vec<PathBuf>,
    level_min: Option<Severity>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct FloorTable {
    files: Vec<PathBuf>,
}

#[derive(Deserialize, Default)]
#[serde(deny_unknown_fields, default)]
struct LayersTable {
    vendor: Option<PathBuf>,
    group: Option<PathBuf>,
    host: Option<PathBuf>,
}

impl Config {
    /// Reads and checks the file at `path`.
    ///
    /// # Errors
    /// When it cannot be read, is not TOML, has an unknown key, or a value that makes no sense. The message names
    /// the file, and the line and key where there is one.
    pub fn load(path: &Path) -> anyhow::Result<Self> {
        let text = std::fs::read_to_string(path).with_context(|| format!("{}", path.display()))?;
        Self::parse(&text).map_err(|error| anyhow::anyhow!("{}: {error}", path.display()))
    }

    /// Checks the text of a configuration file.
    ///
    /// # Errors
    /// As [`Config::load`], without the file's name.
    pub fn parse(text: &str) -> anyhow::Result<Self> {
        let file: ConfigFile = toml::from_str(text).map_err(|error| {
            let line = error.span().map_or(1, |span| 1 + text[..span.start].matches('\n').count());
            anyhow::anyhow!("line {line}: {}", error.message().replace('\n', ", "))
        })?;
        let state_dir = file.state_dir.unwrap_or_else(|| PathBuf::from(STATE_DIR_DEFAULT));
        if !state_dir.is_absolute() {
            bail!("state_dir: {} is not an absolute path", state_dir.display());
        }
        Ok(Self {
            state_dir,
            collector: collector(file.collector)?,
            lifecycle_ring_bytes: ring("lifecycle_bytes", file.rings.lifecycle_bytes, LIFECYCLE_RING_BYTES)?,
            activity_ring_bytes: ring("activity_bytes", file.rings.activity_bytes, ACTIVITY_RING_BYTES)?,
            verdicts_max: verdicts(file.verdict_cache.entries_max)?,
            spool_bytes_max: spool_bytes(file.spool.bytes_max)?,
            containerd: absolute("containers.containerd", file.containers.containerd)?,
            sigma: Sigma {
                folders: absolute("sigma.folders", file.sigma.folders)?,
                level_min: file.sigma.level_min.unwrap_or(Severity::Medium),
            },
            floor: absolute("floor.files", file.floor.files)?,
            layers: layers(file.layers)?,
            hostname: file.hostname.unwrap_or_else(system_hostname),
            log: file.log.unwrap_or_else(|| "info".to_owned()),
        })
    }
}

/// The name in a collector's address: what its certificate is checked for unless told otherwise.
///
/// # Errors
/// When `address` is not `HOST:PORT`.
pub fn host_of(address: &str) -> anyhow::Result<String> {
    if let Ok(socket) = address.parse::<SocketAddr>() {
        return Ok(socket.ip().to_string());
    }
    match address.rsplit_once(':') {
        Some((host, port))
            if !host.is_empty() && !host.contains([':', '/']) && port.parse::<u16>().is_ok() =>
        {
            Ok(host.to_owned())
        }
        _ => bail!("{address:?} is not HOST:PORT"),
    }
}

/// What the system calls this host.
#[must_use]
pub fn system_hostname() -> String {
    std::fs::read_to_string("/proc/sys/kernel/hostname")
        .map_or_else(|_| "unknown".to_owned(), |name| name.trim_end().to_owned())
}

fn absolute(key: &str, paths: Vec<PathBuf>) -> anyhow::Result<Vec<PathBuf>> {
    if let Some(path) = paths.iter().find(|path| !path.is_absolute()) {
        bail!("{key}: {} is not an absolute path", path.display());
    }
    Ok(paths)
}

fn layers(table: LayersTable) -> anyhow::Result<LayerFiles> {
    let check = |key: &str, path: Option<PathBuf>| -> anyhow::Result<Option<PathBuf>> {
        Ok(absolute(key, path.into_iter().collect())?.pop())
    };
    Ok(LayerFiles {
        vendor: check("layers.vendor", table.vendor)?,
        group: check("layers.group", table.group)?,
        host: check("layers.host", table.host)?,
    })
}

fn collector(table: CollectorTable) -> anyhow::Result<Collector> {
    match (table.address, table.server_name) {
        (None, None) => Ok(Collector::AsEnrolled),
        (None, Some(_)) => bail!("collector.server_name: set without collector.address"),
        (Some(address), name) => {
            let host = host_of(&address).context("collector.address")?;
            Ok(Collector::At { address, server_name: name.unwrap_or(host) })
        }
    }
}

fn ring(key: &str, bytes: Option<u32>, default: u32) -> anyhow::Result<u32> {
    let bytes = bytes.unwrap_or(default);
    if !bytes.is_power_of_two() || !(RING_BYTES_MIN..=RING_BYTES_MAX).contains(&bytes) {
        bail!("rings.{key}: {bytes} is not a power of two between {RING_BYTES_MIN} and {RING_BYTES_MAX}");
    }
    Ok(bytes)
}

fn verdicts(entries: Option<u32>) -> anyhow::Result<u32> {
    let entries = entries.unwrap_or(VERDICTS_DEFAULT);
    if entries != 0 && !(VERDICTS_MIN..=VERDICTS_MAX).contains(&entries) {
        bail!(
            "verdict_cache.entries_max: {entries} is neither 0 nor between {VERDICTS_MIN} and {VERDICTS_MAX}"
        );
    }
    Ok(entries)
}

fn spool_bytes(bytes: Option<u64>) -> anyhow::Result<u64> {
    let bytes = bytes.unwrap_or(SPOOL_BYTES_DEFAULT);
    if bytes < SPOOL_BYTES_MIN {
        bail!("spool.bytes_max: {bytes} is less than {SPOOL_BYTES_MIN}");
    }
    Ok(bytes)
}

/// Where state is kept unless the file says otherwise.
pub const STATE_DIR_DEFAULT: &str = "/var/lib/sensor";
/// A third of a second of 2,000 processes a second that start, run a program and end.
const LIFECYCLE_RING_BYTES: u32 = 2 * 1024 * 1024;
/// A tenth of a second of 200,000 opens a second. The kernel maps a ring twice, so that it counts twice in the agent's RSS.
const ACTIVITY_RING_BYTES: u32 = 8 * 1024 * 1024;
const RING_BYTES_MIN: u32 = 64 * 1024;
const RING_BYTES_MAX: u32 = 1024 * 1024 * 1024;
const VERDICTS_DEFAULT: u32 = 16_384;
const VERDICTS_MIN: u32 = 256;
const VERDICTS_MAX: u32 = 4_194_304;
const SPOOL_BYTES_DEFAULT: u64 = 256 * 1024 * 1024;
const SPOOL_BYTES_MIN: u64 = 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;

    fn check_refused(text: &str, expected: &str) {
        let error = Config::parse(text).expect_err(text);
        assert_eq!(format!("{error:#}"), expected, "{text}");
    }

    #[test]
    fn an_empty_file_is_all_defaults() {
        let config = Config::parse("").unwrap();
        assert_eq!(config.state_dir, Path::new(STATE_DIR_DEFAULT));
        assert_eq!(config.collector, Collector::AsEnrolled);
        assert!(!config.hostname.is_empty());
    }

    #[test]
    fn the_packaged_example_is_valid_and_is_the_defaults() {
        let example = include_str!("../../packaging/agent.toml");
        assert_eq!(Config::parse(example).unwrap(), Config::parse("").unwrap());
        let everything: String =
            example.lines().map(|line| line.strip_prefix("#= ").unwrap_or(line).to_owned() + "\n").collect();
        let config = Config::parse(&everything).unwrap();
        assert!(matches!(config.collector, Collector::At { .. }), "the commented keys are valid too");
    }

    #[test]
    fn mistakes_name_the_line_and_the_key() {
        check_refused(
            "hostname = \"a\"\ncolector = 1\n",
            "line 2: unknown field `colector`, expected one of `state_dir`, `hostname`, `log`, `collector`, \
             `rings`, `verdict_cache`, `spool`, `containers`, `sigma`, `floor`, `layers`",
        );
        check_refused(
            "\n[spool]\nbytes_max = \"big\"\n",
            "line 3: invalid type: string \"big\", expected u64",
        );
        check_refused("floor.files = [\"a.toml\"]", "floor.files: a.toml is not an absolute path");
        check_refused("layers.host = \"a.yaml\"", "layers.host: a.yaml is not an absolute path");
        check_refused("state_dir = \"var\"", "state_dir: var is not an absolute path");
        check_refused(
            "rings.lifecycle_bytes = 65537",
            "rings.lifecycle_bytes: 65537 is not a power of two between 65536 and 1073741824",
        );
        check_refused(
            "verdict_cache.entries_max = 255",
            "verdict_cache.entries_max: 255 is neither 0 nor between 256 and 4194304",
        );
        check_refused("sigma.folders = [\"rules\"]", "sigma.folders: rules is not an absolute path");
        check_refused(
            "sigma.level_min = \"bad\"",
            "line 1: unknown variant `bad`, expected one of `informational`, `low`, `medium`, `high`, `critical`",
        );
        check_refused("spool.bytes_max = 5", "spool.bytes_max: 5 is less than 1048576");
        check_refused("collector.address = \"here\"", "collector.address: \"here\" is not HOST:PORT");
        check_refused(
            "collector.server_name = \"x\"",
            "collector.server_name: set without collector.address",
        );
    }

    #[test]
    fn the_host_of_an_address() {
        assert_eq!(host_of("sensor.example:7443").unwrap(), "sensor.example");
        assert_eq!(host_of("127.0.0.1:1").unwrap(), "127.0.0.1");
        assert_eq!(host_of("[::1]:1").unwrap(), "::1");
        for bad in ["", ":1", "a", "a:b", "a:70000", "http://a:1", "::1"] {
            assert!(host_of(bad).is_err(), "{bad}");
        }
    }
}
