//! System calls as a 32-bit program makes them, behind a safe function. Not for other architectures. It may call libc,
//! and may use unsafe code as `raw` may.

#![expect(unsafe_code, reason = "the calls go through an interrupt and take addresses of 32 bits")]

use nix::libc;
use std::arch::asm;
use std::io;

/// What a call takes: a number, or bytes that lie in memory for it.
pub(crate) enum Argument<'a> {
    Number(u32),
    Bytes(&'a [u8]),
    /// Numbers in memory, which may be bytes in memory in turn.
    Array(&'a [Self]),
}

/// Memory that a 32-bit program could address, given out from its start.
struct Low {
    start: *mut u8,
    used: usize,
}

const LOW_BYTES: usize = 4096;

impl Low {
    fn new() -> Self {
        let (protection, flags) =
            (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_32BIT);
        // SAFETY: a new mapping, which takes nobody's place. It is never unmapped: the actor ends soon.
        let start = unsafe { libc::mmap(std::ptr::null_mut(), LOW_BYTES, protection, flags, -1, 0) };
        assert_ne!(start, libc::MAP_FAILED, "there is low memory");
        Self { start: start.cast(), used: 0 }
    }

    /// Copies bytes, with a NUL behind them, and returns where they are.
    fn put(&mut self, bytes: &[u8]) -> u32 {
        assert!(self.used + bytes.len() < LOW_BYTES, "arguments are short");
        let place = self.start.wrapping_add(self.used);
        // SAFETY: within the mapping, as checked, and nobody else has this part of it.
        unsafe { place.copy_from_nonoverlapping(bytes.as_ptr(), bytes.len()) };
        self.used += (bytes.len() + 1).next_multiple_of(8);
        u32::try_from(place.addr()).expect("the memory is low")
    }

    fn value(&mut self, argument: &Argument<'_>) -> u32 {
        match argument {
            Argument::Number(number) => *number,
            Argument::Bytes(bytes) => self.put(bytes),
            Argument::Array(arguments) => {
                let words: Vec<u8> =
                    arguments.iter().flat_map(|argument| self.value(argument).to_ne_bytes()).collect();
                self.put(&words)
            }
        }
    }
}

/// Makes the call of this number of `arch/x86/entry/syscalls/syscall_32.tbl`, which must not keep what it is given nor
/// write to it.
pub(crate) fn call(number: u32, arguments: &[Argument<'_>]) -> io::Result<u32> {
    let mut low = Low::new();
    let mut values = [0u64; 5];
    for (value, argument) in values.iter_mut().zip(arguments) {
        *value = low.value(argument).into();
    }
    let [first, second, third, fourth, fifth] = values;
    let result: i32;
    // SAFETY: the kernel reads the memory that the arguments point to, which stays; the registers are given back.
    unsafe {
        asm!(
            "xchg {first}, rbx",
            "int 0x80",
            "xchg {first}, rbx",
            first = inout(reg) first => _,
            inlateout("eax") number => result,
            in("ecx") second,
            in("edx") third,
            in("esi") fourth,
            in("edi") fifth,
            out("r8") _,
            out("r9") _,
            out("r10") _,
            out("r11") _,
        );
    }
    if result < 0 { Err(io::Error::from_raw_os_error(-result)) } else { Ok(result.cast_unsigned()) }
}
