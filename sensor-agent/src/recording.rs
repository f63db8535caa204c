//! The file of `record` and `replay`: what a pipeline was given, so that it can be given it again. Not a spool. It
//! may call `enrich` (seed), the pipeline's input types and serde; it reads and writes through `std::io` only.
//!
//! ```text
//! | magic "SENSOREC" | byte-order mark 0x01020304 | version | frame | frame | ... |
//! frame: | tag (1 byte) | payload bytes | FNV-1a of tag and payload | payload |
//! ```
//!
//! All integers are 32 bits in the writer's byte order, which the mark tells; records are in that order too, so a
//! recording of another byte order is refused. Frames: `S` start ([`Start`] as JSON, first), `R` a record as it came
//! out of the ring, `C` the image of a container, told between the records before and after it ([`ContainerImage`] as JSON),
//! `E` end ([`End`] as JSON, last). A file without `E` was cut short. Version 1 had no `C`, and is read.

use crate::enrich::seed::Seed;
use crate::event::Identity;
use crate::pipeline::ContainerImage;
use sensor_event::RECORD_BYTES_MAX;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::{self, Read, Write};
use thiserror::Error;

/// What was known when recording began.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Start {
    /// Host name.
    pub hostname: String,
    /// `uname -r`.
    pub kernel_release: String,
    /// Added to boot time to get the wall clock.
    pub boot_to_unix_offset_ns: i64,
    /// The recording agent's pid and start time.
    pub own: Option<(u32, u64)>,
    /// Processes and control groups.
    pub seed: Seed,
}

impl Start {
    /// The recording agent.
    #[must_use]
    pub fn own_identity(&self) -> Option<Identity> {
        self.own.map(|(pid, start_time_ns)| Identity { pid, start_time_ns })
    }
}

/// What was known when recording ended.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct End {
    /// Records written.
    pub records: u64,
    /// Records the kernel side lost, by `kind/reason`.
    pub lost: BTreeMap<String, u64>,
}

/// Why a file is no recording, or not a whole one. Offsets are bytes from its start.
#[derive(Debug, Error)]
pub enum RecordingError {
    /// The file could not be read.
    #[error("at byte {offset}: cannot read on")]
    Io {
        /// Where.
        offset: u64,
        /// Why.
        source: io::Error,
    },
    /// It does not begin with the magic.
    #[error("not a sensor recording: it begins with {found:02x?}, expected {MAGIC:02x?}")]
    Foreign {
        /// Its first bytes.
        found: Vec<u8>,
    },
    /// The byte-order mark is neither this machine's nor the other order's.
    #[error("at byte 8: byte-order mark {found:#010x}, expected {BYTE_ORDER_MARK:#010x}{}", .hint)]
    ByteOrder {
        /// The mark.
        found: u32,
        /// What it means, when it means something.
        hint: &'static str,
    },
    /// Made by another version.
    #[error("at byte 12: recording version {found}, this build reads 1 to {VERSION}")]
    Version {
        /// The version.
        found: u32,
    },
    /// A frame that nothing writes.
    #[error("at byte {offset}: damaged: {problem}")]
    Damaged {
        /// Where the frame begins.
        offset: u64,
        /// What is wrong with it.
        problem: Problem,
    },
    /// The file ends where a frame, or the end frame, should be.
    #[error("at byte {offset}: the recording was cut short here, after {records} records")]
    CutShort {
        /// Its length.
        offset: u64,
        /// Whole records before.
        records: u64,
    },
}

/// What is wrong with a frame.
#[derive(Debug, Error, PartialEq, Eq)]
pub enum Problem {
    /// A tag that no version has.
    #[error("frame tag {0:#04x}")]
    Tag(u8),
    /// Longer than a frame can be.
    #[error("frame of {0} bytes")]
    Length(u32),
    /// The bytes are not those that were written.
    #[error("checksum {found:#010x}, expected {expected:#010x}")]
    Checksum {
        /// In the file.
        found: u32,
        /// Of the bytes.
        expected: u32,
    },
    /// Right bytes, wrong place or content.
    #[error("{0}")]
    Content(String),
}

/// Writes a recording. Does not buffer: give it a buffered writer.
#[derive(Debug)]
pub struct RecordingWriter<W> {
    out: W,
    records: u64,
}

