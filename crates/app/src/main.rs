//! The binary `sessiond`.

use std::process::ExitCode;

use app::cli;

fn main() -> ExitCode {
    cli::run()
}
