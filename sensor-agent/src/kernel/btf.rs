//! A reader of BTF, the kernel's description of its own types: where is a member, how many parameters has a
//! function. Not a writer, and not a general type model. It may call the standard library only.
//!
//! Total: any bytes give an answer or an error, never a panic and never an endless walk (fuzzed: `fuzz/`). Public for
//! the fuzzer and for tests only. Layout as in
//! `Documentation/bpf/btf.rst`:
//!
//! ```text
//! header (24 bytes) | types, one after another, ids from 1 | strings, NUL-terminated
//! type = name_off u32 | info u32: vlen 0..16, kind 24..29, kind_flag 31 | size or type u32 | kind's own part
//! ```

mod functions;

pub use functions::Parameter;

use std::collections::HashMap;

/// Nested anonymous members, and modifiers before a type, that are followed: more than any compiler emits.
const DEPTH_MAX: usize = 32;

/// Members that one look-up goes over. The widest path of ours, in `task_struct`, needs a hundredth of it; types
/// that hold themselves twice would need 2^[`DEPTH_MAX`].
const STEPS_MAX: usize = 1 << 16;

/// Bytes of a name: as `KSYM_NAME_LEN` of `include/linux/kallsyms.h` since 6.1. A longer one is no name, so that an
/// index of types whose names overlap stays within a multiple of the input.
const NAME_BYTES_MAX: usize = 512;

const MAGIC: u16 = 0xeb9f;
const HEADER_BYTES: usize = 24;
/// What every type starts with: name, info, size or type.
const TYPE_BYTES: usize = 12;
/// A member: name, type, offset in bits.
const MEMBER_BYTES: usize = 12;
/// A parameter: name, type.
const PARAMETER_BYTES: usize = 8;
/// `enum btf_func_linkage`: static and global functions are there; extern ones are only mentioned.
const LINKAGE_EXTERN: usize = 2;

const KIND_INT: u32 = 1;
const KIND_PTR: u32 = 2;
const KIND_ARRAY: u32 = 3;
const KIND_STRUCT: u32 = 4;
const KIND_UNION: u32 = 5;
const KIND_ENUM: u32 = 6;
const KIND_FWD: u32 = 7;
const KIND_TYPEDEF: u32 = 8;
const KIND_VOLATILE: u32 = 9;
const KIND_CONST: u32 = 10;
const KIND_RESTRICT: u32 = 11;
const KIND_FUNC: u32 = 12;
const KIND_FUNC_PROTO: u32 = 13;
const KIND_VAR: u32 = 14;
const KIND_DATASEC: u32 = 15;
const KIND_FLOAT: u32 = 16;
const KIND_DECL_TAG: u32 = 17;
const KIND_TYPE_TAG: u32 = 18;
const KIND_ENUM64: u32 = 19;

/// Why bytes are not BTF.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum BtfError {
    /// They end too early.
    #[error("BTF too short: needed {needed} bytes, found {found}")]
    Short {
        /// Bytes that the part needs.
        needed: usize,
        /// Bytes that were there.
        found: usize,
    },
    /// They do not start with BTF's magic number in the host's byte order.
    #[error("BTF magic is {0:#06x}, expected {MAGIC:#06x}")]
    Magic(u16),
    /// A type of a kind this reader does not know, so that the next one cannot be found.
    #[error("BTF type {id} has unknown kind {kind}")]
    Kind {
        /// The type.
        id: u32,
        /// Its kind.
        kind: u32,
    },
}

/// Parsed BTF: an index over its bytes.
pub struct Btf {
    bytes: Vec<u8>,
    /// Where each type starts; index 0 is `void`.
    types: Vec<usize>,
    strings: std::ops::Range<usize>,
    structs: HashMap<Vec<u8>, Vec<u32>>,
    typedefs: HashMap<Vec<u8>, u32>,
    /// Functions in the order of the types. Not by name: a kernel has 60 000, and a few dozen are asked for.
    functions: Vec<u32>,
}

/// The three words every type starts with.
#[derive(Clone, Copy)]
struct Type {
    at: usize,
    name: u32,
    info: u32,
    size_or_type: u32,
}

impl Type {
    fn kind(self) -> u32 {
        self.info >> 24 & 0x1f
    }

    fn vlen(self) -> usize {
        (self.info & 0xffff) as usize
    }

    fn has_bitfields(self) -> bool {
        self.info >> 31 == 1
    }

    fn is_composite(self) -> bool {
        matches!(self.kind(), KIND_STRUCT | KIND_UNION)
    }

