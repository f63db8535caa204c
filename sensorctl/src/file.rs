//! Reading and writing whole files, within a bound. Knows nothing of their content. May call: nothing.

use std::fs::File;
use std::io::{self, Read as _, Write as _};
use std::path::Path;

use anyhow::{Context as _, Result, ensure};

/// Largest file read or written, and largest answer taken from a collector.
pub(crate) const FILE_BYTES_MAX: u64 = 32 << 20;

/// The whole content of a file; `-` is standard input.
pub(crate) fn read_bounded(path: &Path) -> Result<Vec<u8>> {
    let mut content = Vec::new();
    let read = if path == Path::new("-") {
        io::stdin().lock().take(FILE_BYTES_MAX + 1).read_to_end(&mut content)
    } else {
        File::open(path).and_then(|file| file.take(FILE_BYTES_MAX + 1).read_to_end(&mut content))
    };
    read.with_context(|| format!("reading {}", path.display()))?;
    ensure!(content.len() as u64 <= FILE_BYTES_MAX, "{}: more than {FILE_BYTES_MAX} bytes", path.display());
    Ok(content)
}

/// Replaces a file as a whole: a reader sees the old text or the new one.
pub(crate) fn replace(path: &Path, text: &str) -> Result<()> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(format!(".{}.new", std::process::id()));
    let beside = Path::new(&beside);
    let written = File::create(beside)
        .and_then(|mut file| file.write_all(text.as_bytes()).and_then(|()| file.sync_all()))
        .and_then(|()| std::fs::rename(beside, path));
    if written.is_err() {
        // The file beside is ours; that it may not exist is fine.
        let _ = std::fs::remove_file(beside);
    }
    written.with_context(|| format!("writing {}", path.display()))
}
