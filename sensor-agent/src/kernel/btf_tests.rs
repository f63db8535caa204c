//! Tests of the BTF reader: on BTF made here, on damaged BTF, and on the running kernel's. Not of the fields table.

use super::{
    Btf, BtfError, KIND_ARRAY, KIND_CONST, KIND_FUNC, KIND_FUNC_PROTO, KIND_INT, KIND_PTR, KIND_STRUCT,
    KIND_TYPEDEF, KIND_UNION, LINKAGE_EXTERN, Parameter,
};
use proptest::prelude::{Strategy, any, prop};
use proptest::{prop_assert, proptest};
use std::io::Read;
use std::path::Path;

/// Writes BTF.
#[derive(Default)]
struct Builder {
    types: Vec<u8>,
    strings: Vec<u8>,
    count: u32,
}

impl Builder {
    fn new() -> Self {
        Self { strings: vec![0], ..Self::default() }
    }

    fn name(&mut self, name: &str) -> u32 {
        if name.is_empty() {
            return 0;
        }
        let at = self.strings.len() as u32;
        self.strings.extend_from_slice(name.as_bytes());
        self.strings.push(0);
        at
    }

    fn words(&mut self, words: &[u32]) {
        for word in words {
            self.types.extend_from_slice(&word.to_ne_bytes());
        }
    }

    fn add(&mut self, name: &str, kind: u32, vlen: u32, size_or_type: u32, tail: &[u32]) -> u32 {
        let name = self.name(name);
        self.words(&[name, kind << 24 | vlen, size_or_type]);
        self.words(tail);
        self.count += 1;
        self.count
    }

    /// Members as (name, type, offset in bits).
    fn composite(&mut self, name: &str, kind: u32, members: &[(&str, u32, u32)]) -> u32 {
        let tail: Vec<u32> =
            members.iter().flat_map(|(name, kind, bits)| [self.name(name), *kind, *bits]).collect();
        self.add(name, kind, members.len() as u32, 64, &tail)
    }

    fn build(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        bytes.extend_from_slice(&0xeb9f_u16.to_ne_bytes());
        bytes.extend_from_slice(&[1, 0]);
        let lengths = [self.types.len() as u32, self.strings.len() as u32];
        for word in [24, 0, lengths[0], lengths[0], lengths[1]] {
            bytes.extend_from_slice(&word.to_ne_bytes());
        }
        bytes.extend_from_slice(&self.types);
        bytes.extend_from_slice(&self.strings);
        bytes
    }
}

/// A small kernel: `outer { int first; union { int a; struct inner b; }; int regs[4]; unsigned bits: 3, last: 1; }`.
pub(in crate::kernel) fn sample() -> Vec<u8> {
    let mut builder = Builder::new();
    let int = builder.add("int", KIND_INT, 0, 4, &[0x0100_0020]);
    let inner = builder.composite("inner", KIND_STRUCT, &[("x", int, 0), ("y", int, 32)]);
    let typedef = builder.add("inner_t", KIND_TYPEDEF, 0, inner, &[]);
    let union = builder.composite("", KIND_UNION, &[("a", int, 0), ("b", typedef, 0)]);
    let array = builder.add("", KIND_ARRAY, 0, 0, &[int, int, 4]);
    let outer = builder.composite(
        "outer",
        KIND_STRUCT | 0x80,
        &[
            ("first", int, 0),
            ("", union, 32),
            ("regs", array, 96),
            ("bits", int, 3 << 24 | 224),
            ("last", int, 1 << 24 | 227),
        ],
    );
    let pointer = builder.add("", KIND_PTR, 0, outer, &[]);
    let proto = builder.add("", KIND_FUNC_PROTO, 3, 0, &[0, pointer, 0, pointer, 0, int]);
    let to_proto = builder.add("", KIND_PTR, 0, proto, &[]);
    builder.add("btf_trace_x", KIND_TYPEDEF, 0, to_proto, &[]);
    builder.build()
}

/// The trimmed BTF of a kernel.
pub(in crate::kernel) struct Fixture {
    /// The kernel's version, and its flavour where there are several of one version.
    pub(in crate::kernel) name: String,
    /// `uname -r`.
    pub(in crate::kernel) release: String,
    pub(in crate::kernel) bytes: Vec<u8>,
    pub(in crate::kernel) btf: Btf,
}

/// All kernels of `tests/btf`, by name.
pub(in crate::kernel) fn fixtures() -> Vec<Fixture> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/btf");
    let files = std::fs::read_dir(&folder).expect("the folder of fixtures is part of the crate");
    let mut fixtures: Vec<Fixture> = files
        .filter_map(|file| {
            let path = file.expect("the folder can be listed").path();
            let name = path.file_name()?.to_str()?.strip_suffix(".btf.gz")?.to_owned();
            let about =
                std::fs::read_to_string(folder.join(format!("{name}.txt"))).expect("it has a provenance");
            let release = about.lines().find_map(|line| line.strip_prefix("release: "));
            let mut bytes = Vec::new();
            let packed = std::fs::File::open(&path).expect("a listed file can be opened");
            flate2::read::GzDecoder::new(packed).read_to_end(&mut bytes).expect("a fixture is gzip");
            let btf = Btf::parse(bytes.clone()).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
            let release = release.expect("the release is known").to_owned();
            Some(Fixture { name, release, bytes, btf })
        })
        .collect();
    fixtures.sort_by(|a, b| a.name.cmp(&b.name));
    assert!(fixtures.len() >= 8, "only {} fixtures", fixtures.len());
    fixtures
}

