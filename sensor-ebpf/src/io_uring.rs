//! Requests of io_uring that make or connect what other hooks see at the exit of a system call: opens, accepts, connects,
//! listens, sockets. Not requests on names, whose text is gone when they are done. It may call the other modules of
//! this crate.
//!
//! A completion carries its request since 5.19, and with it operation, result and file. It is posted by the process
//! that made the ring, or by a worker thread of it.

use crate::emit::{is_agent, lose};
use crate::files;
use crate::globals::{
    IO_ACCEPT_SLOT, IO_CQE_RESULT, IO_OPEN_SLOT, IO_REQUEST_FILE, IO_REQUEST_OPCODE, IO_SOCKET_PROTOCOL,
    IO_SOCKET_SLOT, URING_COMPLETE_CQE, URING_COMPLETE_LEN,
};
use crate::maps::is_left_to_tracepoints;
use crate::read::{Address, argument, has};
use crate::sockets;
use aya_ebpf::macros::btf_tracepoint;
use aya_ebpf::programs::BtfTracePointContext;
use aya_ebpf::{EbpfContext, Global};
use sensor_event::{Field, Kind, LossReason, Part};

/// `enum io_uring_op` of `include/uapi/linux/io_uring.h`.
const OPENAT: u8 = 18;
const OPENAT2: u8 = 28;
const ACCEPT: u8 = 13;
const CONNECT: u8 = 16;
const SOCKET: u8 = 45;
const LISTEN: u8 = 57;

/// Fewer arguments, and none of them is the request: before 5.19.
const ARGUMENTS_WITH_REQUEST: u32 = 6;

/// `(void *ctx, void *req, struct io_uring_cqe *cqe)`, before 6.10 `(ctx, req, user_data, res, cflags, ...)`.
#[btf_tracepoint(function = "io_uring_complete")]
pub fn uring_complete(ctx: BtfTracePointContext) -> i32 {
    let (request, result) = if has(&URING_COMPLETE_CQE) {
        let entry = Address(argument(&ctx, &URING_COMPLETE_CQE));
        (Address(ctx.arg::<u64>(1)), entry.field::<i32>(&IO_CQE_RESULT).unwrap_or(-1))
    } else if URING_COMPLETE_LEN.load() >= ARGUMENTS_WITH_REQUEST && has(&URING_COMPLETE_LEN) {
        (Address(ctx.arg::<u64>(1)), ctx.arg::<i32>(3))
    } else {
        return refused(&ctx);
    };
    // What a request posts beside its own completion has none.
    let Ok(opcode) = request.field::<u8>(&IO_REQUEST_OPCODE) else { return 0 };
    if !matches!(opcode, OPENAT | OPENAT2 | ACCEPT | CONNECT | SOCKET | LISTEN) || result < 0 || is_agent() {
        return 0;
    }
    match opcode {
        OPENAT | OPENAT2 if is_left_to_tracepoints(Part::of(Kind::FILE_OPEN)) => {
            if into_slot(request, &IO_OPEN_SLOT) {
                return lose(Kind::FILE_OPEN, LossReason::Fault);
            }
            files::open_by_ring(result as u32);
        }
        ACCEPT
            if is_left_to_tracepoints(Part::of(Kind::ACCEPT))
                || is_left_to_tracepoints(Part::ACCEPT_UNIX) =>
        {
            if into_slot(request, &IO_ACCEPT_SLOT) {
                return lose(Kind::ACCEPT, LossReason::Fault);
            }
            sockets::accept_by_ring(result as u32);
        }
        SOCKET if is_left_to_tracepoints(Part::of(Kind::SOCKET)) => {
            if into_slot(request, &IO_SOCKET_SLOT) {
                return lose(Kind::SOCKET, LossReason::Fault);
            }
            let protocol: u32 = request.field(&IO_SOCKET_PROTOCOL).unwrap_or_default();
            sockets::socket_by_ring(result as u32, protocol);
        }
        CONNECT | LISTEN => {
            if let Ok(file) = request.follow(&IO_REQUEST_FILE) {
                sockets::connect_or_listen_by_ring(file.0, u32::from(opcode == CONNECT));
            }
        }
        _ => {}
    }
    0
}

/// Reads an argument that there is not: the kernel refuses the program, which could see nothing, and says why.
#[inline(always)]
fn refused(ctx: &BtfTracePointContext) -> i32 {
    let arguments = ctx.as_ptr().cast::<u64>();
    // SAFETY: the verifier refuses to load it. Volatile, or LLVM would leave out a read whose value nobody needs.
    unsafe { arguments.wrapping_add(ARGUMENTS_WITH_REQUEST as usize - 1).read_volatile() };
    0
}

/// Whether a request put its file into the ring's own table, where no descriptor leads to it.
#[inline(always)]
fn into_slot(request: Address, slot: &Global<u32>) -> bool {
    slot.load() != Field::ABSENT && request.field::<u32>(slot) != Ok(0)
}
