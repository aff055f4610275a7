//! `sessiond session`: sessions of a running node.

use std::net::IpAddr;
use std::num::NonZeroU32;
use std::str::FromStr;

use anyhow::{Context, Result};
use chrono::{DateTime, Utc};
use clap::{Args, Subcommand};
use domain::{SessionId, UserId};
use reqwest::Method;
use serde_json::{Map, Value, json};

use super::client::Client;
use super::{print, table};
use crate::config::Settings;

/// The columns of a user's list.
const COLUMNS: [&str; 6] =
    ["id", "status", "created_at", "last_activity_at", "ip_address", "device_info"];
/// The columns of a search over all users.
const FOUND_COLUMNS: [&str; 7] =
    ["id", "user_id", "status", "created_at", "last_activity_at", "ip_address", "device_info"];
/// Sessions on a page at most.
const MAX_PAGE: usize = 200;

#[derive(Subcommand)]
pub(super) enum SessionCommand {
    /// Create a session
    Create(Create),
    /// Read a session
    Get(Get),
    /// List a user's sessions, newest first
    List(List),
    /// Search the sessions of all users, newest first
    Search(Search),
    /// Revoke a session, or those that a search finds
    Revoke(Revoke),
    /// Change the name or the metadata of a session
    Edit(Edit),
    /// Revoke all of a user's sessions, or every user's
    RevokeAll(RevokeAll),
}

pub(super) async fn run(command: SessionCommand, settings: &Settings) -> Result<()> {
    match command {
        SessionCommand::Create(command) => command.run(settings).await,
        SessionCommand::Get(command) => command.run(settings).await,
        SessionCommand::List(command) => command.run(settings).await,
        SessionCommand::Search(command) => command.run(settings).await,
        SessionCommand::Revoke(command) => command.run(settings).await,
        SessionCommand::Edit(command) => command.run(settings).await,
        SessionCommand::RevokeAll(command) => command.run(settings).await,
    }
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

#[derive(Args)]
pub(super) struct Create {
    /// The user who signed in
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
    /// Metadata to keep with it: a JSON object
    #[arg(long, value_name = "JSON")]
    metadata: Option<String>,
    /// Issue a session token, which is shown this once
    #[arg(long)]
    token: bool,
    #[command(flatten)]
    node: Node,
}

impl Create {
    async fn run(self, settings: &Settings) -> Result<()> {
        let mut body = fields([
            ("user_id", Some(self.user.to_string())),
            ("ip_address", self.ip.map(|ip| ip.to_string())),
            ("user_agent", self.user_agent),
            ("expires_at", self.expires_at.map(|at| at.to_rfc3339())),
        ]);
        if let Some(max_sessions) = self.max_sessions {
            body["max_sessions"] = max_sessions.get().into();
        }
        if let Some(metadata) = self.metadata {
            body["metadata"] = parse_json(&metadata)?;
        }
        if self.token {
            body["issue_token"] = true.into();
        }
        let client = Client::new(self.node.url, settings)?;
        let session = client.call(Method::POST, "/service/v1/sessions", Some(&body)).await?;
        show(&session, self.node.json)
    }
}

#[derive(Args)]
pub(super) struct Get {
    /// The session's id
    #[arg(value_name = "UUID")]
    id: SessionId,
    /// Read it as this user; without, as an operator
    #[arg(long, value_name = "UUID")]
    user: Option<UserId>,
    #[command(flatten)]
    node: Node,
}

impl Get {
    async fn run(self, settings: &Settings) -> Result<()> {
        let query = self.user.map(|user| format!("?user_id={user}")).unwrap_or_default();
        let path = format!("/service/v1/sessions/{}{query}", self.id);
        let session = Client::new(self.node.url, settings)?.call(Method::GET, &path, None).await?;
        show(&session, self.node.json)
    }
}

#[derive(Args)]
pub(super) struct List {
    /// Their owner
    #[arg(long, value_name = "UUID")]
    user: UserId,
    /// Only those that are live
    #[arg(long)]
    active: bool,
    /// How many to list
    #[arg(long, value_name = "NUMBER", default_value_t = 50)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=200))]
    limit: u32,
    #[command(flatten)]
    node: Node,
}

impl List {
    async fn run(self, settings: &Settings) -> Result<()> {
        let Self { user, active, limit, node } = self;
        let path = format!("/service/v1/users/{user}/sessions?active_only={active}&limit={limit}");
        let page = Client::new(node.url, settings)?.call(Method::GET, &path, None).await?;
        let [total, live] = ["total_count", "active_count"].map(|count| &page[count]);
        show_list(&page, &COLUMNS, &format!("{total} in all, {live} live"), node.json)
    }
}

/// A condition of a search, as `KEY=VALUE`.
#[derive(Clone)]
pub(super) struct Condition(String, String);

impl FromStr for Condition {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.split_once('=') {
            Some((key, value)) if CONDITIONS.contains(&key) && !value.is_empty() => {
                Ok(Self(key.to_owned(), value.to_owned()))
            }
            _ => Err(format!("must be KEY=VALUE, with one of {}", CONDITIONS.join(", "))),
        }
    }
}

