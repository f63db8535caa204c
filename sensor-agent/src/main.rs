//! The agent's executable. Not where anything is decided: it hands over to the command line module.

use std::process::ExitCode;

fn main() -> ExitCode {
    sensor_agent::kernel::share_heap();
    sensor_agent::cli::main()
}
