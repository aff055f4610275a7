//! The command line: one command, one file.

mod cleanup;
mod client;
mod config;
mod demo;
mod doctor;
mod events;
mod greeting;
mod import;
mod migrate;
mod openapi;
mod serve;
mod session;
mod signals;
mod token;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context, Result};
use clap::{Parser, Subcommand};
use indicatif::{ProgressBar, ProgressStyle};

use crate::config::{ConfigErrors, Settings, Values};

/// The place where an application's user sessions live.
///
/// Without a command, `sessiond` serves. With nothing configured it keeps its data in
/// ./sessiond.db, listens on loopback only, and prints what to try first.
#[derive(Parser)]
#[command(name = "sessiond", version, max_term_width = 100)]
struct Cli {
    /// Configuration file [default: sessiond.toml in the working directory, if it is there]
    #[arg(long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,

    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Subcommand)]
enum Command {
    /// Serve until SIGTERM or SIGINT (this is what happens without a command)
    Serve,
    /// Serve made-up users, devices and history until Ctrl-C, and show a page to open
    Demo(demo::DemoCommand),
    /// Bring the database's schema up to date, and exit
    Migrate,
    /// Create, read, list and revoke sessions on a running node
    #[command(subcommand)]
    Session(session::SessionCommand),
    /// Show the event feed: who revoked which session, when and why
    Events(events::Events),
    /// Purge expired and revoked sessions, as running nodes do by themselves
    Cleanup(cleanup::Cleanup),
    /// Import sessions from another system (safe to repeat)
    #[command(subcommand)]
    Import(import::ImportCommand),
    /// Make tokens for trying things out
    #[command(subcommand)]
    Token(token::TokenCommand),
    /// Show the configuration
    #[command(subcommand)]
    Config(config::ConfigCommand),
    /// Print the API description (OpenAPI 3.1)
    Openapi,
    /// Check database, Redis, schema version, keys and clock
    Doctor(doctor::Doctor),
}

/// Runs the command line of this process: 0 if all is well, 1 if it failed, 2 if it was called
/// wrongly, 70 if a node stopped because its background work had failed.
pub fn run() -> ExitCode {
    let cli = Cli::parse();
    let runtime = match tokio::runtime::Builder::new_multi_thread().enable_all().build() {
        Ok(runtime) => runtime,
        Err(error) => return failed(&anyhow::Error::from(error).context("cannot start")),
    };
    let result = runtime.block_on(dispatch(cli));
    // What still runs is abandoned: a thread that hangs must not keep the process.
    runtime.shutdown_background();
    match result {
        Ok(code) => code,
        Err(error) => failed(&error),
    }
}

async fn dispatch(cli: Cli) -> Result<ExitCode> {
    if let Some(Command::Demo(command)) = cli.command {
        return demo::run(command).await;
    }
    let values = Values::load(cli.config.as_deref())?;
    if let Some(Command::Config(command)) = &cli.command {
        config::run(command, &values)?;
        return Ok(ExitCode::SUCCESS);
    }
    if let Some(Command::Openapi) = &cli.command {
        openapi::run()?;
        return Ok(ExitCode::SUCCESS);
    }
    let settings = Settings::from_values(&values)?;
    match cli.command.unwrap_or(Command::Serve) {
        Command::Serve => return serve::run(settings, cli.config, None).await,
        Command::Migrate => migrate::run(&settings).await?,
        Command::Session(command) => session::run(command, &settings).await?,
        Command::Events(command) => events::run(command, &settings).await?,
        Command::Cleanup(command) => cleanup::run(command, &settings).await?,
        Command::Import(command) => import::run(command, &settings).await?,
        Command::Token(command) => return token::run(command, &settings).await,
        Command::Doctor(command) => return doctor::run(command, &settings).await,
        Command::Config(_) | Command::Demo(_) | Command::Openapi => {}
    }
    Ok(ExitCode::SUCCESS)
}

/// Returns one line for each thing that failed, and why.
fn failed(error: &anyhow::Error) -> ExitCode {
    match error.downcast_ref::<ConfigErrors>() {
        Some(errors) => {
            errors.to_string().lines().for_each(|line| eprint_line(&format!("error: {line}")))
        }
        None => eprint_line(&format!("error: {}", format!("{error:#}").replace(['\r', '\n'], " "))),
    }
    ExitCode::FAILURE
}

/// Prints a line to standard error.
fn eprint_line(line: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "{line}");
}

/// Prints for people or programs; a reader that went away (`sessiond ... | head`) is no failure.
fn print(text: &str) -> Result<()> {
    use std::io::Write;
    match std::io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => {
            Err(error).context("cannot write")
        }
        _ => Ok(()),
    }
}

/// Shows on standard error how far long work is; none where standard error is not a
/// terminal.
fn progress(total: Option<u64>) -> ProgressBar {
    let bar = total.map_or_else(ProgressBar::new_spinner, ProgressBar::new);
    let template =
        if total.is_some() { "{bar:30} {pos}/{len} {msg}" } else { "{spinner} {pos} {msg}" };
    if let Ok(style) = ProgressStyle::with_template(template) {
        bar.set_style(style);
    }
    bar
}

/// Lines of two or more columns, each as wide as its widest cell.
fn table(rows: &[Vec<String>]) -> String {
    let columns = rows.iter().map(Vec::len).max().unwrap_or_default();
    let width = |column: usize| {
        rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.chars().count()).max()
    };
    let widths: Vec<_> = (0..columns).map(|column| width(column).unwrap_or_default()).collect();
    let mut text = String::new();
    for row in rows {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            line.push_str(&format!("{cell:width$}  "));
        }
        text.push_str(line.trim_end());
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        use clap::CommandFactory;
        Cli::command().debug_assert();
    }

    #[test]
    fn a_table_is_aligned() {
        let rows =
            [vec!["a".to_owned(), "b".to_owned()], vec!["longer".to_owned(), "x".to_owned()]];
        assert_eq!(table(&rows), "a       b\nlonger  x\n");
    }
}
