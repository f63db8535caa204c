//! The start-up scan by the kernel: loads the task iterator, and reads it once, which makes a record of every process
//! that is there. Not the scan of /proc, which has what the iterator cannot show. It may call aya.

use super::load::chain;
use super::probes::TASK_ITERATOR;
use super::{HookState, HookStatus};
use aya::programs::{Iter, Program};
use aya::{Btf, Ebpf};
use sensor_event::Kind;
use std::fs::File;
use std::io::{ErrorKind, Read as _};

/// Loads the iterator, and opens it to see that it can be.
///
/// # Errors
/// Why this kernel does not take it.
pub(super) fn load(program: &mut Program, btf: &Btf) -> Result<(), String> {
    let program: &mut Iter = program.try_into().map_err(|error| chain(&error))?;
    program.load("task", btf).map_err(|error| chain(&error))?;
    open(program).map(drop)
}

/// Reads the iterator to its end, if it was loaded: the kernel calls the program for every task meanwhile. What kept it
/// from that becomes the state of its hook: the agent then knows what /proc shows.
pub(super) fn run(ebpf: &mut Ebpf, hooks: &mut [HookStatus]) {
    let Some(hook) = hooks.iter_mut().find(|hook| hook.kind == Kind::PROCESS) else { return };
    if hook.state == HookState::Attached
        && let Err(reason) = read(ebpf)
    {
        hook.state = HookState::Failed(reason);
    }
}

fn read(ebpf: &mut Ebpf) -> Result<(), String> {
    let program = ebpf.program_mut(TASK_ITERATOR).ok_or("not in the object")?;
    let program: &mut Iter = program.try_into().map_err(|error| chain(&error))?;
    let mut file = open(program)?;
    read_to_end(&mut file).map_err(|error| error.to_string())
}

fn open(program: &mut Iter) -> Result<File, String> {
    let link = program.attach().map_err(|error| chain(&error))?;
    let link = program.take_link(link).map_err(|error| chain(&error))?;
    link.into_file().map_err(|error| chain(&error))
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
