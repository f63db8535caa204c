//! Cuts BTF down to the structs and functions that are asked for. Not what is asked for. It may call the model.
//!
//! | where a type stands | what is kept of it |
//! |---|---|
//! | a struct that is asked for, or embedded in one | everything, with names and bit fields |
//! | behind a pointer in a struct | nothing: the pointer leads to void |
//! | behind a pointer in a function's parameters | its name |
//! | an enum | its name and size |

use super::Keep;
use super::model::{
    ARRAY, CONST, ENUM, ENUM64, FLOAT, FUNC, FUNC_PROTO, FWD, INT, Model, PTR, RESTRICT, STRUCT, TYPE_TAG,
    TYPEDEF, Tail, Type, UNION, VOLATILE,
};
use anyhow::{Context, Result, bail, ensure};
use std::collections::HashMap;

/// How much of a type is kept.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Depth {
    /// All of it, for it takes room where it stands.
    Layout,
    /// As a parameter: as [`Self::Layout`], but a pointer keeps the name of what it leads to.
    Parameter,
    /// Its name.
    Name,
}

/// Cuts BTF down.
///
/// # Errors
/// When nothing of what is asked for is there, or a type refers to one that cannot stand there.
pub(super) fn trim(whole: &Model, keep: &Keep) -> Result<Model> {
    let mut trimmer = Trimmer { whole, trimmed: Model::default(), done: HashMap::new() };
    for (id, one) in numbered(whole) {
        if matches!(one.kind(), STRUCT | UNION) && keep.has_struct(&one.name) {
            trimmer.copy(id, Depth::Layout)?;
        }
    }
    ensure!(!trimmer.trimmed.types.is_empty(), "no struct of the field list is there");
    for (id, one) in numbered(whole) {
        if !keep.has_function(&one.name) {
            continue;
        }
        match one.kind() {
            FUNC => {
                trimmer.copy(id, Depth::Layout)?;
            }
            TYPEDEF => trimmer.tracepoint(one)?,
            _ => {}
        }
    }
    Ok(trimmer.trimmed)
}

fn numbered(model: &Model) -> impl Iterator<Item = (u32, &Type)> {
    (1..).zip(&model.types)
}

struct Trimmer<'a> {
    whole: &'a Model,
    trimmed: Model,
    /// New ids by old id and depth.
    done: HashMap<(u32, Depth), u32>,
}