impl<W: Write> RecordingWriter<W> {
    /// Begins a recording.
    ///
    /// # Errors
    /// When writing fails.
    pub fn new(mut out: W, start: &Start) -> io::Result<Self> {
        out.write_all(&MAGIC)?;
        out.write_all(&BYTE_ORDER_MARK.to_ne_bytes())?;
        out.write_all(&VERSION.to_ne_bytes())?;
        write_frame(&mut out, TAG_START, &to_json(start))?;
        Ok(Self { out, records: 0 })
    }

    /// Appends a record.
    ///
    /// # Errors
    /// When writing fails.
    pub fn record(&mut self, record: &[u8]) -> io::Result<()> {
        self.records += 1;
        write_frame(&mut self.out, TAG_RECORD, record)
    }

    /// Appends the image of a container.
    ///
    /// # Errors
    /// When writing fails.
    pub fn container(&mut self, image: &ContainerImage) -> io::Result<()> {
        write_frame(&mut self.out, TAG_CONTAINER, &to_json(image))
    }

    /// Ends the recording and flushes it. Returns the number of records.
    ///
    /// # Errors
    /// When writing fails.
    pub fn finish(mut self, lost: BTreeMap<String, u64>) -> io::Result<u64> {
        write_frame(&mut self.out, TAG_END, &to_json(&End { records: self.records, lost }))?;
        self.out.flush()?;
        Ok(self.records)
    }
}

/// Reads a recording. Does not buffer: give it a buffered reader.
#[derive(Debug)]
pub struct RecordingReader<R> {
    input: R,
    offset: u64,
    records: u64,
    start: Start,
}

/// The next part of a recording.
#[derive(Debug, PartialEq, Eq)]
pub enum Part {
    /// A record's bytes.
    Record(Vec<u8>),
    /// The image of a container.
    Container(ContainerImage),
    /// Nothing follows.
    End(End),
}

impl<R: Read> RecordingReader<R> {
    /// Checks what the file is, and reads its start.
    ///
    /// # Errors
    /// When it is no recording of this version and byte order, or its start is damaged.
    pub fn new(input: R) -> Result<Self, RecordingError> {
        let mut reader = Self { input, offset: 0, records: 0, start: no_start() };
        let mut magic = [0; MAGIC.len()];
        let found = reader.fill(&mut magic)?;
        if magic != MAGIC {
            return Err(RecordingError::Foreign { found: magic[..found].to_vec() });
        }
        let mark = reader.integer()?;
        if mark != BYTE_ORDER_MARK {
            let is_swapped = mark == BYTE_ORDER_MARK.swap_bytes();
            let hint = if is_swapped { ": written on a machine of the other byte order" } else { "" };
            return Err(RecordingError::ByteOrder { found: mark, hint });
        }
        let version = reader.integer()?;
        if !(VERSION_WITHOUT_CONTAINERS..=VERSION).contains(&version) {
            return Err(RecordingError::Version { found: version });
        }
        let offset = reader.offset;
        match reader.frame()? {
            (TAG_START, payload) => reader.start = from_json(&payload, offset)?,
            (tag, _) => return Err(RecordingError::Damaged { offset, problem: Problem::Tag(tag) }),
        }
        Ok(reader)
    }

    /// What was known when recording began.
    #[must_use]
    pub const fn start(&self) -> &Start {
        &self.start
    }

    /// The next record, or the end.
    ///
    /// # Errors
    /// When the file is damaged or cut short.
    pub fn read_part(&mut self) -> Result<Part, RecordingError> {
        let offset = self.offset;
        match self.frame()? {
            (TAG_RECORD, record) => {
                self.records += 1;
                Ok(Part::Record(record))
            }
            (TAG_CONTAINER, payload) => Ok(Part::Container(from_json(&payload, offset)?)),
            (TAG_END, payload) => {
                let end: End = from_json(&payload, offset)?;
                if end.records != self.records {
                    let problem = format!("the end counts {} records, found {}", end.records, self.records);
                    return Err(RecordingError::Damaged { offset, problem: Problem::Content(problem) });
                }
                Ok(Part::End(end))
            }
            (tag, _) => Err(RecordingError::Damaged { offset, problem: Problem::Tag(tag) }),
        }
    }

