//! How the kernel object is built, and from what: shared, by `#[path]`, between the agent's build script and
//! `cargo xtask ebpf`. Not part of the kernel programs. It may run cargo and call [`strip`].

#[path = "strip.rs"]
mod strip;

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::Command;

/// The committed object, below the repository's root.
pub(crate) const PREBUILT_OBJECT: &str = "sensor-ebpf/prebuilt/sensor-ebpf.o";

/// What the committed object was built from, as [`source_hash`] says it.
pub(crate) const PREBUILT_HASH: &str = "sensor-ebpf/prebuilt/source.hash";

/// What the object is built from, below the repository's root. A folder stands for every file in it.
const SOURCES: [&str; 8] = [
    "rust-toolchain.toml",
    "sensor-ebpf/Cargo.lock",
    "sensor-ebpf/Cargo.toml",
    "sensor-ebpf/rustflags.txt",
    "sensor-ebpf/src",
    "sensor-ebpf/strip.rs",
    "sensor-event/Cargo.toml",
    "sensor-event/src",
];

/// Whether the committed object was built from the sources as they are.
pub(crate) fn is_prebuilt_current(root: &Path) -> bool {
    let stated = fs::read_to_string(root.join(PREBUILT_HASH)).unwrap_or_default();
    source_hash(root).is_ok_and(|hash| hash == stated.trim())
}

/// Builds the object in `target` and returns its path.
///
/// The same sources give the same bytes wherever the repository, the toolchain and cargo's home lie: paths are
/// remapped, and nothing else of the machine goes into the object.
pub(crate) fn build(root: &Path, target: &Path) -> io::Result<PathBuf> {
    let status = command(root, target)?.status()?;
    if !status.success() {
        return Err(io::Error::other(format!("building the kernel object failed: {status}")));
    }
    let linked = target.join("bpfel-unknown-none/release/sensor-ebpf");
    let stripped = strip::strip(&fs::read(&linked)?).map_err(io::Error::other)?;
    let object = linked.with_extension("o");
    fs::write(&object, stripped)?;
    Ok(object)
}

fn command(root: &Path, target: &Path) -> io::Result<Command> {
    let folder = root.join("sensor-ebpf");
    let sysroot = sysroot(&folder)?;
    let home = cargo_home();
    let mut flags: Vec<OsString> =
        fs::read_to_string(folder.join("rustflags.txt"))?.split_whitespace().map(OsString::from).collect();
    // The standard library's sources can be a link into another folder.
    let library = sysroot.join("lib/rustlib/src/rust");
    let linked = library.canonicalize().unwrap_or_else(|_| library.clone());
    for (from, to) in [
        (&home, "/cargo"),
        (&sysroot, "/sysroot"),
        (&library, "/rust"),
        (&linked, "/rust"),
        (&root.to_owned(), "/sensor"),
    ] {
        let mut flag = OsString::from("--remap-path-prefix=");
        flag.push(from);
        flag.push("=");
        flag.push(to);
        flags.push(flag);
    }
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| OsString::from("cargo"));
    let mut command = Command::new(cargo);
    command
        .args(["build", "--release", "--locked", "--target", "bpfel-unknown-none", "-Z", "build-std=core"])
        .arg("--target-dir")
        .arg(target)
        .current_dir(&folder)
        .env("RUSTC_BOOTSTRAP", "1")
        .env("CARGO_ENCODED_RUSTFLAGS", flags.join(std::ffi::OsStr::new("\x1f")))
        .env("CARGO_TARGET_BPFEL_UNKNOWN_NONE_LINKER", linker());
    // What an outer cargo sets for its own build must not reach this one.
    for name in [
        "RUSTFLAGS",
        "RUSTC",
        "RUSTC_WRAPPER",
        "RUSTC_WORKSPACE_WRAPPER",
        "CARGO_TARGET_DIR",
        "CARGO_BUILD_TARGET",
    ] {
        command.env_remove(name);
    }
    Ok(command)
}

/// `bpf-linker` where cargo installs it, else wherever `PATH` says.
pub(crate) fn linker() -> PathBuf {
    let installed = cargo_home().join("bin/bpf-linker");
    if installed.is_file() { installed } else { PathBuf::from("bpf-linker") }
}

fn cargo_home() -> PathBuf {
    match std::env::var_os("CARGO_HOME") {
        Some(home) => PathBuf::from(home),
        None => PathBuf::from(std::env::var_os("HOME").unwrap_or_default()).join(".cargo"),
    }
}

/// The folder of the pinned toolchain.
fn sysroot(folder: &Path) -> io::Result<PathBuf> {
    let output = Command::new("rustc").args(["--print", "sysroot"]).current_dir(folder).output()?;
    let text = String::from_utf8_lossy(&output.stdout);
    Ok(PathBuf::from(text.trim()))
}

/// FNV-1a over names and contents, in the order of the names. Not protection: it finds a forgotten rebuild, and
/// CI compares the bytes.
pub(crate) fn source_hash(root: &Path) -> io::Result<String> {
    let mut hash = 0xcbf2_9ce4_8422_2325_u64;
    for file in source_files(root)? {
        let name = file.strip_prefix(root).expect("found below the root").to_string_lossy().into_owned();
        for byte in name.bytes().chain([0]).chain(fs::read(&file)?).chain([0]) {
            hash = (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3);
        }
    }
    Ok(format!("{hash:016x}"))
}

/// Every file the object is built from, sorted.
pub(crate) fn source_files(root: &Path) -> io::Result<Vec<PathBuf>> {
    let mut files = Vec::new();
    let mut folders: Vec<PathBuf> = SOURCES.iter().map(|source| root.join(source)).collect();
    while let Some(path) = folders.pop() {
        if path.is_dir() {
            for entry in fs::read_dir(&path)? {
                folders.push(entry?.path());
            }
        } else {
            files.push(path);
        }
    }
    files.sort();
    Ok(files)
}