impl Trimmer<'_> {
    /// The new id of a type that is kept this far. Layouts cannot hold themselves except through a pointer, and
    /// pointers are cut: so this ends.
    fn copy(&mut self, id: u32, depth: Depth) -> Result<u32> {
        if id == 0 {
            return Ok(0);
        }
        if let Some(new) = self.done.get(&(id, depth)) {
            return Ok(*new);
        }
        let one = self.whole.get(id).with_context(|| format!("no BTF type {id}"))?;
        let new = match (one.kind(), depth) {
            (PTR, Depth::Layout) => self.single(one, 0),
            (PTR, _) => {
                let target = self.copy(one.size_or_type, Depth::Name)?;
                self.single(one, target)
            }
            (STRUCT | UNION, Depth::Name) => self.named_struct(id, one),
            (STRUCT | UNION, _) => self.composite(one)?,
            (TYPEDEF, Depth::Name) => self.single(one, 0),
            (TYPEDEF | CONST | VOLATILE | RESTRICT | TYPE_TAG, _) => {
                let target = self.copy(one.size_or_type, depth)?;
                self.single(one, target)
            }
            (ARRAY, _) => self.array(one, depth)?,
            (ENUM | ENUM64, _) => {
                // Without its values; the flag that says they are signed stays.
                let info = one.info & !0xffff;
                self.trimmed.push(Type { info, tail: Tail::Words(Vec::new()), ..one.clone() })
            }
            (FUNC, _) => {
                let prototype = self.copy(one.size_or_type, Depth::Layout)?;
                self.single(one, prototype)
            }
            (FUNC_PROTO, Depth::Name) => self.trimmed.push(Type {
                info: FUNC_PROTO << 24,
                size_or_type: 0,
                tail: Tail::Parameters(Vec::new()),
                ..one.clone()
            }),
            (FUNC_PROTO, _) => self.prototype(one)?,
            (INT | FLOAT | FWD, _) => self.trimmed.push(one.clone()),
            (kind, _) => bail!("BTF type {id} is of kind {kind}, which cannot stand in a layout"),
        };
        self.done.insert((id, depth), new);
        Ok(new)
    }

    /// A typedef of a pointer to a function: the only pointer whose target is kept whole.
    fn tracepoint(&mut self, one: &Type) -> Result<()> {
        let Some(pointer) = self.whole.get(one.size_or_type).filter(|pointer| pointer.kind() == PTR) else {
            return Ok(());
        };
        let Some(prototype) = self.whole.get(pointer.size_or_type).filter(|to| to.kind() == FUNC_PROTO)
        else {
            return Ok(());
        };
        let prototype = self.prototype(prototype)?;
        let pointer = self.single(pointer, prototype);
        self.single(one, pointer);
        Ok(())
    }

    /// A type that is one reference to another.
    fn single(&mut self, one: &Type, target: u32) -> u32 {
        self.trimmed.push(Type { size_or_type: target, ..one.clone() })
    }

    /// The struct itself if it is kept, else its name.
    fn named_struct(&mut self, id: u32, one: &Type) -> u32 {
        if let Some(whole) = self.done.get(&(id, Depth::Layout)) {
            return *whole;
        }
        let is_union = u32::from(one.kind() == UNION) << 31;
        self.trimmed.push(Type {
            name: one.name.clone(),
            info: FWD << 24 | is_union,
            size_or_type: 0,
            tail: Tail::Words(Vec::new()),
        })
    }

    fn composite(&mut self, one: &Type) -> Result<u32> {
        let Tail::Members(members) = &one.tail else { bail!("a struct without members") };
        let mut copies = Vec::with_capacity(members.len());
        for (name, id, offset) in members {
            copies.push((name.clone(), self.copy(*id, Depth::Layout)?, *offset));
        }
        Ok(self.trimmed.push(Type { tail: Tail::Members(copies), ..one.clone() }))
    }

    fn array(&mut self, one: &Type, depth: Depth) -> Result<u32> {
        let Tail::Words(words) = &one.tail else { bail!("an array without its words") };
        let &[element, index, count] = words.as_slice() else { bail!("an array of {} words", words.len()) };
        let tail = vec![self.copy(element, depth)?, self.copy(index, Depth::Layout)?, count];
        Ok(self.trimmed.push(Type { tail: Tail::Words(tail), ..one.clone() }))
    }

    fn prototype(&mut self, one: &Type) -> Result<u32> {
        let Tail::Parameters(parameters) = &one.tail else { bail!("a prototype without parameters") };
        let mut copies = Vec::with_capacity(parameters.len());
        for (name, id) in parameters {
            copies.push((name.clone(), self.copy(*id, Depth::Parameter)?));
        }
        let result = self.copy(one.size_or_type, Depth::Parameter)?;
        Ok(self.trimmed.push(Type { size_or_type: result, tail: Tail::Parameters(copies), ..one.clone() }))
    }
}

#[cfg(test)]
mod tests {
    use super::super::model::{
        ARRAY, ENUM, FUNC, FUNC_PROTO, FWD, INT, Model, PTR, STRUCT, TYPEDEF, Tail, Type, parse,
    };
    use super::super::{Keep, show};
    use super::trim;

    fn add(model: &mut Model, name: &str, info: u32, size_or_type: u32, tail: Tail) -> u32 {
        model.push(Type { name: name.as_bytes().to_vec(), info, size_or_type, tail })
    }

    fn words(words: &[u32]) -> Tail {
        Tail::Words(words.to_vec())
    }