const CONDITIONS: [&str; 7] =
    ["user_id", "status", "ip", "device", "created_after", "created_before", "active_after"];

#[derive(Args)]
pub(super) struct Search {
    /// What they have to fit, all of it: user_id, status (live, revoked, expired, idle), ip, device
    /// (a part of its words, or its type), created_after, created_before, active_after
    #[arg(value_name = "KEY=VALUE")]
    conditions: Vec<Condition>,
    /// How many to list
    #[arg(long, value_name = "NUMBER", default_value_t = 50)]
    #[arg(value_parser = clap::value_parser!(u32).range(1..=10_000))]
    limit: u32,
    #[command(flatten)]
    node: Node,
}

impl Search {
    /// Reads pages until there are enough: one that examined many sessions may have none.
    async fn run(self, settings: &Settings) -> Result<()> {
        let client = Client::new(self.node.url, settings)?;
        let limit = self.limit as usize;
        let mut found = Vec::new();
        let mut cursor: Option<String> = None;
        loop {
            let mut query = form_urlencoded::Serializer::new(String::new());
            query.extend_pairs(self.conditions.iter().map(|Condition(key, value)| (key, value)));
            query.append_pair("limit", &(limit - found.len()).min(MAX_PAGE).to_string());
            if let Some(cursor) = &cursor {
                query.append_pair("cursor", cursor);
            }
            let path = format!("/service/v1/sessions?{}", query.finish());
            let mut page = client.call(Method::GET, &path, None).await?;
            found.extend(page["sessions"].as_array_mut().map(std::mem::take).unwrap_or_default());
            cursor = page["next_cursor"].as_str().map(str::to_owned);
            if found.len() >= limit || cursor.is_none() {
                break;
            }
        }
        let counts = format!("{} found", found.len());
        let page = json!({ "sessions": found, "next_cursor": cursor });
        show_list(&page, &FOUND_COLUMNS, &counts, self.node.json)
    }
}

#[derive(Args)]
pub(super) struct Revoke {
    /// The session's id
    #[arg(value_name = "UUID", required_unless_present = "filter")]
    id: Option<SessionId>,
    /// Revoke those that `session search` finds with these conditions
    #[arg(long, value_name = "KEY=VALUE", conflicts_with = "id", num_args = 1..)]
    filter: Vec<Condition>,
    /// Revoke nothing, and say how many would be
    #[arg(long)]
    dry_run: bool,
    /// The reason, for the list of sessions and the audit log
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    #[command(flatten)]
    node: Node,
}

impl Revoke {
    async fn run(self, settings: &Settings) -> Result<()> {
        match self.id {
            Some(id) if !self.dry_run => self.revoke_one(id, settings).await,
            _ => self.revoke_many(settings).await,
        }
    }

    async fn revoke_many(self, settings: &Settings) -> Result<()> {
        let mut body = fields([("reason", self.reason)]);
        body["dry_run"] = self.dry_run.into();
        match self.id {
            Some(id) => body["ids"] = json!([id.to_string()]),
            None => {
                let conditions = self.filter.into_iter();
                let conditions = conditions.map(|Condition(key, value)| (key, value.into()));
                body["filter"] = Value::Object(conditions.collect());
            }
        }
        let client = Client::new(self.node.url, settings)?;
        let path = "/service/v1/sessions/revoke";
        let response = client.call_and_wait(Method::POST, path, Some(&body)).await?;
        if self.node.json {
            return print(&format!("{}\n", serde_json::to_string_pretty(&response)?));
        }
        let what = if self.dry_run { "that would be revoked" } else { "revoked" };
        print(&format!("sessions {what}: {}\n", response["revoked_count"]))
    }