#[test]
fn members_are_found_in_anonymous_parts_typedefs_and_arrays() {
    let btf = Btf::parse(sample()).expect("the sample is BTF");
    for (path, offset) in [
        ("outer.first", Some(0)),
        ("outer.a", Some(4)),
        ("outer.b", Some(4)),
        ("outer.b.y", Some(8)),
        ("outer.regs", Some(12)),
        ("outer.regs[3]", Some(24)),
        ("inner.y", Some(4)),
        ("outer.bits", Some(28)),
        ("outer.last", None),
        ("outer.missing", None),
        ("outer.first.x", None),
        ("outer.first[0]", None),
        ("outer.regs[x]", None),
        ("outer.regs[4294967295]", None),
        ("missing.first", None),
        ("outer", None),
        ("outer.", None),
        ("", None),
    ] {
        assert_eq!(btf.member_offset(path), offset, "{path:?}");
    }
    assert_eq!(btf.member_bits("outer.last"), Some(227));
}

#[test]
fn parameters_of_a_function_type_are_counted() {
    let btf = Btf::parse(sample()).expect("the sample is BTF");
    assert_eq!(btf.typedef_parameters("btf_trace_x"), Some(3));
    assert_eq!(btf.typedef_parameters("inner_t"), None);
    assert_eq!(btf.typedef_parameters("missing"), None);
}

/// `long f(const struct outer *object, struct outer **objects, inner_t value, void *)` under several names.
fn functions() -> Btf {
    let mut builder = Builder::new();
    let int = builder.add("int", KIND_INT, 0, 4, &[0x0100_0020]);
    let outer = builder.composite("outer", KIND_STRUCT, &[("x", int, 0)]);
    let constant = builder.add("", KIND_CONST, 0, outer, &[]);
    let object = builder.add("", KIND_PTR, 0, constant, &[]);
    let pointer = builder.add("", KIND_PTR, 0, outer, &[]);
    let objects = builder.add("", KIND_PTR, 0, pointer, &[]);
    let value = builder.add("inner_t", KIND_TYPEDEF, 0, outer, &[]);
    let void = builder.add("", KIND_PTR, 0, 0, &[]);
    let names = ["object", "objects", "value"].map(|name| builder.name(name));
    let prototype = &[names[0], object, names[1], objects, names[2], value, 0, void];
    let four = builder.add("", KIND_FUNC_PROTO, 4, int, prototype);
    let same = builder.add("", KIND_FUNC_PROTO, 4, int, prototype);
    let one = builder.add("", KIND_FUNC_PROTO, 1, int, &[names[0], object]);
    for (name, linkage, prototype) in [
        ("static_one", 0, one),
        ("global_four", 1, four),
        ("twice_the_same", 0, four),
        ("twice_the_same", 0, same),
        ("twice_different", 0, four),
        ("twice_different", 0, one),
        ("mentioned", LINKAGE_EXTERN as u32, one),
        ("broken", 0, outer),
    ] {
        builder.add(name, KIND_FUNC, linkage, prototype, &[]);
    }
    Btf::parse(builder.build()).expect("the functions are BTF")
}

#[test]
fn parameters_have_names_and_base_types() {
    let expected =
        [("object", "outer", 1), ("objects", "outer", 2), ("value", "inner_t", 0), ("", "void", 1)];
    let expected = expected.map(|(name, type_name, pointers)| Parameter {
        name: name.to_owned(),
        type_name: type_name.to_owned(),
        pointers,
    });
    assert_eq!(functions().function_parameters("global_four").as_deref(), Some(expected.as_slice()));
    let result = functions().function_result("global_four").expect("it returns something");
    assert_eq!((result.name.as_str(), result.type_name.as_str(), result.pointers), ("", "int", 0));
    assert_eq!(functions().function_result("missing"), None);
}

#[test]
fn functions_of_one_name_must_agree() {
    let btf = functions();
    for (name, count) in [
        ("static_one", Some(1)),
        ("global_four", Some(4)),
        ("twice_the_same", Some(4)),
        ("twice_different", None),
        ("mentioned", None),
        ("broken", None),
        ("static", None),
        ("static_one_and_more", None),
        ("", None),
    ] {
        assert_eq!(btf.function_parameters(name).map(|parameters| parameters.len()), count, "{name:?}");
    }
    assert_eq!(btf.parameter_index("global_four", "outer"), Some(0));
    assert_eq!(btf.parameter_index("global_four", "inner_t"), None, "that one is no pointer");
    assert_eq!(btf.parameter_index("twice_different", "outer"), None);
}

