//! The binary `sessiond` for tests, which makes the mistakes that the environment variable `FAILPOINTS` names.

use std::process::ExitCode;

use app::cli;

fn main() -> ExitCode {
    let _mistakes = fail::FailScenario::setup();
    cli::run()
}
