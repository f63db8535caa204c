//! Takes the debug information out of the kernel object: BTF, which the kernel and the loader read, is made from it
//! and stays. Shared, by `#[path]`, with [`super::recipe`]'s users. It may call the object crate.

use object::build::elf::{Builder, SectionData};
use object::elf::SHT_STRTAB;

/// The object without its `.debug_*` sections and their relocations. The same bytes give the same bytes.
///
/// # Errors
/// When the bytes are no ELF object.
pub(crate) fn strip(bytes: &[u8]) -> object::build::Result<Vec<u8>> {
    let mut builder = Builder::read(bytes)?;
    for section in &mut builder.sections {
        let name = section.name.as_slice();
        section.delete = name.starts_with(b".debug_") || name.starts_with(b".rel.debug_");
    }
    builder.delete_orphans();
    // LLVM keeps the names of sections and symbols in one table; the builder wants one each.
    let names = builder.sections.add();
    names.name = b".shstrtab"[..].into();
    names.sh_type = SHT_STRTAB;
    names.data = SectionData::SectionString;
    let mut stripped = Vec::new();
    builder.write(&mut stripped)?;
    Ok(stripped)
}
