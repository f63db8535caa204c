//! `cargo xtask`: every developer task, one subcommand each. Not part of the product: nothing here ships. It may
//! run cargo, git, the built binaries, and what `setup` installs.

mod apt;
mod bench;
mod btf;
mod ci;
mod compare;
mod demo;
mod ebpf;
mod evaluate;
mod fuzz;
mod setup;
mod soak;
mod testing;
mod tidy;
mod vm;

use anyhow::Context as _;
use clap::{Parser, Subcommand};
use std::path::PathBuf;
use std::process::ExitCode;

/// Developer tasks of Sensor.
#[derive(Parser)]
#[command(name = "cargo xtask", max_term_width = 100)]
struct Arguments {
    #[command(subcommand)]
    task: Task,
}

#[derive(Subcommand)]
enum Task {
    /// Install what building the kernel programs needs: rust-src and bpf-linker. Changes nothing twice.
    Setup,
    /// Build the kernel programs.
    Ebpf(ebpf::Arguments),
    /// Fuzz what reads bytes that others wrote: records and BTF.
    Fuzz(fuzz::Arguments),
    /// Make the trimmed BTF of kernels that the agent's tests resolve fields in.
    Btf(btf::Arguments),
    /// Generate the protocol code from proto/.
    Codegen {
        /// Fail if the committed code differs instead of writing it.
        #[arg(long)]
        check: bool,
    },
    /// Run the whole product on this host: learn a service, intrude, find, approve. Needs root.
    Demo(demo::Arguments),
    /// Run every test: unit, property, end to end, and on the live kernel where it is allowed.
    Test {
        /// Only test names that contain this.
        filter: Option<String>,
    },
    /// Watch one load with the agent and with Debian's execsnoop and opensnoop: who misses what? Needs root.
    Compare(compare::Arguments),
    /// The load that is compared.
    #[command(hide = true)]
    CompareLoad(compare::load::Arguments),
    /// Mixed load for minutes against a release-built agent: does it leak, does it know every process? Needs root.
    Soak(soak::Arguments),
    /// What the sensor costs a host: paired runs of work with and without it. Needs root.
    Bench(bench::Arguments),
    /// The work that is measured.
    #[command(hide = true)]
    BenchWork(bench::work::Arguments),
    /// How much of a corpus of attacks is found, and how often ordinary days raise findings. Needs root.
    Evaluate(evaluate::Arguments),
    /// Run the kernel tests on other kernels, in virtual machines.
    Vm(vm::Arguments),
    /// What CI runs: setup, format, lints, tidy, freshness of generated files, fuzzing, demo, tests, other kernels.
    Ci,
    /// Check the crate edges, where unsafe code lives, and the file and function limits of the style guide.
    Tidy,
    /// The service the demo learns and breaks into.
    #[command(hide = true)]
    DemoService(demo::service::Arguments),
}

fn main() -> ExitCode {
    let done = match Arguments::parse().task {
        Task::Setup => setup::run(),
        Task::Ebpf(arguments) => ebpf::run(&arguments),
        Task::Btf(arguments) => btf::run(&arguments),
        Task::Fuzz(arguments) => fuzz::run(&arguments),
        Task::Codegen { check } => ci::codegen(check),
        Task::Demo(arguments) => demo::run(&arguments),
        Task::Test { filter } => testing::run(filter.as_deref()),
        Task::Compare(arguments) => compare::run(&arguments),
        Task::CompareLoad(arguments) => compare::load::run(&arguments),
        Task::Soak(arguments) => soak::run(&arguments),
        Task::Bench(arguments) => bench::run(&arguments),
        Task::BenchWork(arguments) => bench::work::run(&arguments),
        Task::Evaluate(arguments) => evaluate::run(&arguments),
        Task::Vm(arguments) => vm::run(&arguments),
        Task::Ci => ci::run(),
        Task::Tidy => tidy::run(),
        Task::DemoService(arguments) => demo::service::run(&arguments),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The chain of reasons, without the backtrace that a person cannot use.
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Where cargo builds, absolute: commands run in other folders than this one.
pub(crate) fn target_folder() -> anyhow::Result<PathBuf> {
    let folder = std::env::var_os("CARGO_TARGET_DIR").filter(|folder| !folder.is_empty());
    let folder = folder.map_or_else(|| workspace_root().join("target"), PathBuf::from);
    std::path::absolute(&folder).with_context(|| format!("CARGO_TARGET_DIR {}", folder.display()))
}

/// A text as one word of a shell, whatever it holds.
pub(crate) fn shell_quoted(text: &str) -> String {
    let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-._/".contains(&byte);
    if !text.is_empty() && text.bytes().all(is_plain) {
        return text.to_owned();
    }
    format!("'{}'", text.replace('\'', "'\\''"))
}

/// The workspace's top folder.
pub(crate) fn workspace_root() -> PathBuf {
    let xtask = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    xtask.parent().expect("xtask lies in the workspace").to_path_buf()
}

#[cfg(test)]
mod tests {
    use super::shell_quoted;

    #[test]
    fn text_is_one_word_of_a_shell() {
        for (text, expected) in [
            ("/tmp/a-1.b_c", "/tmp/a-1.b_c"),
            ("a b", "'a b'"),
            ("it's", "'it'\\''s'"),
            ("", "''"),
            ("$(x)", "'$(x)'"),
        ] {
            assert_eq!(shell_quoted(text), expected);
        }
    }
}
