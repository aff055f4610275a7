//! `sessiond cleanup`: marks and deletes what has expired, and prunes events.

use std::sync::Arc;

use anyhow::Result;
use application::clean_up_until_done;
use application::commands::handlers::CleanedUp;
use clap::Args;
use serde_json::json;

use super::{print, progress};
use crate::composition::maintenance;
use crate::config::Settings;
use crate::system::SystemMonotonicClock;

#[derive(Args)]
pub(super) struct Cleanup {
    /// As JSON, for programs
    #[arg(long)]
    json: bool,
}

/// Works on the store itself. Beside running nodes on PostgreSQL it shares their work; a SQLite
/// file is its node's alone.
pub(super) async fn run(command: Cleanup, settings: &Settings) -> Result<()> {
    let work = maintenance::clean_up(settings).await?;
    let bar = progress(None);
    let progress = |so_far: &CleanedUp| bar.set_position(so_far.expired + so_far.deleted);
    let cleaned =
        clean_up_until_done(&work.handler, progress, Arc::new(SystemMonotonicClock::default()))
            .await;
    bar.finish_and_clear();
    work.close().await;
    let cleaned = cleaned?;
    if command.json {
        let text = json!({
            "expired": cleaned.expired,
            "deleted": cleaned.deleted,
            "events_deleted": cleaned.events
        });
        return print(&format!("{}\n", serde_json::to_string_pretty(&text)?));
    }
    print(&format!(
        "sessions marked expired: {}\nsessions deleted: {}\nevents deleted: {}\n",
        cleaned.expired, cleaned.deleted, cleaned.events
    ))
}
