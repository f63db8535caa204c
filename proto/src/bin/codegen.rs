//! Generates `src/generated/` from the `.proto` files, without protoc. It is not part of any normal build: it runs
//! by hand (`cargo xtask codegen`) and, with `--check`, in CI. It may call protox and tonic-prost-build only. It
//! links the library it generates for: should the generated file not compile, empty it first.

use std::error::Error;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

/// Every `.proto` file, relative to the crate: the generator does not guess.
const PROTO_FILES: [&str; 4] = [
    "sensor/v1/finding.proto",
    "sensor/v1/findings.proto",
    "sensor/v1/control.proto",
    "sensor/v1/enroll.proto",
];
/// prost names its output after the protobuf package.
const GENERATED_FILE: &str = "sensor.v1.rs";

fn main() -> ExitCode {
    let check = match std::env::args().nth(1).as_deref() {
        None => false,
        Some("--check") => true,
        Some(other) => {
            eprintln!("sensor-proto-codegen: unknown argument {other}: expected --check or nothing");
            return ExitCode::FAILURE;
        }
    };
    match run(check) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("sensor-proto-codegen: {error}");
            ExitCode::FAILURE
        }
    }
}

fn run(check: bool) -> Result<(), Box<dyn Error>> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let committed = root.join("src/generated").join(GENERATED_FILE);
    let scratch = std::env::temp_dir().join(format!("sensor-proto-codegen-{}", std::process::id()));
    fs::create_dir_all(&scratch)?;
    let generated = generate(&root, &scratch);
    fs::remove_dir_all(&scratch)?;
    let generated = generated?;
    if check {
        let current = fs::read_to_string(&committed)?;
        if current != generated {
            let line = current.lines().zip(generated.lines()).take_while(|(old, new)| old == new).count() + 1;
            return Err(format!(
                "src/generated/{GENERATED_FILE} is not what the .proto files generate (first difference at line \
                 {line}): run cargo xtask codegen and commit the result"
            )
            .into());
        }
        println!("src/generated/{GENERATED_FILE} is up to date");
        return Ok(());
    }
    fs::create_dir_all(committed.parent().ok_or("the output path has no parent")?)?;
    fs::write(&committed, generated)?;
    println!("wrote src/generated/{GENERATED_FILE}");
    Ok(())
}

/// Compiles the `.proto` files into `scratch` and returns the one file that comes out.
fn generate(root: &Path, scratch: &Path) -> Result<String, Box<dyn Error>> {
    let descriptors = protox::compile(PROTO_FILES, [root])?;
    tonic_prost_build::configure()
        .build_client(true)
        .build_server(true)
        // Ordered maps: the same message always encodes to the same bytes.
        .btree_map(".")
        .emit_rerun_if_changed(false)
        .out_dir(scratch)
        .compile_fds(descriptors)?;
    Ok(fs::read_to_string(scratch.join(GENERATED_FILE))?)
}
