use std::path::PathBuf;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Subcommand;
use domain::ports::Clock;
use domain::{SessionId, UserId};
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use secrecy::ExposeSecret;

use super::print;
use crate::auth::DevKeys;
use crate::config::Settings;
use crate::system::SystemClock;
use crate::wiring;

#[derive(Subcommand)]
pub(super) enum TokenCommand {
    /// Print a token that is signed with the development key
    ///
    /// Works only where no keys are configured: with real ones, tokens come from whoever signs users in.
    Mint {
        /// Whose token it is (`sub`)
        #[arg(long, value_name = "UUID")]
        user: UserId,
        /// The session that it speaks for
        #[arg(long, value_name = "UUID")]
        session: SessionId,
        /// How long it is valid
        #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = humantime::parse_duration)]
        ttl: Duration,
        /// The development key's file [default: beside the configured database]
        #[arg(long, value_name = "FILE")]
        key_file: Option<PathBuf>,
    },
}

pub(super) fn run(command: TokenCommand, settings: &Settings) -> Result<()> {
    let TokenCommand::Mint { user, session, ttl, key_file } = command;
    if key_file.is_none() && settings.auth.has_token_keys() {
        bail!("token mint signs with the development key only, and auth.jwt.* configures other keys");
    }
    let path = match key_file {
        Some(path) => path,
        None => wiring::dev_keys(settings)?.token_secret_path(),
    };
    let secret =
        DevKeys::read(&path).context("no development key: start sessiond once without keys, or name --key-file")?;
    let now = SystemClock.now().timestamp();
    let mut claims = serde_json::json!({
        "sub": user.to_string(),
        "iat": now,
        "exp": now.saturating_add_unsigned(ttl.as_secs()),
    });
    claims[&settings.auth.session_claim] = session.to_string().into();
    if let Some(issuer) = settings.auth.issuers.first() {
        claims["iss"] = issuer.clone().into();
    }
    if let Some(audience) = settings.auth.audiences.first() {
        claims["aud"] = audience.clone().into();
    }
    let kind = settings.auth.types.first().cloned();
    let header = Header { typ: kind, ..Header::new(Algorithm::HS256) };
    let token = encode(&header, &claims, &EncodingKey::from_secret(secret.expose_secret().as_bytes()))?;
    print(&format!("{token}\n"))
}
