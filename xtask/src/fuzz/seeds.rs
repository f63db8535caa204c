//! What the corpus of `decode` begins with: made from the contract, so that a new kind of record has its seed without a
//! line here, and taken from a recording. Not a minimiser: merging does that. It may call the contract.

use anyhow::{Context, Result, ensure};
use sensor_event::{Header, Kind, RECORD_VERSION, RecordBody, Tier};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use zerocopy::{FromZeros, IntoBytes};

/// Kinds that are tried. Numbers without a meaning have no seed.
const KINDS_MAX: u16 = 64;

/// Bytes of a fixed part that are tried.
const BODY_BYTES_MAX: usize = 512;

/// Behind the fixed part: two components, and bytes that are neither UTF-8 nor printable.
const TEXT: &[u8] = b"a\0/b\0/\xff\n";

/// For each kind the shortest record that is one, all zero behind its header, and the same with some bytes of text in
/// each of its sections. With a name each.
pub(super) fn records() -> Vec<(String, Vec<u8>)> {
    (1..=KINDS_MAX).flat_map(|number| of_kind(Kind(number))).collect()
}

fn of_kind(kind: Kind) -> Vec<(String, Vec<u8>)> {
    let plain = |len: usize| record(kind, &vec![0; len], &[]);
    let Some(len) = (0..BODY_BYTES_MAX).find(|len| is_known(&plain(*len))) else { return Vec::new() };
    let mut seeds = vec![(kind.name().to_owned(), plain(len))];
    // Where a length lies is the contract's to know: every place is tried, and the decoder says which are one.
    for at in 0..len.saturating_sub(1) {
        let mut body = vec![0; len];
        body[at..at + 2].copy_from_slice(&(TEXT.len() as u16).to_ne_bytes());
        let bytes = record(kind, &body, TEXT);
        if is_known(&bytes) {
            seeds.push((format!("{}_text_{at}", kind.name()), bytes));
        }
    }
    seeds
}

fn is_known(bytes: &[u8]) -> bool {
    sensor_event::decode(bytes).is_ok_and(|record| !matches!(record.body, RecordBody::Unknown(_)))
}

fn record(kind: Kind, body: &[u8], text: &[u8]) -> Vec<u8> {
    let header = Header {
        len: (size_of::<Header>() + body.len() + text.len()) as u32,
        kind,
        version: RECORD_VERSION,
        tier: Tier::TRACEPOINT,
        time_ns: 2_000_000_000,
        start_time_ns: 1_000_000_000,
        pid: 100,
        tid: 101,
        ppid: 1,
        comm: *b"comm\0\0\0\0\0\0\0\0\0\0\0\0",
        ..Header::new_zeroed()
    };
    [header.as_bytes(), body, text].concat()
}

/// A recording begins with this, its byte order and its version (`sensor-agent/src/recording.rs`).
const RECORDING_MAGIC: &[u8] = b"SENSOREC";
const RECORDING_HEADER_BYTES: usize = 16;
/// A frame begins with its tag, the length of its payload and a checksum.
const FRAME_HEADER_BYTES: usize = 9;
const TAG_RECORD: u8 = b'R';

/// Records of one kind that are taken from a recording: each the first of its length.
const RECORDED_PER_KIND_MAX: usize = 12;

/// Real records: few of each kind, of different lengths. With a name each.
///
/// # Errors
/// When the file is no recording.
pub(super) fn recorded(path: &Path) -> Result<Vec<(String, Vec<u8>)>> {
    let bytes = fs::read(path).with_context(|| format!("reading {}", path.display()))?;
    ensure!(bytes.starts_with(RECORDING_MAGIC), "{} is not a recording", path.display());
    let mut frames = bytes.get(RECORDING_HEADER_BYTES..).unwrap_or_default();
    let mut kinds: BTreeMap<&'static str, BTreeMap<usize, Vec<u8>>> = BTreeMap::new();
    while let Some((header, rest)) = frames.split_at_checked(FRAME_HEADER_BYTES) {
        let len = u32::from_ne_bytes(header[1..5].try_into().expect("four bytes were taken")) as usize;
        let (payload, rest) = rest.split_at_checked(len).context("the recording was cut short")?;
        frames = rest;
        if header[0] != TAG_RECORD || !is_known(payload) {
            continue;
        }
        let kind = sensor_event::decode(payload).map_or("unknown", |record| record.header.kind.name());
        let lengths = kinds.entry(kind).or_default();
        if lengths.len() < RECORDED_PER_KIND_MAX {
            lengths.entry(len).or_insert_with(|| payload.to_vec());
        }
    }
    let named = |(kind, lengths): (&'static str, BTreeMap<usize, Vec<u8>>)| {
        lengths.into_iter().map(move |(len, bytes)| (format!("{kind}_recorded_{len}"), bytes))
    };
    Ok(kinds.into_iter().flat_map(named).collect())
}

#[cfg(test)]
mod tests {
    use super::records;

    #[test]
    fn every_kind_has_a_seed() {
        let seeds = records();
        for kind in sensor_event::Kind::ALL {
            assert!(seeds.iter().any(|(name, _)| name == kind.name()), "{}", kind.name());
        }
        assert!(seeds.iter().any(|(name, _)| name.starts_with("file_rename_text_")), "texts are placed");
    }
}