    /// Bytes behind the three words.
    fn tail_bytes(self) -> Option<usize> {
        Some(match self.kind() {
            KIND_INT | KIND_VAR | KIND_DECL_TAG => 4,
            KIND_ARRAY => 12,
            KIND_STRUCT | KIND_UNION => self.vlen() * MEMBER_BYTES,
            KIND_DATASEC | KIND_ENUM64 => self.vlen() * 12,
            KIND_FUNC_PROTO => self.vlen() * PARAMETER_BYTES,
            KIND_ENUM => self.vlen() * 8,
            KIND_PTR | KIND_FWD | KIND_TYPEDEF | KIND_VOLATILE | KIND_CONST | KIND_RESTRICT | KIND_FUNC
            | KIND_FLOAT | KIND_TYPE_TAG => 0,
            _ => return None,
        })
    }
}

impl Btf {
    /// Indexes BTF.
    ///
    /// # Errors
    /// When the bytes are short, of the wrong byte order, or hold a kind of type this reader does not know.
    pub fn parse(bytes: Vec<u8>) -> Result<Self, BtfError> {
        let short = |needed: usize| BtfError::Short { needed, found: bytes.len() };
        let magic = read_u16(&bytes, 0).ok_or_else(|| short(HEADER_BYTES))?;
        if magic != MAGIC {
            return Err(BtfError::Magic(magic));
        }
        let word =
            |at: usize| read_u32(&bytes, at).map(|word| word as usize).ok_or_else(|| short(HEADER_BYTES));
        let (header, type_at, type_len, string_at, string_len) =
            (word(4)?, word(8)?, word(12)?, word(16)?, word(20)?);
        let section = |at: usize, len: usize| {
            let start = header.saturating_add(at);
            let end = start.saturating_add(len);
            if end > bytes.len() { Err(short(end)) } else { Ok(start..end) }
        };
        let types = section(type_at, type_len)?;
        let strings = section(string_at, string_len)?;
        let mut btf = Self {
            bytes,
            types: vec![types.start],
            strings,
            structs: HashMap::new(),
            typedefs: HashMap::new(),
            functions: Vec::new(),
        };
        btf.index(types)?;
        Ok(btf)
    }

    fn index(&mut self, range: std::ops::Range<usize>) -> Result<(), BtfError> {
        let mut at = range.start;
        while at < range.end {
            let id = u32::try_from(self.types.len()).unwrap_or(u32::MAX);
            let found = self.bytes.len();
            let Some(kind) = self.type_at(at) else {
                return Err(BtfError::Short { needed: at + TYPE_BYTES, found });
            };
            let Some(tail) = kind.tail_bytes() else { return Err(BtfError::Kind { id, kind: kind.kind() }) };
            let end = at + TYPE_BYTES + tail;
            if end > range.end {
                return Err(BtfError::Short { needed: end, found: range.end });
            }
            self.types.push(at);
            let name = self.string(kind.name).to_vec();
            match kind.kind() {
                KIND_STRUCT | KIND_UNION if !name.is_empty() => {
                    self.structs.entry(name).or_default().push(id);
                }
                KIND_TYPEDEF => {
                    self.typedefs.entry(name).or_insert(id);
                }
                KIND_FUNC if kind.vlen() != LINKAGE_EXTERN => self.functions.push(id),
                _ => {}
            }
            at = end;
        }
        Ok(())
    }

    /// Byte offset of `struct.member[.member]...`, looking into anonymous structs and unions; a member may be an
    /// array element, `member[3]`. `None` when there is no such member, or it does not start at a byte.
    #[must_use]
    pub fn member_offset(&self, path: &str) -> Option<u32> {
        let bits = self.member_bits(path)?;
        bits.is_multiple_of(8).then_some(bits / 8)
    }

    /// As [`Self::member_offset`], in bits: for a bit field.
    #[must_use]
    pub fn member_bits(&self, path: &str) -> Option<u32> {
        let (name, members) = path.split_once('.')?;
        let candidates = self.structs.get(name.as_bytes())?;
        let mut steps = STEPS_MAX;
        // A kernel can hold several types of one name: the first that has the member is meant.
        candidates.iter().find_map(|id| self.walk(*id, members, &mut steps))
    }

    /// Bytes of the struct or union `name`. `None` when there is none, or several of different sizes.
    #[must_use]
    pub fn struct_size(&self, name: &str) -> Option<u32> {
        let (first, others) = self.structs.get(name.as_bytes())?.split_first()?;
        let size = self.get(*first)?.size_or_type;
        others.iter().all(|id| self.get(*id).is_some_and(|other| other.size_or_type == size)).then_some(size)
    }

