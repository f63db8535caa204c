//! Finds BTF in what a kernel comes in: a Debian package, a compressed image, an ELF file, or BTF itself. Not BTF's
//! own layout. It may run dpkg-deb, tar and the decompressors.

use anyhow::{Context, Result, bail};
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

/// What was found.
pub(super) struct Image {
    /// The BTF.
    pub(super) btf: Vec<u8>,
    /// `uname -r` of the kernel, if the image says it.
    pub(super) release: Option<String>,
}

/// How compressed parts of a kernel image begin, and what unpacks them. All go on after the end of the part without
/// minding what follows, but say so in their exit code.
const PACKED: [(&[u8], &[&str]); 4] = [
    (b"\xfd7zXZ\0", &["xz", "-dcq", "--single-stream"]),
    (b"\x28\xb5\x2f\xfd", &["zstd", "-dcq"]),
    (b"\x1f\x8b\x08", &["gzip", "-dcq"]),
    (b"\x02\x21\x4c\x18", &["lz4", "-dcq"]),
];

const ELF: &[u8] = b"\x7fELF";

/// A section header of ELF64, and the offsets of what is read in it.
const SECTION_BYTES: usize = 64;
const SECTION_OFFSET: usize = 24;
const SECTION_SIZE: usize = 32;

/// Reads a file.
///
/// # Errors
/// When no BTF is found in it.
pub(super) fn read(path: &Path) -> Result<Image> {
    let bytes = if path.extension().is_some_and(|extension| extension == "deb") {
        kernel_of_package(path)?
    } else {
        fs::read(path)?
    };
    if bytes.starts_with(&0xeb9f_u16.to_ne_bytes()) {
        return Ok(Image { btf: bytes, release: None });
    }
    let elf = if bytes.starts_with(ELF) { bytes } else { unpack(&bytes)? };
    let btf = section(&elf, b".BTF").context("the kernel has no section .BTF")?.to_vec();
    Ok(Image { btf, release: release(&elf) })
}

/// The kernel image in a Debian package, wherever it lies.
fn kernel_of_package(path: &Path) -> Result<Vec<u8>> {
    let mut package = Command::new("dpkg-deb")
        .arg("--fsys-tarfile")
        .arg(path)
        .stdout(Stdio::piped())
        .spawn()
        .context("running dpkg-deb")?;
    let archive = package.stdout.take().context("dpkg-deb without an output")?;
    let output = Command::new("tar")
        .args(["-xO", "--wildcards", "*/vmlinu[xz]*"])
        .stdin(archive)
        .stderr(Stdio::null())
        .output()
        .context("running tar")?;
    let status = package.wait().context("waiting for dpkg-deb")?;
    if output.stdout.is_empty() {
        bail!("no vmlinuz in the package (dpkg-deb: {status}, tar: {})", output.status);
    }
    Ok(output.stdout)
}

/// The ELF file in a kernel image that unpacks itself.
fn unpack(image: &[u8]) -> Result<Vec<u8>> {
    for (magic, tool) in PACKED {
        for at in positions(image, magic) {
            let unpacked = run(tool, &image[at..]).with_context(|| format!("running {}", tool[0]))?;
            if unpacked.starts_with(ELF) {
                return Ok(unpacked);
            }
        }
    }
    bail!("neither BTF nor a kernel image")
}

fn positions<'a>(image: &'a [u8], magic: &'a [u8]) -> impl Iterator<Item = usize> + 'a {
    image.windows(magic.len()).enumerate().filter(move |(_, window)| *window == magic).map(|(at, _)| at)
}

fn run(tool: &[&str], input: &[u8]) -> Result<Vec<u8>> {
    let mut child = Command::new(tool[0])
        .args(&tool[1..])
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let mut stdin = child.stdin.take().context("a child without an input")?;
    std::thread::scope(|scope| {
        // The tool may end before it has read everything: that is the bytes behind the compressed part.
        scope.spawn(move || drop(stdin.write_all(input)));
        Ok(child.wait_with_output()?.stdout)
    })
}

/// The bytes of a section of an ELF64 file.
fn section<'a>(elf: &'a [u8], name: &[u8]) -> Option<&'a [u8]> {
    let table = number(elf, 40, 8)?;
    let (count, names) = (number(elf, 60, 2)?, number(elf, 62, 2)?);
    let contents = |index: usize| {
        let header = table + index * SECTION_BYTES;
        let at = number(elf, header + SECTION_OFFSET, 8)?;
        elf.get(at..at.checked_add(number(elf, header + SECTION_SIZE, 8)?)?)
    };
    let names = contents(names)?;
    (0..count).find_map(|index| {
        let found = names.get(number(elf, table + index * SECTION_BYTES, 4)?..)?;
        if found.strip_prefix(name)?.first() == Some(&0) { contents(index) } else { None }
    })
}

/// A little-endian number.
fn number(bytes: &[u8], at: usize, len: usize) -> Option<usize> {
    let bytes = bytes.get(at..at.checked_add(len)?)?;
    Some(bytes.iter().rev().fold(0, |number, byte| number << 8 | usize::from(*byte)))
}

/// The release in the kernel's banner, `Linux version 6.1.0-56-cloud-amd64 (...`.
fn release(elf: &[u8]) -> Option<String> {
    const BANNER: &[u8] = b"Linux version ";
    positions(elf, BANNER).find_map(|at| {
        let rest = &elf[at + BANNER.len()..];
        let end = rest.iter().position(|byte| *byte == b' ')?;
        let release = std::str::from_utf8(&rest[..end]).ok()?;
        release.starts_with(|first: char| first.is_ascii_digit()).then(|| release.to_owned())
    })
}