    fn members(members: &[(&str, u32, u32)]) -> Tail {
        Tail::Members(members.iter().map(|(name, id, at)| (name.as_bytes().to_vec(), *id, *at)).collect())
    }

    fn parameters(parameters: &[(&str, u32)]) -> Tail {
        Tail::Parameters(parameters.iter().map(|(name, id)| (name.as_bytes().to_vec(), *id)).collect())
    }

    /// `struct kept { int number; struct inner inner; struct far *far; enum colour colours[2]; unsigned bit: 1; }`,
    /// `int hook(struct far *far, const struct kept **kept)`, `btf_trace_hook`, and a struct that nobody asks for.
    fn kernel() -> Model {
        let mut model = Model::default();
        let int = add(&mut model, "int", INT << 24, 4, words(&[0x0100_0020]));
        let inner = add(&mut model, "inner", STRUCT << 24 | 1, 4, members(&[("value", int, 0)]));
        let far = add(&mut model, "far", STRUCT << 24 | 1, 4, members(&[("secret", int, 0)]));
        let to_far = add(&mut model, "", PTR << 24, far, words(&[]));
        let colour = add(&mut model, "colour", ENUM << 24 | 1, 4, words(&[0, 7]));
        let colours = add(&mut model, "", ARRAY << 24, 0, words(&[colour, int, 2]));
        let all = [
            ("number", int, 0),
            ("inner", inner, 32),
            ("far", to_far, 64),
            ("colours", colours, 128),
            ("bit", int, 1 << 24 | 192),
        ];
        let kept = add(&mut model, "kept", 1 << 31 | STRUCT << 24 | 5, 32, members(&all));
        let to_kept = add(&mut model, "", PTR << 24, kept, words(&[]));
        let to_to_kept = add(&mut model, "", PTR << 24, to_kept, words(&[]));
        let both = [("far", to_far), ("kept", to_to_kept)];
        let prototype = add(&mut model, "", FUNC_PROTO << 24 | 2, int, parameters(&both));
        add(&mut model, "hook", FUNC << 24, prototype, words(&[]));
        let to_prototype = add(&mut model, "", PTR << 24, prototype, words(&[]));
        add(&mut model, "btf_trace_hook", TYPEDEF << 24, to_prototype, words(&[]));
        add(&mut model, "unasked", STRUCT << 24, 8, members(&[]));
        model
    }

    #[test]
    fn what_is_asked_for_stays_whole_and_the_rest_goes() {
        let keep = Keep { structs: vec!["kept".to_owned()], functions: vec!["*hook".to_owned()] };
        let trimmed = trim(&kernel(), &keep).expect("the struct is there");
        let read = parse(&trimmed.write()).expect("what was written is BTF");
        assert_eq!(read.types, trimmed.types);
        let names: Vec<&[u8]> =
            read.types.iter().filter(|one| one.kind() == STRUCT).map(|one| one.name.as_slice()).collect();
        assert_eq!(names, [b"inner".as_slice(), b"kept"]);
        assert!(
            read.types.iter().any(|one| one.kind() == FWD && one.name == b"far"),
            "a parameter has its name"
        );
        let text = show::show(&[("6.1".to_owned(), read)], &|_| true);
        for line in [
            "int hook(far *far, kept **kept)    [6.1]",
            "int btf_trace_hook(far *far, kept **kept)    [6.1]",
            "        8.0 void *far",
            "       16.0 colour colours[2]",
            "       24.0 int bit    [6.1]",
        ] {
            assert!(text.lines().any(|found| found.trim_start() == line.trim_start()), "{line:?} in\n{text}");
        }
    }

    #[test]
    fn btf_without_any_struct_asked_for_is_refused() {
        let keep = Keep { structs: vec!["other".to_owned()], functions: Vec::new() };
        assert!(trim(&kernel(), &keep).is_err());
        assert!(parse(b"\x7fELF").is_err());
        let whole = kernel().write();
        for len in 0..whole.len() {
            assert!(parse(&whole[..len]).is_err(), "{len} bytes");
        }
    }
}
