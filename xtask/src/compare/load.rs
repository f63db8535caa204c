//! The load of a comparison: opens that succeed and fail, short programs, and what the other tools do not look at. Not
//! their comparison. It may start processes and write to its folder.

use anyhow::{Context, Result};
use nix::fcntl::{AT_FDCWD, OFlag, OpenHow, openat2};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// What is done, and where.
#[derive(clap::Args)]
pub(crate) struct Arguments {
    /// How often.
    rounds: u32,
    /// Where; every command names it.
    folder: PathBuf,
    /// Instead: become `true` by its descriptor.
    #[arg(long)]
    by_descriptor: bool,
}

/// Makes the load.
pub(crate) fn run(arguments: &Arguments) -> Result<()> {
    let folder = &arguments.folder;
    if arguments.by_descriptor {
        return become_true(folder);
    }
    let (present, missing) = (folder.join("present"), folder.join("missing"));
    fs::write(&present, "here")?;
    let script = folder.join("script");
    fs::write(&script, "#!/bin/sh\n: > \"$1\"\nread line < \"$1\"\nexit 0\n")?;
    for round in 0..arguments.rounds {
        fs::read(&present)?;
        let _is_missing = fs::read(&missing);
        fs::write(folder.join(format!("new-{}", round % 100)), "")?;
        Command::new("/bin/true").arg(folder).status().context("true")?;
        Command::new("/bin/cat")
            .args([&present, &missing])
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .status()
            .context("cat")?;
        Command::new("/bin/sh").arg(&script).arg(folder.join("of-script")).status().context("sh")?;
        if round % RARE == 0 {
            rare(folder, &present)?;
        }
    }
    Ok(())
}

/// What is done in other ways: an open by `openat2`, an execution by descriptor.
fn rare(folder: &Path, present: &Path) -> Result<()> {
    drop(openat2(AT_FDCWD, present, OpenHow::new().flags(OFlag::O_RDONLY | OFlag::O_CLOEXEC))?);
    Command::new(std::env::current_exe()?)
        .args(["compare-load", "0", "--by-descriptor"])
        .arg(folder)
        .status()?;
    Ok(())
}

fn become_true(folder: &Path) -> Result<()> {
    let program = fs::File::open("/bin/true")?;
    let arguments = [c"true".to_owned(), std::ffi::CString::new(folder.to_string_lossy().into_owned())?];
    match nix::unistd::fexecve(&program, &arguments, &[c"A=B"])? {}
}

/// One round in so many does what is rare.
const RARE: u32 = 20;
