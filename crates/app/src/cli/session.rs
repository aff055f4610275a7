use std::net::IpAddr;

use anyhow::Result;
use chrono::{DateTime, Utc};
use clap::{Args, Subcommand};
use domain::{SessionId, UserId};
use reqwest::Method;
use serde_json::{Map, Value};

use super::client::Client;
use super::{print, table};
use crate::config::Settings;

#[derive(Subcommand)]
pub(super) enum SessionCommand {
    /// Create a session
    Create {
        /// Who signed in
        #[arg(long, value_name = "UUID")]
        user: UserId,
        /// The client's address
        #[arg(long, value_name = "ADDRESS")]
        ip: Option<IpAddr>,
        /// The client's user agent
        #[arg(long, value_name = "TEXT")]
        user_agent: Option<String>,
        /// When it ends, such as 2030-01-31T12:00:00Z; the configured lifetime is the latest
        #[arg(long, value_name = "TIME")]
        expires_at: Option<DateTime<Utc>>,
        #[command(flatten)]
        node: Node,
    },
    /// Read a session
    Get {
        /// The session's id
        #[arg(value_name = "UUID")]
        id: SessionId,
        /// Read it as this user; without, as an operator
        #[arg(long, value_name = "UUID")]
        user: Option<UserId>,
        #[command(flatten)]
        node: Node,
    },
}

#[derive(Args)]
pub(super) struct Node {
    /// Service listener of the node [default: the configured one]
    #[arg(long, value_name = "URL")]
    url: Option<String>,
    /// As JSON, for programs
    #[arg(long)]
    json: bool,
}

pub(super) async fn run(command: SessionCommand, settings: &Settings) -> Result<()> {
    match command {
        SessionCommand::Create { user, ip, user_agent, expires_at, node } => {
            let mut body = Map::new();
            body.insert("user_id".into(), user.to_string().into());
            let optional = [
                ("ip_address", ip.map(|ip| ip.to_string())),
                ("user_agent", user_agent),
                ("expires_at", expires_at.map(|at| at.to_rfc3339())),
            ];
            body.extend(optional.into_iter().filter_map(|(name, value)| Some((name.to_owned(), value?.into()))));
            let client = Client::new(node.url, settings)?;
            let session = client.call(Method::POST, "/service/v1/sessions", Some(&body.into())).await?;
            show(&session, node.json)
        }
        SessionCommand::Get { id, user, node } => {
            let query = user.map(|user| format!("?user_id={user}")).unwrap_or_default();
            let client = Client::new(node.url, settings)?;
            let session = client.call(Method::GET, &format!("/service/v1/sessions/{id}{query}"), None).await?;
            show(&session, node.json)
        }
    }
}

/// The fields that people look for first, and the rest where there is something to see.
fn show(session: &Value, json: bool) -> Result<()> {
    if json {
        return print(&format!("{}\n", serde_json::to_string_pretty(session)?));
    }
    const FIELDS: [&str; 13] = [
        "id",
        "user_id",
        "status",
        "name",
        "device_info",
        "ip_address",
        "last_ip_address",
        "location",
        "created_at",
        "last_activity_at",
        "expires_at",
        "revoked_at",
        "revoked_reason",
    ];
    let rows = FIELDS.iter().filter_map(|field| Some(vec![(*field).to_owned(), session[field].as_str()?.to_owned()]));
    print(&table(&rows.collect::<Vec<_>>()))
}
