//! The command `ggen-sim`.

mod commands;

use std::process::ExitCode;

fn main() -> ExitCode {
    commands::main()
}
