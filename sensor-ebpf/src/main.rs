//! Sensor's kernel programs: what a host does, as records in two rings. Not policy: nothing is judged or
//! filtered here beyond what a kind means. It may call aya-ebpf and sensor-event only.
//!
//! Every offset of a kernel structure is a global that the agent resolves from the running kernel's BTF, so one
//! object serves every kernel from 5.10. Every hook goes through [`emit::emit`].
#![no_std]
#![no_main]
#![feature(asm_experimental_arch)]

mod datagram;
mod draft;
mod emit;
mod files;
mod globals;
mod header;
mod io_uring;
mod iterator;
mod lsm;
mod maps;
mod names;
mod namespaces;
mod network;
mod path;
mod privilege;
mod process;
mod read;
mod sockets;
mod syscalls;
mod verdicts;

use core::panic::PanicInfo;

/// The kernel gives the tracing helpers to GPL-compatible programs only.
#[unsafe(no_mangle)]
#[unsafe(link_section = "license")]
pub static LICENSE: [u8; 13] = *b"Dual MIT/GPL\0";

#[panic_handler]
fn panic(_info: &PanicInfo<'_>) -> ! {
    // The verifier refuses a program from which this could be reached: there is no panic at run time.
    loop {}
}