#[test]
fn structs_of_one_name_must_agree_in_size() {
    let btf = Btf::parse(sample()).expect("the sample is BTF");
    assert_eq!(btf.struct_size("outer"), Some(64));
    assert_eq!(btf.struct_size("missing"), None);
    let mut builder = Builder::new();
    for size in [8, 16] {
        builder.add("different", KIND_STRUCT, 0, size, &[]);
        builder.add("same", KIND_UNION, 0, 8, &[]);
    }
    let btf = Btf::parse(builder.build()).expect("the structs are BTF");
    assert_eq!(btf.struct_size("different"), None);
    assert_eq!(btf.struct_size("same"), Some(8));
}

#[test]
fn bytes_that_are_not_btf_are_told_apart() {
    assert_eq!(Btf::parse(Vec::new()).err(), Some(BtfError::Short { needed: 24, found: 0 }));
    assert_eq!(
        Btf::parse(b"\x7fELF....".to_vec()).err(),
        Some(BtfError::Magic(u16::from_ne_bytes(*b"\x7fE")))
    );
    let mut builder = Builder::new();
    builder.add("future", 31, 0, 0, &[]);
    assert_eq!(Btf::parse(builder.build()).err(), Some(BtfError::Kind { id: 1, kind: 31 }));
}

#[test]
fn truncated_btf_is_refused_at_every_length() {
    let whole = sample();
    for len in 0..whole.len() {
        assert!(matches!(Btf::parse(whole[..len].to_vec()), Err(BtfError::Short { .. })), "{len} bytes");
    }
}

#[test]
fn types_that_refer_to_themselves_end() {
    let mut builder = Builder::new();
    let own = builder.add("own", KIND_TYPEDEF, 0, 1, &[]);
    builder.composite("circle", KIND_STRUCT, &[("", 2, 0), ("x", own, 0)]);
    let btf = Btf::parse(builder.build()).expect("the circle is BTF");
    assert_eq!(btf.typedef_parameters("own"), None);
    assert_eq!(btf.member_offset("circle.y"), None);
    assert_eq!(btf.member_offset("circle.x.y"), None);
}

#[test]
fn types_that_hold_themselves_twice_end_soon() {
    let mut builder = Builder::new();
    builder.composite("tree", KIND_STRUCT, &[("", 1, 0), ("", 1, 0)]);
    let btf = Btf::parse(builder.build()).expect("the tree is BTF");
    let begun = std::time::Instant::now();
    assert_eq!(btf.member_offset("tree.leaf"), None);
    assert!(begun.elapsed().as_secs() < 10, "2^32 steps take longer");
}

#[test]
fn running_kernel_is_understood() {
    let Ok(bytes) = std::fs::read("/sys/kernel/btf/vmlinux") else {
        println!("skipped: this kernel shows no BTF");
        return;
    };
    let btf = Btf::parse(bytes).expect("the kernel's BTF is BTF");
    for field in sensor_event::FIELDS {
        let found = field.paths.iter().find_map(|path| btf.member_offset(path));
        assert!(found.is_some() || field.need == sensor_event::Need::Optional, "{}", field.global);
    }
    assert!(btf.typedef_parameters("btf_trace_sched_process_exit").is_some_and(|count| count >= 2));
    assert_eq!(btf.function_parameters("security_bprm_check").map(|parameters| parameters.len()), Some(1));
    assert_eq!(btf.parameter_index("security_file_open", "file"), Some(0));
    assert!(btf.struct_size("task_struct").is_some_and(|bytes| bytes > 1000));
}

#[test]
fn names_that_overlap_take_no_room() {
    let mut builder = Builder::new();
    builder.strings.extend_from_slice(&[b'x'; 1 << 16]);
    for offset in 1..1 << 16 {
        builder.words(&[offset, KIND_STRUCT << 24, 8]);
    }
    let btf = Btf::parse(builder.build()).expect("the structs are BTF");
    let names: usize = btf.structs.keys().map(Vec::len).sum();
    assert!(names < 1 << 20, "{names} bytes of names from {} of BTF", btf.bytes.len());
}

fn damage() -> impl Strategy<Value = Vec<(prop::sample::Index, u8)>> {
    prop::collection::vec((any::<prop::sample::Index>(), any::<u8>()), 1..8)
}

proptest! {
    #[test]
    fn any_bytes_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
        drop(Btf::parse(bytes));
    }

    #[test]
    fn damaged_btf_never_panics(damage in damage()) {
        let mut bytes = sample();
        for (at, byte) in damage {
            let at = at.index(bytes.len());
            bytes[at] = byte;
        }
        if let Ok(btf) = Btf::parse(bytes) {
            for path in ["outer.b.y", "outer.regs[3]", "outer.last", "circle.x"] {
                prop_assert!(btf.member_bits(path).is_none_or(|bits| btf.member_offset(path).is_none_or(|bytes| bytes * 8 == bits)));
            }
            drop((btf.typedef_function("btf_trace_x"), btf.function_parameters("outer")));
        }
    }
}
