//! `sessiond token`: development tokens, and what is wrong with any other.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use clap::Subcommand;
use domain::ports::Clock;
use domain::{SessionId, UserId};
use jsonwebtoken::dangerous::insecure_decode;
use jsonwebtoken::{Algorithm, EncodingKey, Header, encode};
use secrecy::ExposeSecret;
use serde_json::{Map, Value};

use super::print;
use crate::auth::session_token::{self, Malformed, PresentedToken};
use crate::auth::{DevKeys, TokenError, VerifiedToken};
use crate::composition::credentials;
use crate::config::Settings;
use crate::system::SystemClock;

#[derive(Subcommand)]
pub(super) enum TokenCommand {
    /// Print a token that is signed with the development key
    ///
    /// Works only where no keys are configured: with real ones, tokens come from the issuer that
    /// signs users in.
    Mint {
        /// Whose token it is (`sub`)
        #[arg(long, value_name = "UUID")]
        user: UserId,
        /// The session that it speaks for
        #[arg(long, value_name = "UUID")]
        session: SessionId,
        /// How long it is valid
        #[arg(long, value_name = "DURATION", default_value = "1h")]
        #[arg(value_parser = humantime::parse_duration)]
        ttl: Duration,
        /// The development key's file [default: beside the configured database]
        #[arg(long, value_name = "FILE")]
        key_file: Option<PathBuf>,
    },
    /// Say whether a token is accepted, and if not, why
    ///
    /// Reads the token from standard input where it is not named:
    /// `pbpaste | sessiond token inspect`. Uses the configured keys, and asks the issuer for those
    /// that it publishes.
    Inspect {
        /// The token; other users of this machine can see it in the list of processes
        #[arg(value_name = "TOKEN")]
        token: Option<String>,
    },
}

pub(super) async fn run(command: TokenCommand, settings: &Settings) -> Result<ExitCode> {
    match command {
        TokenCommand::Mint { user, session, ttl, key_file } => {
            mint(user, session, ttl, key_file, settings)?;
            Ok(ExitCode::SUCCESS)
        }
        TokenCommand::Inspect { token } => {
            let token = match token {
                Some(token) => token,
                None => std::io::read_to_string(std::io::stdin())
                    .context("cannot read standard input")?,
            };
            inspect(token.trim(), settings).await
        }
    }
}

/// Shows what the token says, and what a node with this configuration thinks of it.
async fn inspect(token: &str, settings: &Settings) -> Result<ExitCode> {
    let token = token.strip_prefix("Bearer ").unwrap_or(token).trim();
    if let Some(parsed) = session_token::parse(token) {
        return inspect_session_token(parsed);
    }
    if let Ok(data) = insecure_decode::<Map<String, Value>>(token) {
        let header = serde_json::to_string_pretty(&data.header)?;
        let claims = serde_json::to_string_pretty(&data.claims)?;
        print(&format!("header {header}\nclaims {claims}\n"))?;
    }
    let verified = credentials::token_verifier(settings)?.verify(token).await;
    match verified {
        Ok(VerifiedToken { user_id, session_id, .. }) => {
            print(&format!(
                "accepted: user {user_id}, session {session_id} (whether the session is live, \
                    only a node knows)\n"
            ))?;
            Ok(ExitCode::SUCCESS)
        }
        Err(TokenError::Refused(refusal)) => {
            print(&format!("refused ({refusal}): {}\n", refusal.explain()))?;
            Ok(ExitCode::FAILURE)
        }
        Err(TokenError::KeysUnavailable) => {
            print("not known: the issuer's keys cannot be fetched\n")?;
            Ok(ExitCode::FAILURE)
        }
    }
}

/// Shows what a session token names. The secret in it is not shown, and only a node can compare it.
fn inspect_session_token(parsed: Result<PresentedToken, Malformed>) -> Result<ExitCode> {
    match parsed {
        Ok(PresentedToken { session_id, user_id, .. }) => {
            print(&format!(
                "a session token: user {user_id}, session {session_id} (whether it is good, only a \
                    node knows: POST /service/v1/sessions/verify)\n"
            ))?;
            Ok(ExitCode::SUCCESS)
        }
        Err(Malformed) => {
            print("refused (malformed): it begins like a session token, and is cut or changed\n")?;
            Ok(ExitCode::FAILURE)
        }
    }
}

fn mint(
    user: UserId,
    session: SessionId,
    ttl: Duration,
    key_file: Option<PathBuf>,
    settings: &Settings,
) -> Result<()> {
    if key_file.is_none() && settings.auth.has_token_keys() {
        bail!(
            "token mint signs with the development key only, and auth.jwt.* configures other keys"
        );
    }
    let is_named = key_file.is_some();
    let path = match key_file {
        Some(path) => path,
        None => credentials::dev_keys(settings)?.token_secret_path(),
    };
    let secret = if is_named {
        DevKeys::read(&path).context("--key-file")?
    } else {
        DevKeys::read(&path)
            .context("no development key: start sessiond once without keys, or name --key-file")?
    };
    let now = SystemClock.now().timestamp();
    let mut claims = serde_json::json!({
        "sub": user.to_string(),
        "iat": now,
        "exp": now.saturating_add_unsigned(ttl.as_secs()),
    });
    let rules = &settings.auth.development;
    claims[&rules.session_claim] = session.to_string().into();
    if let Some(issuer) = &rules.issuer {
        claims["iss"] = issuer.clone().into();
    }
    if let Some(audience) = rules.audiences.first() {
        claims["aud"] = audience.clone().into();
    }
    let kind = rules.types.first().cloned();
    let header = Header { typ: kind, ..Header::new(Algorithm::HS256) };
    let token =
        encode(&header, &claims, &EncodingKey::from_secret(secret.expose_secret().as_bytes()))?;
    print(&format!("{token}\n"))
}
