//! `cargo xtask ebpf`: builds the kernel object, compares it with the committed one, or replaces that. Not the
//! recipe, which the agent's build script shares. It may call the recipe and the file system.

#[path = "../../sensor-ebpf/recipe.rs"]
mod recipe;

use anyhow::{Context, Result, ensure};
use std::fs;
use std::path::PathBuf;

/// What to do with the object besides building it.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// Fail unless the committed object has the same bytes.
    #[arg(long, conflicts_with = "update")]
    check: bool,
    /// Make it the committed object.
    #[arg(long)]
    update: bool,
}

#[derive(Clone, Copy)]
enum Mode {
    Build,
    Check,
    Update,
}

/// Builds the kernel object, and checks or updates the committed one.
///
/// # Errors
/// When it does not build, or, with `--check`, when the committed object is not what the sources build to.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    build(match arguments {
        Arguments { check: true, .. } => Mode::Check,
        Arguments { update: true, .. } => Mode::Update,
        _ => Mode::Build,
    })
}

/// As `cargo xtask ebpf --check`.
///
/// # Errors
/// As [`run`].
pub(crate) fn check() -> Result<()> {
    build(Mode::Check)
}

/// The `bpf-linker` that the object is linked with.
pub(crate) fn linker() -> PathBuf {
    recipe::linker()
}

fn build(mode: Mode) -> Result<()> {
    let root = &crate::workspace_root();
    let object = recipe::build(root, &root.join("target/ebpf")).context("building the kernel object")?;
    let built = fs::read(&object).with_context(|| format!("reading {}", object.display()))?;
    let hash = recipe::source_hash(root).context("hashing the sources of the kernel object")?;
    let (prebuilt, prebuilt_hash) = (root.join(recipe::PREBUILT_OBJECT), root.join(recipe::PREBUILT_HASH));
    match mode {
        Mode::Build => println!("{}: {} bytes, sources {hash}", object.display(), built.len()),
        Mode::Check => {
            let committed = fs::read(&prebuilt).with_context(|| format!("reading {}", prebuilt.display()))?;
            ensure!(
                committed == built && recipe::is_prebuilt_current(root),
                "{} is not what the sources build to: run `cargo xtask ebpf --update` and commit the result",
                prebuilt.display()
            );
            println!(
                "{} is what the sources build to: {} bytes, sources {hash}",
                prebuilt.display(),
                built.len()
            );
        }
        Mode::Update => {
            fs::write(&prebuilt, &built).with_context(|| format!("writing {}", prebuilt.display()))?;
            fs::write(&prebuilt_hash, format!("{hash}\n"))
                .with_context(|| format!("writing {}", prebuilt_hash.display()))?;
            println!("{}: {} bytes, sources {hash}", prebuilt.display(), built.len());
        }
    }
    Ok(())
}
