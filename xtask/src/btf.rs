//! `cargo xtask btf`: makes the BTF fixtures that the agent's tests resolve every kernel field and function in,
//! without booting a kernel. Not the reader that the agent uses. It may call its parts, and dpkg-deb, tar, xz and
//! zstd for the images of kernels.

mod image;
mod model;
mod show;
mod trim;

use crate::workspace_root;
use anyhow::{Context, Result, ensure};
use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use model::Model;
use sha2::{Digest, Sha256};
use std::fs;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

/// What to do with the fixtures.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(clap::Subcommand)]
enum Task {
    /// Make one fixture of a kernel's BTF.
    Trim(TrimArguments),
    /// Show functions, tracepoints (btf_trace_*) and structs as the kernels of the fixtures have them.
    Show {
        /// Names; `*` stands for any text.
        #[arg(required = true)]
        names: Vec<String>,
    },
}

#[derive(clap::Args)]
struct TrimArguments {
    /// BTF, vmlinux, vmlinuz, or a Debian package with one of these.
    #[arg(long)]
    from: PathBuf,
    /// Name of the fixture: the kernel's version, 6.1.
    #[arg(long)]
    name: String,
    /// The kernel's release (uname -r), where the file does not tell it.
    #[arg(long)]
    release: Option<String>,
    /// Where the file is from, for the fixture's provenance; the file's name if it is left out.
    #[arg(long)]
    source: Option<String>,
}

/// The folder of the fixtures, below the workspace's.
const FOLDER: &str = "sensor-agent/tests/btf";

/// What the file of a fixture is called behind the kernel's version.
const FIXTURE_SUFFIX: &str = ".btf.gz";

/// What a fixture keeps besides the structs of the field list: one name per line, `*` allowed.
const KEEP_FILE: &str = "functions.txt";

/// What a compressed fixture may take. All of them are committed.
const FIXTURE_BYTES_MAX: usize = 60_000;

/// Makes fixtures.
///
/// # Errors
/// When the file holds no BTF, or the fixture gets too large.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    match &arguments.task {
        Task::Trim(arguments) => trim_one(arguments),
        Task::Show { names } => show(names),
    }
}

fn show(names: &[String]) -> Result<()> {
    let mut kernels = Vec::new();
    let folder = workspace_root().join(FOLDER);
    let listing = || format!("listing {}", folder.display());
    for entry in fs::read_dir(&folder).with_context(listing)? {
        if let Some(kernel) = file_name(&entry.with_context(listing)?.path())?.strip_suffix(FIXTURE_SUFFIX) {
            kernels.push((kernel.to_owned(), fixture(kernel)?));
        }
    }
    kernels.sort_by_key(|(name, _)| version(name));
    let mut unknown = Vec::new();
    for pattern in names {
        match show::show(&kernels, &|name: &[u8]| matches(pattern.as_bytes(), name)) {
            text if text.is_empty() => unknown.push(pattern.as_str()),
            text => print!("{text}"),
        }
    }
    ensure!(unknown.is_empty(), "no fixture has a function or struct {}", unknown.join(" "));
    Ok(())
}

fn fixture(name: &str) -> Result<Model> {
    let path = workspace_root().join(FOLDER).join(format!("{name}{FIXTURE_SUFFIX}"));
    let file = fs::File::open(&path).with_context(|| format!("opening {}", path.display()))?;
    let mut bytes = Vec::new();
    GzDecoder::new(file).read_to_end(&mut bytes).with_context(|| format!("unpacking {}", path.display()))?;
    model::parse(&bytes).with_context(|| format!("BTF of {}", path.display()))
}

/// Small parts of fixtures, with what is hard to read in them, for the fuzzer to begin with. With a name each.
///
/// # Errors
/// When a fixture lacks one of them.
pub(crate) fn seeds() -> Result<Vec<(String, Vec<u8>)>> {
    let mut seeds = Vec::new();
    for (kernel, structs, functions) in SEEDS {
        let model = fixture(kernel)?;
        for name in *structs {
            let keep = Keep {
                structs: vec![(*name).to_owned()],
                functions: functions.iter().map(|function| (*function).to_owned()).collect(),
            };
            seeds.push((format!("{kernel}_{name}"), trim::trim(&model, &keep)?.write()));
        }
    }
    Ok(seeds)
}

/// Anonymous members, bit fields, arrays, functions of several shapes: kernel, structs, functions with each.
const SEEDS: &[(&str, &[&str], &[&str])] = &[
    ("5.10", &["linux_binprm", "dentry", "kernfs_node"], &["vfs_unlink", "btf_trace_sched_process_exit"]),
    ("7.3", &["linux_binprm", "sock_common", "cred", "file"], &["vfs_*link", "btf_trace_sched_process_exit"]),
    ("7.3-arm64", &["pt_regs"], &["btf_trace_sys_*"]),
];

/// Numbers of a fixture's name, so that 5.10 comes after 5.9.
fn version(name: &str) -> Vec<u32> {
    name.split(['.', '-']).map_while(|part| part.parse().ok()).collect()
}

