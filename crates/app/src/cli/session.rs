//! `sessiond session`: sessions of a running node.

use std::net::IpAddr;
use std::num::NonZeroU32;

use anyhow::{Context, Result};
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
        /// When it expires, such as 2030-01-31T12:00:00Z; the configured lifetime is the latest
        #[arg(long, value_name = "TIME")]
        expires_at: Option<DateTime<Utc>>,
        /// Live sessions that the user may have, this one included [default: sessions.max_per_user]
        #[arg(long, value_name = "NUMBER")]
        max_sessions: Option<NonZeroU32>,
        /// What to keep with it: a JSON object
        #[arg(long, value_name = "JSON")]
        metadata: Option<String>,
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
    /// List a user's sessions, newest first
    List {
        /// Whose
        #[arg(long, value_name = "UUID")]
        user: UserId,
        /// Only those that are live
        #[arg(long)]
        active: bool,
        /// At most so many
        #[arg(long, value_name = "NUMBER", default_value_t = 50)]
        #[arg(value_parser = clap::value_parser!(u32).range(1..=200))]
        limit: u32,
        #[command(flatten)]
        node: Node,
    },
    /// End a session
    Revoke {
        /// The session's id
        #[arg(value_name = "UUID")]
        id: SessionId,
        /// Why
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
        #[command(flatten)]
        node: Node,
    },
    /// Change the name or the metadata of a session
    Edit {
        /// The session's id
        #[arg(value_name = "UUID")]
        id: SessionId,
        /// The name; empty, to take it away
        #[arg(long, value_name = "TEXT")]
        name: Option<String>,
        /// The metadata, as a whole: a JSON object, or null to take it away
        #[arg(long, value_name = "JSON")]
        metadata: Option<String>,
        #[command(flatten)]
        node: Node,
    },
    /// Revoke all of a user's sessions, or every user's
    RevokeAll {
        /// Revoke this user's sessions [default: every user's]
        #[arg(long, value_name = "UUID", required_unless_present = "yes")]
        user: Option<UserId>,
        /// Confirm that every user's sessions are to be revoked
        #[arg(long, conflicts_with = "user")]
        yes: bool,
        /// A session that is spared
        #[arg(long, value_name = "UUID", requires = "user")]
        except: Option<SessionId>,
        /// Why
        #[arg(long, value_name = "TEXT")]
        reason: Option<String>,
        #[command(flatten)]
        node: Node,
    },
}

#[derive(Args)]
pub(super) struct Node {
    /// Service listener of the node [default: the configured one]
    #[arg(long, value_name = "URL")]
    pub(super) url: Option<String>,
    /// As JSON, for programs
    #[arg(long)]
    pub(super) json: bool,
}

