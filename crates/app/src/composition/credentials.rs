//! The keys that callers are verified with: those that are configured, and development keys.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use adapters_sqlite::DatabaseFile;
use anyhow::{Context, Result, bail};
use secrecy::{ExposeSecret, SecretString};

use crate::auth::{
    DevKeys, Issuer, KeySet, RemoteJwks, Scopes, ServiceKey, ServiceKeys, Subject, TokenRules,
    TokenVerifier, VerificationKey,
};
use crate::config::{
    self, AuthSettings, IssuerSettings, ServiceKeySettings, Settings, StoreUrl, SubjectMapping,
};
use crate::system::SystemClock;

/// The keys that callers are verified with, configured ones and development keys.
pub struct Credentials {
    /// Verifies the JWTs of end users.
    pub tokens: TokenVerifier,
    /// The service keys of backends and operators.
    pub service_keys: ServiceKeys,
    /// `tokens` accepts the development secret.
    pub dev_token_secret: bool,
    /// `service_keys` has the development key.
    pub dev_service_key: bool,
}

/// Returns the configured keys, and development keys in the place of those that are not configured.
///
/// # Errors
/// If a key file cannot be read or made.
pub fn credentials(settings: &Settings) -> Result<Credentials> {
    let auth = &settings.auth;
    let dev_token_secret = !auth.has_token_keys();
    let issuers = match dev_token_secret {
        true => vec![development_issuer(auth, &dev_keys(settings)?.token_secret()?)],
        false => auth.issuers.iter().map(issuer).collect::<Result<_>>()?,
    };
    for issuer in &issuers {
        issuer.keep_keys_fresh();
    }
    let dev_service_key = auth.service_keys.is_empty();
    let service_keys = match dev_service_key {
        true => vec![ServiceKey::of(dev_keys(settings)?.service_key()?.expose_secret())],
        false => auth.service_keys.iter().map(service_key).collect(),
    };
    Ok(Credentials {
        tokens: TokenVerifier::new(issuers, Arc::new(SystemClock)),
        service_keys: ServiceKeys::new(service_keys),
        dev_token_secret,
        dev_service_key,
    })
}

/// Returns a verifier with the configured keys, or with the development secret where there are
/// none. Makes no file, and fetches nothing yet.
///
/// # Errors
/// If a key file cannot be read.
pub(crate) fn token_verifier(settings: &Settings) -> Result<TokenVerifier> {
    let auth = &settings.auth;
    let issuers = if auth.has_token_keys() {
        auth.issuers.iter().map(issuer).collect::<Result<_>>()?
    } else {
        vec![development_issuer(auth, &DevKeys::read(&dev_keys(settings)?.token_secret_path())?)]
    };
    Ok(TokenVerifier::new(issuers, Arc::new(SystemClock)))
}

/// Returns the issuer of development tokens. The rules of `auth.jwt.*`, which may be set without a
/// key, apply to them.
fn development_issuer(auth: &AuthSettings, secret: &SecretString) -> Issuer {
    Issuer::new(rules(&auth.development)).with_secret(secret.expose_secret().as_bytes())
}

fn issuer(settings: &IssuerSettings) -> Result<Issuer> {
    let mut issuer = Issuer::new(rules(settings));
    if let Some(secret) = &settings.hs256_secret {
        issuer = issuer.with_secret(secret.expose_secret().as_bytes());
    }
    if let Some(path) = &settings.public_key_file {
        issuer = issuer
            .with_keys([VerificationKey::from_pem_file(path).context("auth.jwt.public_key_file")?]);
    }
    if let Some(path) = &settings.jwks_file {
        let set = read_jwks_file(path)?;
        if !set.unusable.is_empty() {
            let file = path.display();
            tracing::warn!(%file, unusable = ?set.unusable, "ignored keys of a JWK Set");
        }
        issuer = issuer.with_keys(set.keys);
    }
    if let Some(url) = &settings.jwks_url {
        if settings.issuer.is_none() || settings.audiences.is_empty() {
            tracing::warn!(
                "tokens of any issuer or audience are accepted, ID tokens too, if a key at \
                    jwks_url signs them: \
                 set issuer and audience"
            );
        }
        issuer = issuer.with_remote_keys(RemoteJwks::new(url.clone())?);
    }
    Ok(issuer)
}

/// Reads a JWK Set from a file. A set without a usable key is an error: an operator chose the file.
///
/// # Errors
/// If it cannot be read, or has no key that can be used.
pub(crate) fn read_jwks_file(path: &Path) -> Result<KeySet> {
    let shown = path.display();
    let text =
        std::fs::read(path).with_context(|| format!("auth.jwt.jwks_file: cannot read {shown}"))?;
    let set = KeySet::parse(&text).with_context(|| format!("auth.jwt.jwks_file: {shown}"))?;
    if set.keys.is_empty() {
        bail!(
            "auth.jwt.jwks_file: {shown} has no RSA, EC P-256 or Ed25519 key for signatures ({})",
            set.unusable.join("; ")
        );
    }
    Ok(set)
}

fn rules(settings: &IssuerSettings) -> TokenRules {
    TokenRules {
        issuer: settings.issuer.clone(),
        audiences: settings.audiences.clone(),
        subject: match settings.subject {
            SubjectMapping::Uuid => Subject::Uuid,
            SubjectMapping::Uuid5 => Subject::Uuid5,
        },
        session_claim: settings.session_claim.clone(),
        types: settings.types.clone(),
    }
}

fn service_key(settings: &ServiceKeySettings) -> ServiceKey {
    let config::Scopes { read, write, operate } = settings.scopes;
    ServiceKey {
        name: settings.name.as_deref().map(Into::into),
        sha256: settings.sha256,
        scopes: Scopes { read, write, operate },
    }
}

/// Returns where development keys are: beside the SQLite file, or in the working directory.
///
/// # Errors
/// If `store.url` names no file.
pub fn dev_keys(settings: &Settings) -> Result<DevKeys> {
    let dir = match &settings.store_url {
        StoreUrl::Sqlite(url) => {
            DatabaseFile::path_of(url).context("store.url")?.parent().map(Path::to_owned)
        }
        StoreUrl::Postgres(_) => None,
    };
    let dir = dir.filter(|dir| !dir.as_os_str().is_empty()).unwrap_or_else(|| PathBuf::from("."));
    if !dir.is_dir() {
        bail!("store.url: there is no folder {}; make it first", dir.display());
    }
    Ok(DevKeys::beside(std::path::absolute(&dir).unwrap_or(dir)))
}
