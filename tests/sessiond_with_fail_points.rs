//! `sessiond` as tests run it: the same program, with the fail points that `FAILPOINTS` switches
//! on. Without that variable it behaves as the binary that is shipped.

use std::process::ExitCode;

use sessiond::cli;

fn main() -> ExitCode {
    let _injected_bugs = fail::FailScenario::setup();
    cli::run()
}
