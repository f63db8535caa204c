//! Runs the fuzz targets' checks on their committed corpora and on the BTF fixtures, so that a regression is found
//! without the fuzzer. Not fuzzing: `cargo xtask fuzz` is. It may call the agent and the contract.

#[expect(unreachable_pub, reason = "the fuzz targets, another crate, use the same file")]
#[path = "../../fuzz/src/targets.rs"]
mod targets;

use std::io::Read;
use std::path::{Path, PathBuf};

/// Files of a folder of the source tree whose names end like this.
fn files(folder: &str, suffix: &str) -> Vec<PathBuf> {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join(folder);
    let entries = std::fs::read_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
    let paths = entries.map(|entry| entry.expect("the folder can be listed").path());
    paths.filter(|path| path.to_string_lossy().ends_with(suffix)).collect()
}

/// Runs a check on every input; the name of the one that fails is the last that is shown.
fn replay(folder: &str, inputs_min: usize, check: fn(&[u8])) {
    let inputs = files(folder, "");
    assert!(inputs.len() >= inputs_min, "{folder}: only {} inputs", inputs.len());
    for input in inputs {
        println!("{}", input.display());
        check(&std::fs::read(&input).expect("a listed file can be read"));
    }
}

#[test]
fn corpus_of_decode_holds() {
    replay("../fuzz/corpus/decode", 50, targets::decode);
}

#[test]
fn corpus_of_btf_holds() {
    replay("../fuzz/corpus/btf", 8, targets::btf);
}

#[test]
fn corpora_hold_every_kind_and_real_types() {
    let records: Vec<Vec<u8>> =
        files("../fuzz/corpus/decode", "").iter().filter_map(|path| std::fs::read(path).ok()).collect();
    for kind in sensor_event::Kind::ALL {
        let decoded =
            |bytes: &Vec<u8>| sensor_event::decode(bytes).is_ok_and(|record| record.header.kind == kind);
        assert!(records.iter().any(decoded), "{}: run `cargo xtask fuzz --merge`", kind.name());
    }
    let resolves = |path: &PathBuf| {
        let btf = sensor_agent::kernel::btf::Btf::parse(std::fs::read(path).ok()?).ok()?;
        btf.member_offset("dentry.d_name.name")
    };
    assert!(
        files("../fuzz/corpus/btf", "").iter().any(|path| resolves(path).is_some()),
        "no seed has a dentry"
    );
}

#[test]
fn fixtures_hold() {
    let fixtures = files("tests/btf", ".btf.gz");
    assert!(!fixtures.is_empty(), "the fixtures are part of the crate");
    for fixture in fixtures {
        println!("{}", fixture.display());
        let mut bytes = Vec::new();
        let file = std::fs::File::open(&fixture).expect("a listed file can be opened");
        flate2::read::GzDecoder::new(file).read_to_end(&mut bytes).expect("a fixture is gzip");
        targets::btf(&bytes);
        // Damaged in one place each.
        for at in (0..bytes.len()).step_by(bytes.len() / 50) {
            let mut damaged = bytes.clone();
            damaged[at] ^= 0xff;
            targets::btf(&damaged);
        }
    }
}
