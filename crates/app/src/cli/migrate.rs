//! `sessiond migrate`: brings the schema of the store up to date.

use anyhow::Result;

use super::print;
use crate::composition::maintenance;
use crate::config::Settings;

/// Brings the schema up to date. Safe beside running nodes, and by several at once.
pub(super) async fn run(settings: &Settings) -> Result<()> {
    let migrated = maintenance::migrate(settings).await?;
    print(&match migrated.from {
        None => format!("schema version {} (the database was empty)\n", migrated.to),
        Some(from) if from == migrated.to => format!("schema version {from} (nothing to do)\n"),
        Some(from) => format!("schema version {} (was {from})\n", migrated.to),
    })
}
