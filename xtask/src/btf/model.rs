//! BTF as a list of types that can be changed and written. Not the agent's reader, which never holds a whole model. It
//! may call the standard library only.
//!
//! Layout as in `Documentation/bpf/btf.rst`: a header, the types with ids from 1, the strings.

use anyhow::{Context, Result, bail, ensure};
use std::collections::HashMap;

pub(super) const INT: u32 = 1;
pub(super) const PTR: u32 = 2;
pub(super) const ARRAY: u32 = 3;
pub(super) const STRUCT: u32 = 4;
pub(super) const UNION: u32 = 5;
pub(super) const ENUM: u32 = 6;
pub(super) const FWD: u32 = 7;
pub(super) const TYPEDEF: u32 = 8;
pub(super) const VOLATILE: u32 = 9;
pub(super) const CONST: u32 = 10;
pub(super) const RESTRICT: u32 = 11;
pub(super) const FUNC: u32 = 12;
pub(super) const FUNC_PROTO: u32 = 13;
pub(super) const VAR: u32 = 14;
pub(super) const DATASEC: u32 = 15;
pub(super) const FLOAT: u32 = 16;
pub(super) const DECL_TAG: u32 = 17;
pub(super) const TYPE_TAG: u32 = 18;
pub(super) const ENUM64: u32 = 19;

const MAGIC: u16 = 0xeb9f;
const HEADER_BYTES: u32 = 24;

/// One type. Ids are indices into the list, plus one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Type {
    pub(super) name: Vec<u8>,
    /// vlen, kind and kind_flag.
    pub(super) info: u32,
    pub(super) size_or_type: u32,
    pub(super) tail: Tail,
}

/// What follows the three words, as far as the trimmer changes it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Tail {
    /// Nothing with names or types in it.
    Words(Vec<u32>),
    /// Of a struct or union: name, type, offset.
    Members(Vec<(Vec<u8>, u32, u32)>),
    /// Of a function's type: name, type.
    Parameters(Vec<(Vec<u8>, u32)>),
}

impl Type {
    pub(super) fn kind(&self) -> u32 {
        self.info >> 24 & 0x1f
    }
}

/// A list of types.
#[derive(Debug, Default)]
pub(super) struct Model {
    pub(super) types: Vec<Type>,
}

impl Model {
    /// The type of an id; `None` for void.
    pub(super) fn get(&self, id: u32) -> Option<&Type> {
        self.types.get((id as usize).checked_sub(1)?)
    }

    /// Appends a type.
    pub(super) fn push(&mut self, new: Type) -> u32 {
        self.types.push(new);
        u32::try_from(self.types.len()).expect("a kernel has fewer than 2^32 types")
    }

    /// The bytes, in the host's byte order.
    pub(super) fn write(&self) -> Vec<u8> {
        let mut strings = Strings::new();
        let mut types = Vec::new();
        for one in &self.types {
            types.extend([strings.add(&one.name), one.info, one.size_or_type]);
            match &one.tail {
                Tail::Words(words) => types.extend(words),
                Tail::Members(members) => {
                    for (name, id, offset) in members {
                        types.extend([strings.add(name), *id, *offset]);
                    }
                }
                Tail::Parameters(parameters) => {
                    for (name, id) in parameters {
                        types.extend([strings.add(name), *id]);
                    }
                }
            }
        }
        let (type_bytes, string_bytes) = (types.len() as u32 * 4, strings.bytes.len() as u32);
        let mut bytes = MAGIC.to_ne_bytes().to_vec();
        bytes.extend([1, 0]);
        let header = [HEADER_BYTES, 0, type_bytes, type_bytes, string_bytes];
        for word in header.into_iter().chain(types) {
            bytes.extend(word.to_ne_bytes());
        }
        bytes.extend(strings.bytes);
        bytes
    }
}

/// The string section, each text once.
struct Strings {
    bytes: Vec<u8>,
    offsets: HashMap<Vec<u8>, u32>,
}

impl Strings {
    fn new() -> Self {
        Self { bytes: vec![0], offsets: HashMap::from([(Vec::new(), 0)]) }
    }

    fn add(&mut self, text: &[u8]) -> u32 {
        if let Some(offset) = self.offsets.get(text) {
            return *offset;
        }
        let offset = self.bytes.len() as u32;
        self.bytes.extend(text);
        self.bytes.push(0);
        self.offsets.insert(text.to_vec(), offset);
        offset
    }
}

/// Reads BTF.
///
/// # Errors
/// When the bytes are not BTF of this host's byte order, or hold a kind of type not known here.
pub(super) fn parse(bytes: &[u8]) -> Result<Model> {
    let magic = bytes.get(..2).context("BTF without a header")?;
    ensure!(magic == MAGIC.to_ne_bytes(), "magic is {magic:02x?}");
    let header: Vec<usize> =
        (0..5).map(|index| Ok(word(bytes, 4 + index * 4)? as usize)).collect::<Result<_>>()?;
    let &[header_bytes, type_at, type_bytes, string_at, string_bytes] = header.as_slice() else {
        bail!("BTF without a header");
    };
    let section = |at: usize, len: usize| {
        bytes.get(header_bytes + at..header_bytes + at + len).context("BTF too short")
    };
    let mut reader =
        Reader { types: section(type_at, type_bytes)?, strings: section(string_at, string_bytes)?, at: 0 };
    let mut model = Model::default();
    while reader.at < reader.types.len() {
        let one = reader.read().with_context(|| format!("BTF type {}", model.types.len() + 1))?;
        model.push(one);
    }
    Ok(model)
}

fn word(bytes: &[u8], at: usize) -> Result<u32> {
    let bytes = bytes.get(at..at + 4).context("BTF too short")?;
    Ok(u32::from_ne_bytes(bytes.try_into().expect("four bytes were taken")))
}

struct Reader<'a> {
    types: &'a [u8],
    strings: &'a [u8],
    at: usize,
}

impl Reader<'_> {
    fn word(&mut self) -> Result<u32> {
        let word = word(self.types, self.at)?;
        self.at += 4;
        Ok(word)
    }

    fn name(&mut self) -> Result<Vec<u8>> {
        let offset = self.word()? as usize;
        let rest = self.strings.get(offset..).context("name outside of the strings")?;
        Ok(rest.split(|byte| *byte == 0).next().unwrap_or_default().to_vec())
    }

    fn read(&mut self) -> Result<Type> {
        let (name, info, size_or_type) = (self.name()?, self.word()?, self.word()?);
        let count = info & 0xffff;
        let tail = match info >> 24 & 0x1f {
            STRUCT | UNION => Tail::Members(
                (0..count).map(|_| Ok((self.name()?, self.word()?, self.word()?))).collect::<Result<_>>()?,
            ),
            FUNC_PROTO => {
                Tail::Parameters((0..count).map(|_| Ok((self.name()?, self.word()?))).collect::<Result<_>>()?)
            }
            kind => {
                let words = match kind {
                    INT | VAR | DECL_TAG => 1,
                    ARRAY => 3,
                    DATASEC | ENUM64 => count * 3,
                    ENUM => count * 2,
                    PTR | FWD | TYPEDEF | VOLATILE | CONST | RESTRICT | FUNC | FLOAT | TYPE_TAG => 0,
                    _ => bail!("kind {kind} is not known"),
                };
                Tail::Words((0..words).map(|_| self.word()).collect::<Result<_>>()?)
            }
        };
        Ok(Type { name, info, size_or_type, tail })
    }
}