pub(super) async fn run(command: SessionCommand, settings: &Settings) -> Result<()> {
    match command {
        SessionCommand::Create {
            user,
            ip,
            user_agent,
            expires_at,
            max_sessions,
            metadata,
            node,
        } => {
            let mut body = fields([
                ("user_id", Some(user.to_string())),
                ("ip_address", ip.map(|ip| ip.to_string())),
                ("user_agent", user_agent),
                ("expires_at", expires_at.map(|at| at.to_rfc3339())),
            ]);
            if let Some(max_sessions) = max_sessions {
                body["max_sessions"] = max_sessions.get().into();
            }
            if let Some(metadata) = metadata {
                body["metadata"] = json(&metadata)?;
            }
            let client = Client::new(node.url, settings)?;
            let session = client.call(Method::POST, "/service/v1/sessions", Some(&body)).await?;
            show(&session, node.json)
        }
        SessionCommand::Get { id, user, node } => {
            let query = user.map(|user| format!("?user_id={user}")).unwrap_or_default();
            let client = Client::new(node.url, settings)?;
            let session = client
                .call(Method::GET, &format!("/service/v1/sessions/{id}{query}"), None)
                .await?;
            show(&session, node.json)
        }
        SessionCommand::List { user, active, limit, node } => {
            let path =
                format!("/service/v1/users/{user}/sessions?active_only={active}&limit={limit}");
            let page = Client::new(node.url, settings)?.call(Method::GET, &path, None).await?;
            show_list(&page, node.json)
        }
        SessionCommand::Revoke { id, reason, node } => {
            let body = fields([("reason", reason)]);
            let path = format!("/service/v1/sessions/{id}");
            Client::new(node.url, settings)?.call(Method::DELETE, &path, Some(&body)).await?;
            if node.json { print("{}\n") } else { print(&format!("session {id} revoked\n")) }
        }
        SessionCommand::Edit { id, name, metadata, node } => {
            let mut body = fields([]);
            if let Some(name) = name {
                body["name"] = if name.is_empty() { Value::Null } else { name.into() };
            }
            if let Some(metadata) = metadata {
                body["metadata"] = json(&metadata)?;
            }
            let path = format!("/service/v1/sessions/{id}");
            let session =
                Client::new(node.url, settings)?.call(Method::PATCH, &path, Some(&body)).await?;
            show(&session, node.json)
        }
        SessionCommand::RevokeAll { user, yes: _, except, reason, node } => {
            let client = Client::new(node.url, settings)?;
            let response = match user {
                Some(user) => {
                    let body = fields([
                        ("reason", reason),
                        ("except_session_id", except.map(|id| id.to_string())),
                    ]);
                    let path = format!("/service/v1/users/{user}/sessions");
                    client.call_and_wait(Method::DELETE, &path, Some(&body)).await?
                }
                None => {
                    let mut body = fields([("reason", reason)]);
                    body["all"] = true.into();
                    client
                        .call_and_wait(Method::POST, "/service/v1/sessions/revoke", Some(&body))
                        .await?
                }
            };
            if node.json {
                return print(&format!("{}\n", serde_json::to_string_pretty(&response)?));
            }
            print(&format!("sessions revoked: {}\n", response["revoked_count"]))
        }
    }
}

/// JSON given as an argument.
fn json(text: &str) -> Result<Value> {
    serde_json::from_str(text).context("--metadata is no JSON")
}

/// Returns a JSON object of those fields that have a value.
fn fields<const N: usize>(fields: [(&str, Option<String>); N]) -> Value {
    fields
        .into_iter()
        .filter_map(|(name, value)| Some((name.to_owned(), Value::from(value?))))
        .collect::<Map<_, _>>()
        .into()
}

/// Returns one line a session.
fn show_list(page: &Value, json: bool) -> Result<()> {
    if json {
        return print(&format!("{}\n", serde_json::to_string_pretty(page)?));
    }
    const COLUMNS: [&str; 6] =
        ["id", "status", "created_at", "last_activity_at", "ip_address", "device_info"];
    let mut rows = vec![COLUMNS.map(str::to_owned).to_vec()];
    for session in page["sessions"].as_array().into_iter().flatten() {
        rows.push(
            COLUMNS.map(|column| session[column].as_str().unwrap_or("-").to_owned()).to_vec(),
        );
    }
    let more = if page["next_cursor"].is_null() { "" } else { "; there are more than are shown" };
    print(&format!(
        "{}{} in all, {} live{more}\n",
        table(&rows),
        page["total_count"],
        page["active_count"]
    ))
}

/// Returns the most used fields first, then those that are present.
fn show(session: &Value, json: bool) -> Result<()> {
    if json {
        return print(&format!("{}\n", serde_json::to_string_pretty(session)?));
    }
    const FIELDS: [&str; 14] = [
        "id",
        "user_id",
        "status",
        "name",
        "device_info",
        "user_agent",
        "ip_address",
        "last_ip_address",
        "location",
        "created_at",
        "last_activity_at",
        "expires_at",
        "revoked_at",
        "revoked_reason",
    ];
    let rows = FIELDS
        .iter()
        .filter_map(|field| Some(vec![(*field).to_owned(), session[field].as_str()?.to_owned()]));
    let mut rows: Vec<_> = rows.collect();
    if session["metadata"].is_object() {
        rows.push(vec!["metadata".to_owned(), session["metadata"].to_string()]);
    }
    print(&table(&rows))
}