fn trim_one(arguments: &TrimArguments) -> Result<()> {
    let TrimArguments { from, name, release, source } = arguments;
    let folder = workspace_root().join(FOLDER);
    let image = image::read(from).with_context(|| format!("reading {}", from.display()))?;
    let release =
        release.as_ref().or(image.release.as_ref()).context("--release: the file does not tell it")?;
    let keep = Keep::read(&folder.join(KEEP_FILE))?;
    let whole = model::parse(&image.btf).with_context(|| format!("BTF of {}", from.display()))?;
    let trimmed = trim::trim(&whole, &keep)?.write();
    let packed = pack(&trimmed)?;
    ensure!(
        packed.len() <= FIXTURE_BYTES_MAX,
        "fixture {name}: {} bytes, at most {FIXTURE_BYTES_MAX}: keep less in {KEEP_FILE}",
        packed.len()
    );
    let source = match source {
        Some(source) => source.clone(),
        None => file_name(from)?,
    };
    let provenance = format!(
        "release: {release}\nsource: {source}\nbtf: {} bytes, sha256 {}\n",
        image.btf.len(),
        hex(&Sha256::digest(&image.btf))
    );
    let (fixture, text) =
        (folder.join(format!("{name}{FIXTURE_SUFFIX}")), folder.join(format!("{name}.txt")));
    fs::write(&fixture, &packed).with_context(|| format!("writing {}", fixture.display()))?;
    fs::write(&text, provenance).with_context(|| format!("writing {}", text.display()))?;
    println!(
        "{name}: {release}: {} bytes of BTF trimmed to {}, {} compressed",
        image.btf.len(),
        trimmed.len(),
        packed.len()
    );
    Ok(())
}

fn file_name(path: &Path) -> Result<String> {
    let name = path.file_name().with_context(|| format!("{} has no name", path.display()))?;
    Ok(name.to_string_lossy().into_owned())
}

/// Compressed without a time stamp: the same BTF gives the same bytes.
fn pack(bytes: &[u8]) -> Result<Vec<u8>> {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(bytes)?;
    Ok(encoder.finish()?)
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Which types a fixture keeps.
struct Keep {
    /// Names of structs and unions: whole, with what they embed.
    structs: Vec<String>,
    /// Patterns of functions and of typedefs to functions.
    functions: Vec<String>,
}

impl Keep {
    fn read(path: &Path) -> Result<Self> {
        let text = fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
        Ok(Self::parse(&text))
    }

    /// The structs that the agent's fields lie in, and those listed; the functions whose arguments it looks up, and those
    /// listed.
    fn parse(text: &str) -> Self {
        let paths = sensor_event::FIELDS.iter().flat_map(|field| field.paths);
        let mut structs: Vec<String> =
            paths.filter_map(|path| Some(path.split_once('.')?.0.to_owned())).collect();
        let mut functions: Vec<String> =
            sensor_event::ARGUMENTS.iter().map(|argument| argument.function.to_owned()).collect();
        let lines = text.lines().map(|line| line.split('#').next().unwrap_or_default().trim());
        for line in lines.filter(|line| !line.is_empty()) {
            match line.strip_prefix("struct ") {
                Some(name) => structs.push(name.trim().to_owned()),
                None => functions.push(line.to_owned()),
            }
        }
        structs.sort_unstable();
        structs.dedup();
        Self { structs, functions }
    }

    fn has_struct(&self, name: &[u8]) -> bool {
        self.structs.iter().any(|kept| kept.as_bytes() == name)
    }

    fn has_function(&self, name: &[u8]) -> bool {
        self.functions.iter().any(|pattern| matches(pattern.as_bytes(), name))
    }
}

/// Whether a name is the pattern, in which one `*` stands for any text.
fn matches(pattern: &[u8], name: &[u8]) -> bool {
    match pattern.iter().position(|byte| *byte == b'*') {
        None => pattern == name,
        Some(star) => {
            let (head, tail) = (&pattern[..star], &pattern[star + 1..]);
            name.len() >= head.len() + tail.len() && name.starts_with(head) && name.ends_with(tail)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::{Keep, matches};

    #[test]
    fn star_stands_for_any_text() {
        for (pattern, name, expected) in [
            ("vfs_unlink", "vfs_unlink", true),
            ("vfs_unlink", "vfs_unlink2", false),
            ("vfs_*", "vfs_unlink", true),
            ("vfs_*", "vfs_", true),
            ("vfs_*", "svfs_", false),
            ("a*a", "a", false),
            ("inet*_accept", "inet_csk_accept", true),
        ] {
            assert_eq!(matches(pattern.as_bytes(), name.as_bytes()), expected, "{pattern} {name}");
        }
    }

    #[test]
    fn structs_of_the_field_list_are_kept() {
        let keep = Keep::parse("# why\nstruct iattr\nvfs_* # hooks\n\n");
        assert!(keep.has_struct(b"task_struct") && keep.has_struct(b"iattr") && !keep.has_struct(b"why"));
        assert!(keep.has_function(b"vfs_open") && !keep.has_function(b"hooks"));
        let looked_up = sensor_event::ARGUMENTS.iter().map(|argument| argument.function);
        assert!(looked_up.into_iter().all(|function| keep.has_function(function.as_bytes())));
    }
}
