//! `sessiond events`: the event feed of a running node.

use anyhow::Result;
use clap::Args;
use domain::{SessionId, UserId};
use reqwest::Method;

use super::client::Client;
use super::session::Node;
use super::{print, table};
use crate::config::Settings;

#[derive(Args)]
pub(super) struct Events {
    /// Only those of this session
    #[arg(long, value_name = "UUID")]
    session: Option<SessionId>,
    /// Only those of this user's sessions
    #[arg(long, value_name = "UUID")]
    user: Option<UserId>,
    /// Only those after the event with this id
    #[arg(long, value_name = "ID", default_value_t = 0)]
    after: u64,
    /// At most so many
    #[arg(long, value_name = "NUMBER", default_value_t = 100)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=1000))]
    limit: u32,
    #[command(flatten)]
    node: Node,
}

/// Returns one line an event, the oldest first.
pub(super) async fn run(command: Events, settings: &Settings) -> Result<()> {
    let Events { session, user, after, limit, node } = command;
    let mut path = format!("/service/v1/events?after={after}&limit={limit}");
    if let Some(session) = session {
        path.push_str(&format!("&session_id={session}"));
    }
    if let Some(user) = user {
        path.push_str(&format!("&user_id={user}"));
    }
    let page = Client::new(node.url, settings)?.call(Method::GET, &path, None).await?;
    if node.json {
        return print(&format!("{}\n", serde_json::to_string_pretty(&page)?));
    }
    const COLUMNS: [&str; 7] = ["id", "at", "type", "session_id", "user_id", "actor", "reason"];
    let mut rows = vec![COLUMNS.map(str::to_owned).to_vec()];
    for event in page["events"].as_array().into_iter().flatten() {
        let cell = |column: &str| match &event[column] {
            serde_json::Value::String(text) => text.escape_debug().to_string(),
            serde_json::Value::Null => "-".to_owned(),
            other => other.to_string(),
        };
        rows.push(COLUMNS.map(cell).to_vec());
    }
    print(&table(&rows))
}