    fn frame(&mut self) -> Result<(u8, Vec<u8>), RecordingError> {
        let offset = self.offset;
        let mut tag = [0];
        self.fill_whole(&mut tag)?;
        let [tag] = tag;
        let payload_max = match tag {
            TAG_RECORD => RECORD_BYTES_MAX,
            TAG_CONTAINER => CONTAINER_BYTES_MAX,
            TAG_START | TAG_END => JSON_BYTES_MAX,
            _ => return Err(RecordingError::Damaged { offset, problem: Problem::Tag(tag) }),
        };
        let length = self.integer()?;
        if length as usize > payload_max {
            return Err(RecordingError::Damaged { offset, problem: Problem::Length(length) });
        }
        let found = self.integer()?;
        let mut payload = vec![0; length as usize];
        self.fill_whole(&mut payload)?;
        let expected = checksum(tag, &payload);
        if found != expected {
            return Err(RecordingError::Damaged { offset, problem: Problem::Checksum { found, expected } });
        }
        Ok((tag, payload))
    }

    fn integer(&mut self) -> Result<u32, RecordingError> {
        let mut bytes = [0; 4];
        self.fill_whole(&mut bytes)?;
        Ok(u32::from_ne_bytes(bytes))
    }

    fn fill_whole(&mut self, bytes: &mut [u8]) -> Result<(), RecordingError> {
        if self.fill(bytes)? < bytes.len() {
            return Err(RecordingError::CutShort { offset: self.offset, records: self.records });
        }
        Ok(())
    }

    fn fill(&mut self, bytes: &mut [u8]) -> Result<usize, RecordingError> {
        let mut filled = 0;
        while filled < bytes.len() {
            match self.input.read(&mut bytes[filled..]) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(source) => return Err(RecordingError::Io { offset: self.offset, source }),
            }
        }
        self.offset += filled as u64;
        Ok(filled)
    }
}

fn write_frame(out: &mut impl Write, tag: u8, payload: &[u8]) -> io::Result<()> {
    let length =
        u32::try_from(payload.len()).map_err(|_| io::Error::other("a frame is longer than 4 GiB"))?;
    out.write_all(&[tag])?;
    out.write_all(&length.to_ne_bytes())?;
    out.write_all(&checksum(tag, payload).to_ne_bytes())?;
    out.write_all(payload)
}

