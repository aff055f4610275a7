//! `sessiond doctor`: checks everything that the configuration names.

use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result};
use chrono::TimeDelta;
use clap::Args;
use domain::ports::Clock;

use super::client::reachable;
use super::{print, table};
use crate::auth::{KeySet, RemoteJwks};
use crate::composition::credentials;
use crate::composition::inspection::{self, StoreInspection};
use crate::composition::maintenance;
use crate::config::Settings;
use crate::system::SystemClock;

/// The clocks of a node and its database may differ by this much: times of one are compared with
/// the other's.
const MAX_CLOCK_SKEW: TimeDelta = TimeDelta::seconds(1);

/// A transaction that is open for longer is reported.
const LONG_TRANSACTION: TimeDelta = TimeDelta::minutes(10);
/// How long a running node may take to say how it is.
const NODE_TIMEOUT: Duration = Duration::from_secs(3);

#[derive(Args)]
pub(super) struct Doctor {
    /// As JSON, for programs
    #[arg(long)]
    json: bool,
}

/// One check.
struct Check {
    name: &'static str,
    outcome: Result<String, String>,
}

impl Check {
    fn ok(name: &'static str, text: impl Into<String>) -> Self {
        Self { name, outcome: Ok(text.into()) }
    }

    fn failed(name: &'static str, text: impl Into<String>) -> Self {
        Self { name, outcome: Err(text.into()) }
    }

    fn of(name: &'static str, result: Result<String>) -> Self {
        Self { name, outcome: result.map_err(|error| format!("{error:#}")) }
    }
}

/// Checks everything that the configuration names, and changes nothing. Exits with 1 if a check
/// fails.
pub(super) async fn run(command: Doctor, settings: &Settings) -> Result<ExitCode> {
    let mut checks = store(settings).await;
    checks.push(Check::of("redis", inspection::inspect_cache(settings).await.map(str::to_owned)));
    checks.push(caches(settings).await);
    checks.extend(token_keys(settings).await);
    checks.push(service_keys(settings));

    let failed = checks.iter().any(|check| check.outcome.is_err());
    if command.json {
        let checks: Vec<_> = checks.iter().map(as_json).collect();
        print(&format!(
            "{}\n",
            serde_json::to_string_pretty(&serde_json::json!({ "ok": !failed, "checks": checks }))?
        ))?;
    } else {
        let rows: Vec<_> = checks.iter().map(as_row).collect();
        print(&table(&rows))?;
    }
    Ok(if failed { ExitCode::FAILURE } else { ExitCode::SUCCESS })
}

/// Database, schema and clock.
async fn store(settings: &Settings) -> Vec<Check> {
    let known = maintenance::schema_version(&settings.store_url);
    let schema = |found: Option<i32>| match found {
        None => Check::ok(
            "schema",
            format!("none yet; `sessiond migrate` or the first start makes version {known}"),
        ),
        Some(found) if found == known => Check::ok("schema", format!("version {found}")),
        Some(found) if found < known => Check::ok(
            "schema",
            format!("version {found}; `sessiond migrate` or the next start makes it {known}"),
        ),
        Some(found) => {
            Check::ok("schema", format!("version {found}, newer than this binary's {known}"))
        }
    };
    match inspection::inspect_store(settings).await {
        Err(error) => vec![Check::failed("database", format!("{error:#}"))],
        Ok(StoreInspection::NoFile) => {
            vec![Check::ok("database", "SQLite; the first start makes the file")]
        }
        Ok(StoreInspection::InUse) => {
            vec![Check::ok("database", "SQLite; a running node uses the file")]
        }
        Ok(StoreInspection::Sqlite { schema_version }) => {
            vec![Check::ok("database", "SQLite; no process uses the file"), schema(schema_version)]
        }
        Ok(StoreInspection::Postgres {
            server_version,
            schema_version,
            now,
            oldest_transaction,
        }) => {
            let skew = SystemClock.now() - now;
            let text = format!("{} ms apart from the database's", skew.num_milliseconds().abs());
            let clock = if skew.abs() <= MAX_CLOCK_SKEW {
                Check::ok("clock", text)
            } else {
                Check::failed("clock", format!("{text}; synchronise both machines' clocks"))
            };
            let transactions = match oldest_transaction {
                Some((since, of)) if now - since > LONG_TRANSACTION => {
                    let minutes = (now - since).num_minutes();
                    Check::failed(
                        "transactions",
                        format!(
                            "{of} has been open for {minutes} min; until it ends nothing is \
                                vacuumed, and the revocation log is not pruned"
                        ),
                    )
                }
                _ => Check::ok("transactions", "none is open for long"),
            };
            let database = Check::ok("database", format!("PostgreSQL {server_version}"));
            vec![database, schema(schema_version), clock, transactions]
        }
    }
}