    fn walk(&self, id: u32, members: &str, steps: &mut usize) -> Option<u32> {
        let mut id = id;
        let mut offset = 0u32;
        for member in members.split('.') {
            let (name, index) = match member.split_once('[') {
                Some((name, index)) => (name, Some(index.strip_suffix(']')?.parse::<u32>().ok()?)),
                None => (member, None),
            };
            let (at, member_type) = self.find_member(id, name.as_bytes(), 0, steps)?;
            offset = offset.checked_add(at)?;
            id = member_type;
            if let Some(index) = index {
                let (element, size) = self.array_element(id)?;
                offset = offset.checked_add(index.checked_mul(size)?.checked_mul(8)?)?;
                id = element;
            }
        }
        Some(offset)
    }

    /// Offset in bits and type of a member, by name, in this type or in an anonymous member of it.
    fn find_member(&self, id: u32, name: &[u8], depth: usize, steps: &mut usize) -> Option<(u32, u32)> {
        let composite = self.resolve(id)?;
        if depth > DEPTH_MAX || !composite.is_composite() {
            return None;
        }
        for index in 0..composite.vlen() {
            *steps = steps.checked_sub(1)?;
            let at = composite.at + TYPE_BYTES + index * MEMBER_BYTES;
            let (member_name, member_type, bits) =
                (self.u32_at(at)?, self.u32_at(at + 4)?, self.u32_at(at + 8)?);
            // With bit fields about, the upper byte is the member's width.
            let bit_offset = if composite.has_bitfields() { bits & 0x00ff_ffff } else { bits };
            if self.string(member_name) == name && !name.is_empty() {
                return Some((bit_offset, member_type));
            }
            if self.string(member_name).is_empty()
                && let Some((inner, inner_type)) = self.find_member(member_type, name, depth + 1, steps)
            {
                return Some((bit_offset.checked_add(inner)?, inner_type));
            }
        }
        None
    }

    /// Type and size of an array's elements.
    fn array_element(&self, id: u32) -> Option<(u32, u32)> {
        let array = self.resolve(id)?;
        if array.kind() != KIND_ARRAY {
            return None;
        }
        let element = self.u32_at(array.at + TYPE_BYTES)?;
        Some((element, self.size(element)?))
    }

    fn size(&self, id: u32) -> Option<u32> {
        let kind = self.resolve(id)?;
        match kind.kind() {
            KIND_INT | KIND_STRUCT | KIND_UNION | KIND_ENUM | KIND_ENUM64 | KIND_FLOAT => {
                Some(kind.size_or_type)
            }
            KIND_PTR => Some(8),
            _ => None,
        }
    }

    /// The type behind typedefs and qualifiers.
    fn resolve(&self, id: u32) -> Option<Type> {
        let mut kind = self.get(id)?;
        for _ in 0..DEPTH_MAX {
            match kind.kind() {
                KIND_TYPEDEF | KIND_VOLATILE | KIND_CONST | KIND_RESTRICT | KIND_TYPE_TAG => {
                    kind = self.get(kind.size_or_type)?;
                }
                _ => return Some(kind),
            }
        }
        None
    }

    fn get(&self, id: u32) -> Option<Type> {
        if id == 0 {
            return None;
        }
        self.type_at(*self.types.get(id as usize)?)
    }

    fn type_at(&self, at: usize) -> Option<Type> {
        Some(Type {
            at,
            name: self.u32_at(at)?,
            info: self.u32_at(at.checked_add(4)?)?,
            size_or_type: self.u32_at(at.checked_add(8)?)?,
        })
    }

    fn u32_at(&self, at: usize) -> Option<u32> {
        read_u32(&self.bytes, at)
    }

    /// The string at an offset; empty when there is none, or none of at most [`NAME_BYTES_MAX`] bytes.
    fn string(&self, offset: u32) -> &[u8] {
        let strings = &self.bytes[self.strings.clone()];
        let rest = strings.get(offset as usize..).unwrap_or_default();
        let window = rest.get(..NAME_BYTES_MAX).unwrap_or(rest);
        window.iter().position(|byte| *byte == 0).map_or(&[], |end| &rest[..end])
    }
}

fn read_u16(bytes: &[u8], at: usize) -> Option<u16> {
    let bytes = bytes.get(at..at.checked_add(2)?)?;
    Some(u16::from_ne_bytes(bytes.try_into().expect("two bytes were taken")))
}

fn read_u32(bytes: &[u8], at: usize) -> Option<u32> {
    let bytes = bytes.get(at..at.checked_add(4)?)?;
    Some(u32::from_ne_bytes(bytes.try_into().expect("four bytes were taken")))
}

#[cfg(test)]
#[path = "btf_tests.rs"]
pub(super) mod tests;
