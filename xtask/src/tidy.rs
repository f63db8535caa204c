//! `cargo xtask tidy`: the lines of the style guide that a tool can hold. Not clippy's lints and not rustfmt. It may
//! read the tree and run `cargo metadata` and `git ls-files`.

mod edges;
mod source;

use crate::workspace_root;
use anyhow::{Context, Result, bail};
use std::path::{Path, PathBuf};
use std::process::Command;

/// Checks the whole tree and prints every problem.
pub(crate) fn run() -> Result<()> {
    let root = workspace_root();
    let mut problems = edges::check(&root)?;
    let files = rust_files(&root)?;
    for file in &files {
        let text = std::fs::read_to_string(root.join(file))
            .with_context(|| format!("reading {}", file.display()))?;
        problems.extend(source::check(file, &text));
    }
    for problem in &problems {
        eprintln!("tidy: {problem}");
    }
    if !problems.is_empty() {
        bail!("tidy: {} problems", problems.len());
    }
    println!("tidy: {} files, crate edges and limits hold", files.len());
    Ok(())
}

/// Rust files that git tracks or would track, generated ones left out.
fn rust_files(root: &Path) -> Result<Vec<PathBuf>> {
    let listing = sensor_tests::output(Command::new("git").current_dir(root).args([
        "ls-files",
        "--cached",
        "--others",
        "--exclude-standard",
        "--",
        "*.rs",
    ]))
    .context("tidy asks git which files there are: run it in a git checkout (`git init` makes one)")?;
    let files = listing.lines().filter(|line| !line.contains("/generated/")).map(PathBuf::from);
    Ok(files.filter(|file| root.join(file).exists()).collect())
}
