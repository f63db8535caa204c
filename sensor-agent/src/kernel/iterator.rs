//! The start-up scan by the kernel: reads the task iterator once, which makes a record of every process
//! that is there. Not the scan of /proc, which has what the iterator cannot show. It may call aya.

use super::load::chain;
use aya::programs::{Iter, Program};
use std::fs::File;
use std::io::{ErrorKind, Read as _};

/// Reads the iterator to its end: the kernel calls the program for every task meanwhile.
///
/// # Errors
/// Why this kernel does not give it. The agent then knows what /proc shows.
pub(super) fn scan(program: &mut Program) -> Result<(), String> {
    let program: &mut Iter = program.try_into().map_err(|error| chain(&error))?;
    let link = program.attach().map_err(|error| chain(&error))?;
    let link = program.take_link(link).map_err(|error| chain(&error))?;
    let mut file = link.into_file().map_err(|error| chain(&error))?;
    read_to_end(&mut file).map_err(|error| error.to_string())
}

/// The program writes no text, so there is nothing to read but the end. `bpf_seq_read()` (kernel/bpf/bpf_iter.c) says
/// `EAGAIN` after a million tasks, to be called again.
fn read_to_end(file: &mut File) -> std::io::Result<()> {
    let mut text = [0; 64];
    loop {
        match file.read(&mut text) {
            Ok(0) => return Ok(()),
            Ok(_) => {}
            Err(error) if matches!(error.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
            Err(error) => return Err(error),
        }
    }
}
