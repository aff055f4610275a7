//! The binary `sessiond`.

use std::process::ExitCode;

use sessiond::cli;

fn main() -> ExitCode {
    cli::run()
}
