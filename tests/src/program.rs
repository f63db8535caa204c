//! Programs and scripts that a test makes and runs. Not a way to run them. It may start `cp`.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

/// Copies a program so that it can be run at once.
///
/// Another process writes the copy: a file that this one writes is open also in what its other threads start
/// meanwhile, until they become another program, and what is open for writing cannot be run (`ETXTBSY`).
///
/// # Panics
/// When it cannot be copied.
pub fn copy_program(from: impl AsRef<Path>, to: impl AsRef<Path>) {
    let (from, to) = (from.as_ref(), to.as_ref());
    let status = Command::new("cp").arg("--").arg(from).arg(to).status().expect("cp starts");
    assert!(status.success(), "{} cannot be copied to {}: {status}", from.display(), to.display());
}

/// Writes a script that can be run at once, see [`copy_program`].
///
/// # Panics
/// When it cannot be written.
pub fn write_script(path: impl AsRef<Path>, text: impl AsRef<[u8]>) {
    let path = path.as_ref();
    let mut draft = path.as_os_str().to_owned();
    draft.push(".draft");
    fs::write(&draft, text).expect("a script can be written");
    fs::set_permissions(&draft, fs::Permissions::from_mode(0o755)).expect("the script is ours");
    copy_program(&draft, path);
    fs::remove_file(&draft).expect("the draft is ours");
}