    async fn revoke_one(self, id: SessionId, settings: &Settings) -> Result<()> {
        let body = fields([("reason", self.reason)]);
        let path = format!("/service/v1/sessions/{id}");
        let client = Client::new(self.node.url, settings)?;
        client.call(Method::DELETE, &path, Some(&body)).await?;
        let text = format!("session {id} revoked\n");
        print(if self.node.json { "{}\n" } else { &text })
    }
}

#[derive(Args)]
pub(super) struct Edit {
    /// The session's id
    #[arg(value_name = "UUID")]
    id: SessionId,
    /// The name; empty removes it
    #[arg(long, value_name = "TEXT")]
    name: Option<String>,
    /// The metadata, as a whole: a JSON object; null removes it
    #[arg(long, value_name = "JSON")]
    metadata: Option<String>,
    #[command(flatten)]
    node: Node,
}

impl Edit {
    async fn run(self, settings: &Settings) -> Result<()> {
        let mut body = fields([]);
        if let Some(name) = self.name {
            body["name"] = if name.is_empty() { Value::Null } else { name.into() };
        }
        if let Some(metadata) = self.metadata {
            body["metadata"] = parse_json(&metadata)?;
        }
        let path = format!("/service/v1/sessions/{}", self.id);
        let client = Client::new(self.node.url, settings)?;
        let session = client.call(Method::PATCH, &path, Some(&body)).await?;
        show(&session, self.node.json)
    }
}

#[derive(Args)]
pub(super) struct RevokeAll {
    /// Revoke this user's sessions; without, every user's, and --yes is needed
    #[arg(long, value_name = "UUID", required_unless_present = "yes")]
    user: Option<UserId>,
    /// Confirm that every user's sessions are to be revoked
    #[arg(long, conflicts_with = "user")]
    yes: bool,
    /// Keep this session
    #[arg(long, value_name = "UUID", requires = "user")]
    except: Option<SessionId>,
    /// The reason, for the list of sessions and the audit log
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
    #[command(flatten)]
    node: Node,
}

impl RevokeAll {
    async fn run(self, settings: &Settings) -> Result<()> {
        let except = self.except.map(|id| id.to_string());
        let mut body = fields([("reason", self.reason), ("except_session_id", except)]);
        let (method, path) = match self.user {
            Some(user) => (Method::DELETE, format!("/service/v1/users/{user}/sessions")),
            None => {
                body["all"] = true.into();
                (Method::POST, "/service/v1/sessions/revoke".to_owned())
            }
        };
        let client = Client::new(self.node.url, settings)?;
        let response = client.call_and_wait(method, &path, Some(&body)).await?;
        if self.node.json {
            return print(&format!("{}\n", serde_json::to_string_pretty(&response)?));
        }
        print(&format!("sessions revoked: {}\n", response["revoked_count"]))
    }
}

/// Parses JSON that was given as an argument.
fn parse_json(text: &str) -> Result<Value> {
    serde_json::from_str(text).context("--metadata is not JSON")
}

/// Returns a JSON object of those fields that have a value.
fn fields<const N: usize>(fields: [(&str, Option<String>); N]) -> Value {
    fields
        .into_iter()
        .filter_map(|(name, value)| Some((name.to_owned(), Value::from(value?))))
        .collect::<Map<_, _>>()
        .into()
}

/// Prints one line per session, and what there is beside those that are shown.
fn show_list(page: &Value, columns: &[&str], counts: &str, json: bool) -> Result<()> {
    if json {
        return print(&format!("{}\n", serde_json::to_string_pretty(page)?));
    }
    let mut rows = vec![columns.iter().map(|column| (*column).to_owned()).collect()];
    for session in page["sessions"].as_array().into_iter().flatten() {
        let cell = |column: &&str| session[*column].as_str().unwrap_or("-").to_owned();
        rows.push(columns.iter().map(cell).collect());
    }
    let more = if page["next_cursor"].is_null() { "" } else { "; there are more than are shown" };
    print(&format!("{}{counts}{more}\n", table(&rows)))
}

/// Prints the fields that the session has, the most used ones first.
fn show(session: &Value, json: bool) -> Result<()> {
    if json {
        return print(&format!("{}\n", serde_json::to_string_pretty(session)?));
    }
    const FIELDS: [&str; 15] = [
        "id",
        "token",
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
