//! The command `ggen`.

use std::process::ExitCode;

fn main() -> ExitCode {
    ggen_cli::run(std::env::args_os())
}