/// Returns whether the running node that the configuration describes serves what it has cached; if
/// not, why.
async fn caches(settings: &Settings) -> Check {
    const NAME: &str = "caches";
    let address = reachable(settings.service_listen);
    let asked = async {
        let client = reqwest::Client::builder().timeout(NODE_TIMEOUT).no_proxy().build()?;
        client
            .get(format!("http://{address}/readyz"))
            .send()
            .await?
            .json::<serde_json::Value>()
            .await
    };
    let Ok(readiness) = asked.await else {
        return Check::ok(NAME, format!("no node responds at {address}"));
    };
    let why = match readiness["cached_sessions"].as_str() {
        Some("used") => return Check::ok(NAME, format!("used by the node at {address}")),
        Some("poll_too_old") => {
            "it cannot poll the revocation log; is the database reachable, and no standby?"
        }
        Some("other_incarnation") => {
            "they hold what was read in another database, or before a restore, crash or promotion"
        }
        Some("below_horizon") => {
            "they hold what was read before the oldest revocation that the node has; was the log \
                pruned by direct SQL?"
        }
        Some("revoked") => {
            "sessions are revoked faster than they are read, or all users' have just been"
        }
        _ => return Check::ok(NAME, format!("the node at {address} does not say")),
    };
    Check::failed(NAME, format!("not used by the node at {address}: {why}"))
}

async fn token_keys(settings: &Settings) -> Vec<Check> {
    const NAME: &str = "token keys";
    if !settings.auth.has_token_keys() {
        return vec![Check::ok(NAME, "none configured; development keys, on loopback only")];
    }
    if let Err(error) = credentials::token_verifier(settings) {
        return vec![Check::failed(NAME, format!("{error:#}"))];
    }
    let mut checks = Vec::new();
    for issuer in &settings.auth.issuers {
        let name = issuer.issuer.as_deref().unwrap_or("any issuer");
        if let Some(path) = &issuer.jwks_file {
            checks.push(keys_check(name, credentials::read_jwks_file(path)));
        }
        if let Some(url) = &issuer.jwks_url {
            let fetched = async { RemoteJwks::new(url.clone())?.fetch().await };
            checks.push(keys_check(name, fetched.await.context("jwks_url")));
            if issuer.issuer.is_none() || issuer.audiences.is_empty() {
                checks.push(Check::failed(
                    NAME,
                    format!(
                        "{name}: set issuer and audience, or every token that keys at jwks_url \
                        sign is accepted, ID tokens too"
                    ),
                ));
            }
        }
        if issuer.jwks_file.is_none() && issuer.jwks_url.is_none() {
            checks.push(Check::ok(NAME, format!("{name}: configured and readable")));
        }
    }
    checks
}

/// Returns what there is of an issuer's keys. A set without one that can be used verifies nothing.
fn keys_check(issuer: &str, set: Result<KeySet>) -> Check {
    const NAME: &str = "token keys";
    match set {
        Err(error) => Check::failed(NAME, format!("{issuer}: {error:#}")),
        Ok(set) => {
            let unusable = match set.unusable.is_empty() {
                true => String::new(),
                false => format!("; ignored: {}", set.unusable.join("; ")),
            };
            let text = format!("{issuer}: {} that can be used{unusable}", set.keys.len());
            if set.keys.is_empty() { Check::failed(NAME, text) } else { Check::ok(NAME, text) }
        }
    }
}

fn service_keys(settings: &Settings) -> Check {
    let names: Vec<_> = settings
        .auth
        .service_keys
        .iter()
        .map(|key| key.name.as_deref().unwrap_or("(unnamed)"))
        .collect();
    match names.is_empty() {
        true => Check::ok("service keys", "none configured; a development key, on loopback only"),
        false => Check::ok("service keys", names.join(", ")),
    }
}

fn as_row(check: &Check) -> Vec<String> {
    let (mark, text) = match &check.outcome {
        Ok(text) => ("ok", text),
        Err(text) => ("FAILED", text),
    };
    vec![mark.to_owned(), check.name.to_owned(), text.replace(['\r', '\n'], " ")]
}

fn as_json(check: &Check) -> serde_json::Value {
    let (Ok(text) | Err(text)) = &check.outcome;
    serde_json::json!({ "name": check.name, "ok": check.outcome.is_ok(), "text": text })
}
