//! `sessiond config show`: the configuration in effect, with the origin of each value.

use anyhow::Result;
use clap::Subcommand;

use super::{print, table};
use crate::config::{Settings, Values};

#[derive(Subcommand)]
pub(super) enum ConfigCommand {
    /// Show every key with its effective value and where it comes from; secrets stay hidden
    Show {
        /// As JSON, for programs
        #[arg(long)]
        json: bool,
    },
}

pub(super) fn run(command: &ConfigCommand, values: &Values) -> Result<()> {
    let ConfigCommand::Show { json } = command;
    // What is shown should be what would be used: an unusable value is an error here too.
    Settings::from_values(values)?;
    if *json {
        let entry =
            |value: String, origin: &str| serde_json::json!({ "value": value, "origin": origin });
        let shown: serde_json::Map<_, _> =
            values.shown().map(|(name, value, origin)| (name, entry(value, origin))).collect();
        return print(&format!("{}\n", serde_json::to_string_pretty(&shown)?));
    }
    let rows: Vec<_> = values
        .shown()
        .map(|(name, value, origin)| vec![name, value, format!("({origin})")])
        .collect();
    print(&table(&rows))
}
