#!/bin/sh
# RUSTC_WRAPPER of `cargo xtask fuzz`: compiles our crates with the coverage that libFuzzer reads, as cargo-fuzz does it
# for every crate. The crates of others and build scripts are compiled as ever, so that a target folder can be shared
# with other builds: ours are split otherwise here (Cargo.toml), and so another name in it. No sanitizer: the
# targets have no unsafe code.
case " $* " in
*" --crate-name sensor_agent "* | *" --crate-name sensor_event "* | *" --crate-name sensor_baseline "* | \
    *" --crate-name sensor_fuzz "* | *" --crate-name decode "* | *" --crate-name btf "*)
    exec "$@" -Cpasses=sancov-module -Cllvm-args=-sanitizer-coverage-level=4 \
        -Cllvm-args=-sanitizer-coverage-inline-8bit-counters -Cllvm-args=-sanitizer-coverage-pc-table \
        -Cllvm-args=-sanitizer-coverage-trace-compares
    ;;
*) exec "$@" ;;
esac
