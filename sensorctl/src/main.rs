//! The operator's command line over the collector's HTTP API. Holds no policy: what is allowed is the collector's
//! answer. May call: its modules; none of the other crates.

mod cli;
mod client;
mod commands;
mod config;
mod file;
mod line_diff;
mod table;

use std::io::{self, Write as _};
use std::process::ExitCode;

use clap::Parser as _;

use crate::cli::Cli;

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            // Nothing useful is left to do when the terminal is gone.
            let _ = error.print();
            return if error.use_stderr() { ExitCode::FAILURE } else { ExitCode::SUCCESS };
        }
    };
    match commands::run(&cli) {
        Ok(output) => print(&output),
        Err(error) => {
            eprintln!("{error:#}");
            ExitCode::FAILURE
        }
    }
}

/// Writes to standard output; a reader that went away, as `head` does, is no trouble.
fn print(output: &str) -> ExitCode {
    let mut stdout = io::stdout().lock();
    match stdout.write_all(output.as_bytes()).and_then(|()| stdout.flush()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("writing to standard output: {error}");
            ExitCode::FAILURE
        }
    }
}
