//! `sessiond import`: imports sessions from another system.

use std::path::PathBuf;

use anyhow::{Context, Result, bail};
use application::commands::ImportSessions;
use application::commands::handlers::{ImportSessionsHandler, ImportedSessions};
use clap::Subcommand;
use indicatif::ProgressBar;
use serde_json::json;

use super::{print, progress};
use crate::composition::maintenance;
use crate::config::Settings;

/// Sessions that one step imports.
const BATCH: u32 = 500;

#[derive(Subcommand)]
pub(super) enum ImportCommand {
    /// From the database of the Python original (its table `sessions`), which is only read
    ///
    /// Sessions keep their ids. Those that are here already stay as they are, but what was revoked
    /// there is revoked here too, so that it can be run again until the original stops.
    Dashtam {
        /// The original's database; other users of this machine can see it in the list of processes
        #[arg(long, value_name = "postgres://...", required_unless_present = "from_file")]
        from: Option<String>,
        /// A file that holds the URL of the original's database
        #[arg(long, value_name = "FILE", conflicts_with = "from")]
        from_file: Option<PathBuf>,
        /// As JSON, for programs
        #[arg(long)]
        json: bool,
    },
}

pub(super) async fn run(command: ImportCommand, settings: &Settings) -> Result<()> {
    let ImportCommand::Dashtam { from, from_file, json } = command;
    let from = match (from, from_file) {
        (Some(from), _) => from,
        (None, Some(path)) => {
            let text = std::fs::read_to_string(&path);
            text.with_context(|| format!("--from-file: cannot read {}", path.display()))?
                .trim()
                .to_owned()
        }
        (None, None) => bail!("name the original's database with --from or --from-file"),
    };
    let work = maintenance::import_dashtam(settings, &from).await?;
    let bar = progress(Some(work.handler.count().await?));
    let imported = import(&work.handler, &bar).await;
    bar.finish_and_clear();
    work.close().await;
    let imported = imported?;
    if json {
        let text = json!({
            "read": imported.read,
            "new": imported.new,
            "never_expired": imported.never_expired,
            "expired_on_import": imported.expired_on_import,
        });
        return print(&format!("{}\n", serde_json::to_string_pretty(&text)?));
    }
    let mut text = format!("sessions read: {}\nnew here: {}\n", imported.read, imported.new);
    if imported.never_expired > 0 {
        let lifetime = settings.policies.sessions.lifetime;
        let lifetime = humantime::format_duration(lifetime.to_std().unwrap_or_default());
        text.push_str(&format!(
            "never expired there: {} (here they end {lifetime} after they were created: \
                sessions.lifetime)\n",
            imported.never_expired
        ));
    }
    if imported.expired_on_import > 0 {
        text.push_str(&format!(
            "expired on import, before they began there: {}\n",
            imported.expired_on_import
        ));
    }
    print(&text)
}

async fn import(handler: &ImportSessionsHandler, bar: &ProgressBar) -> Result<ImportedSessions> {
    let mut all = ImportedSessions::default();
    loop {
        let step = handler.handle(ImportSessions { after: all.last, limit: BATCH }).await?;
        all = all.and(step);
        bar.set_position(all.read);
        if step.last.is_none() {
            return Ok(all);
        }
    }
}