fn checksum(tag: u8, payload: &[u8]) -> u32 {
    std::iter::once(&tag)
        .chain(payload)
        .fold(0x811c_9dc5, |hash: u32, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

fn to_json(value: &impl Serialize) -> Vec<u8> {
    serde_json::to_vec(value).expect("strings, numbers and maps with text keys are JSON")
}

fn from_json<'a, T: Deserialize<'a>>(payload: &'a [u8], offset: u64) -> Result<T, RecordingError> {
    serde_json::from_slice(payload)
        .map_err(|error| RecordingError::Damaged { offset, problem: Problem::Content(error.to_string()) })
}

fn no_start() -> Start {
    Start {
        hostname: String::new(),
        kernel_release: String::new(),
        boot_to_unix_offset_ns: 0,
        own: None,
        seed: Seed::default(),
    }
}

const MAGIC: [u8; 8] = *b"SENSOREC";
const BYTE_ORDER_MARK: u32 = 0x0102_0304;
const VERSION: u32 = 2;
const VERSION_WITHOUT_CONTAINERS: u32 = 1;
const TAG_START: u8 = b'S';
const TAG_RECORD: u8 = b'R';
const TAG_CONTAINER: u8 = b'C';
const TAG_END: u8 = b'E';
/// Bytes of a container's frame at most: names of images are short, what a runtime's state holds may not be.
const CONTAINER_BYTES_MAX: usize = 64 * 1024;
/// Bytes of the start and end frames at most.
const JSON_BYTES_MAX: usize = 256 * 1024 * 1024;

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn start() -> Start {
        Start { hostname: "web-1".to_owned(), own: Some((7, 70)), boot_to_unix_offset_ns: -5, ..no_start() }
    }

    fn written(records: &[Vec<u8>]) -> Vec<u8> {
        let mut bytes = Vec::new();
        let mut writer = RecordingWriter::new(&mut bytes, &start()).unwrap();
        for record in records {
            writer.record(record).unwrap();
        }
        writer.finish(BTreeMap::from([("exec/ring_full".to_owned(), 3)])).unwrap();
        bytes
    }

    fn read(bytes: &[u8]) -> Result<(Start, Vec<Vec<u8>>, End), RecordingError> {
        let mut reader = RecordingReader::new(bytes)?;
        let mut records = Vec::new();
        loop {
            match reader.read_part()? {
                Part::Record(record) => records.push(record),
                Part::Container(image) => records.push(format!("{image:?}").into_bytes()),
                Part::End(end) => return Ok((reader.start().clone(), records, end)),
            }
        }
    }

    fn check_error(bytes: &[u8], expected: &str) {
        let message = read(bytes).unwrap_err().to_string();
        assert!(message.contains(expected), "{message}");
    }

    proptest! {
        #[test]
        fn what_is_written_is_read(records in proptest::collection::vec(proptest::collection::vec(any::<u8>(), 0..64), 0..8)) {
            let (read_start, read_records, end) = read(&written(&records)).unwrap();
            prop_assert_eq!(read_start, start());
            prop_assert_eq!(end.records, records.len() as u64);
            prop_assert_eq!(end.lost["exec/ring_full"], 3);
            prop_assert_eq!(read_records, records);
        }

        #[test]
        fn any_changed_byte_is_noticed(at in 0usize..10_000, flip in 1u8..=255) {
            let mut bytes = written(&[b"record".to_vec(), b"another".to_vec()]);
            let at = at % bytes.len();
            bytes[at] ^= flip;
            prop_assert!(read(&bytes).is_err());
        }

        #[test]
        fn any_shorter_file_is_noticed(length in 0usize..10_000) {
            let bytes = written(&[b"record".to_vec(), b"another".to_vec()]);
            prop_assert!(read(&bytes[..length % bytes.len()]).is_err());
        }

        #[test]
        fn any_bytes_are_no_panic(bytes in proptest::collection::vec(any::<u8>(), 0..64)) {
            prop_assert!(read(&bytes).is_err());
        }
    }

    #[test]
    fn images_of_containers_keep_their_place_and_the_version_before_is_read() {
        let image = ContainerImage {
            container: sensor_baseline::Workload("container:0123".to_owned()),
            image: Some("nginx:1".to_owned()),
        };
        let mut bytes = Vec::new();
        let mut writer = RecordingWriter::new(&mut bytes, &start()).unwrap();
        writer.record(b"before").unwrap();
        writer.container(&image).unwrap();
        writer.record(b"after").unwrap();
        assert_eq!(writer.finish(BTreeMap::new()).unwrap(), 2);
        let (_, parts, _) = read(&bytes).unwrap();
        assert_eq!(parts, [b"before".to_vec(), format!("{image:?}").into_bytes(), b"after".to_vec()]);

        let mut older = written(&[b"record".to_vec()]);
        older[12..16].copy_from_slice(&1u32.to_ne_bytes());
        assert_eq!(read(&older).unwrap().1, [b"record".to_vec()]);
    }

    #[test]
    fn errors_say_what_and_where() {
        check_error(b"\x7fELF....", "not a sensor recording: it begins with [7f, 45");
        check_error(b"", "not a sensor recording: it begins with []");
        let whole = written(&[b"record".to_vec()]);
        let mut swapped = whole.clone();
        swapped[8..12].reverse();
        check_error(&swapped, "other byte order");
        let mut newer = whole.clone();
        newer[12..16].copy_from_slice(&3u32.to_ne_bytes());
        check_error(&newer, "at byte 12: recording version 3, this build reads 1 to 2");
        let record_at = whole.windows(6).position(|window| window == b"record").unwrap();
        let mut damaged = whole.clone();
        damaged[record_at] = b'x';
        check_error(&damaged, &format!("at byte {}: damaged: checksum", record_at - 9));
        check_error(
            &whole[..record_at + 6],
            &format!("at byte {}: the recording was cut short here, after 1", record_at + 6),
        );
    }
}
