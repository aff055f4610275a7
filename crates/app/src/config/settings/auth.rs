//! Who may call: token issuers and service keys.

use std::collections::BTreeSet;
use std::path::PathBuf;

use domain::SERVICE_NAME_MAX_BYTES;
use secrecy::{ExposeSecret, SecretString};

use super::Reader;
use crate::config::values::{Section, Values};
use crate::loopback::is_loopback;

const JWKS_URL: &str = "auth.jwt.jwks_url";
const SERVICE_KEYS: &str = "auth.service_keys";
const SERVICE_KEY_HASHES: &str = "auth.service_key_hashes";

/// `auth.*`
pub struct AuthSettings {
    /// `auth.jwt.*` or `[[auth.issuers]]`; none, if no key is configured.
    pub issuers: Vec<IssuerSettings>,
    /// `auth.jwt.*` without a key: the rules for development tokens.
    pub development: IssuerSettings,
    /// `auth.cookie.name`
    pub cookie_name: String,
    /// `auth.service_keys` and `auth.service_key_hashes`
    pub service_keys: Vec<ServiceKeySettings>,
}

/// One token issuer.
#[derive(Clone, Debug)]
pub struct IssuerSettings {
    /// The accepted `iss`; any, if absent.
    pub issuer: Option<String>,
    /// Accepted `aud`; any, if empty.
    pub audiences: Vec<String>,
    /// Secret of HS256 tokens.
    pub hs256_secret: Option<SecretString>,
    /// PEM file with a public key.
    pub public_key_file: Option<PathBuf>,
    /// JWK Set file.
    pub jwks_file: Option<PathBuf>,
    /// Where the issuer publishes its JWK Set.
    pub jwks_url: Option<String>,
    /// How `sub` names a user.
    pub subject: SubjectMapping,
    /// The claim with the session's id.
    pub session_claim: String,
    /// Accepted `typ` headers, in lower case.
    pub types: Vec<String>,
}

/// How `sub` names a user.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SubjectMapping {
    /// It is the user's id.
    Uuid,
    /// Any text, made an id of together with `iss`.
    Uuid5,
}

/// One service key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceKeySettings {
    /// Its name, if it has one.
    pub name: Option<String>,
    /// SHA-256 of the key.
    pub sha256: [u8; 32],
    /// What its holder may do.
    pub scopes: Scopes,
}

/// What the holder of a service key may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scopes {
    /// Read sessions and events.
    pub read: bool,
    /// Create, change and revoke named sessions, or those of a named user.
    pub write: bool,
    /// Act on all users' sessions.
    pub operate: bool,
}

impl AuthSettings {
    /// Returns whether any key for end users' tokens is configured.
    pub fn has_token_keys(&self) -> bool {
        !self.issuers.is_empty()
    }
}

impl IssuerSettings {
    fn has_keys(&self) -> bool {
        self.hs256_secret.is_some()
            || self.public_key_file.is_some()
            || self.jwks_file.is_some()
            || self.jwks_url.is_some()
    }
}

impl Reader<'_> {
    pub(super) fn auth(&self, values: &Values) -> Option<AuthSettings> {
        let development = self.issuer();
        let issuers = self.issuers(values);
        let service_keys = self.service_keys();
        let cookie_name = self.checked(
            "auth.cookie.name",
            "must be 1 to 64 letters, digits, hyphens or underscores",
            |name| {
                let is_fit = |byte: u8| byte.is_ascii_alphanumeric() || b"-_".contains(&byte);
                (1..=64).contains(&name.len()) && name.bytes().all(is_fit)
            },
        );
        let development = development?;
        let mut issuers = issuers?;
        if development.has_keys() {
            if !issuers.is_empty() {
                return self.fail(
                    JWKS_URL,
                    "auth.jwt.* has keys beside tables [[auth.issuers]]; use one of the two",
                );
            }
            issuers.push(development.clone());
        }
        let cookie_name = cookie_name?;
        Some(AuthSettings { issuers, development, cookie_name, service_keys: service_keys? })
    }

    /// Returns the tables `[[auth.issuers]]`.
    fn issuers(&self, values: &Values) -> Option<Vec<IssuerSettings>> {
        let read = |(index, section): (usize, &Section)| {
            let reader = Reader {
                section,
                label: Some(format!("auth.issuers[{index}]")),
                errors: self.errors,
            };
            let issuer = reader.issuer()?;
            if issuer.issuer.is_none() {
                return reader.fail("auth.jwt.issuer", "is missing: tokens find their keys by it");
            }
            if !issuer.has_keys() {
                return reader.fail(
                    "auth.jwt.issuer",
                    "has no key: set jwks_url, jwks_file, public_key_file or hs256_secret",
                );
            }
            Some(issuer)
        };
        // All are read, so that all errors are found.
        let issuers: Vec<_> = values.issuers.iter().enumerate().map(read).collect();
        let issuers: Vec<_> = issuers.into_iter().collect::<Option<_>>()?;
        let mut seen = BTreeSet::new();
        for (index, issuer) in issuers.iter().enumerate() {
            if !seen.insert(&issuer.issuer) {
                return self.fail(
                    &format!("auth.issuers[{index}].issuer"),
                    "is the issuer of another table too",
                );
            }
        }
        Some(issuers)
    }

    /// Returns the keys `auth.jwt.*`, or those of a table.
    fn issuer(&self) -> Option<IssuerSettings> {
        const SECRET: &str = "auth.jwt.hs256_secret";
        const ISSUER_KEY: &str = "auth.jwt.issuer";
        let hs256_secret = self.secret(SECRET);
        let jwks_url = self.jwks_url();
        let subject = self.one_of(
            "auth.jwt.subject",
            &[("uuid", SubjectMapping::Uuid), ("uuid5", SubjectMapping::Uuid5)],
        );
        let session_claim = self.checked(
            "auth.jwt.session_claim",
            "must be the name of a claim, such as sid",
            |claim| !["sub", "exp", "nbf", "iss", "aud"].contains(&claim),
        );
        let types: Vec<_> =
            self.list("auth.jwt.types").iter().map(|name| name.to_lowercase()).collect();
        if types.is_empty() {
            self.fail::<()>("auth.jwt.types", "must name at least one type, such as at+jwt");
        }
        let issuers = self.list(ISSUER_KEY);
        if issuers.len() > 1 {
            const PROBLEM: &str = "must be one issuer: the keys of one must not sign for another; \
                use a table [[auth.issuers]] for each";
            return self.fail(ISSUER_KEY, PROBLEM);
        }
        let hs256_secret = hs256_secret?;
        let subject = subject?;
        // RFC 7518 section 3.2: a key of the hash's size or larger MUST be used.
        if hs256_secret.as_ref().is_some_and(|secret| secret.expose_secret().len() < 32) {
            const PROBLEM: &str = "must have at least 32 bytes (RFC 7518 section 3.2); make one \
                with: openssl rand -hex 32";
            return self.fail(SECRET, PROBLEM);
        }
        if subject == SubjectMapping::Uuid5 && issuers.is_empty() {
            return self.fail(
                "auth.jwt.subject",
                "needs the issuer: users are named by issuer and subject",
            );
        }
        Some(IssuerSettings {
            issuer: issuers.into_iter().next(),
            audiences: self.list("auth.jwt.audience"),
            hs256_secret,
            public_key_file: self.text("auth.jwt.public_key_file").map(PathBuf::from),
            jwks_file: self.text("auth.jwt.jwks_file").map(PathBuf::from),
            jwks_url: jwks_url?,
            subject,
            session_claim: session_claim?,
            types,
        })
    }

    /// Keys fetched over plain HTTP can be forged on the way.
    fn jwks_url(&self) -> Option<Option<String>> {
        let Some(text) = self.text(JWKS_URL) else { return Some(None) };
        let Ok(url) = reqwest::Url::parse(&text) else {
            return self.fail(JWKS_URL, "must be a URL");
        };
        match url.scheme() {
            "https" => Some(Some(text)),
            "http" if is_loopback(&url) => Some(Some(text)),
            _ => self
                .fail(JWKS_URL, "must start with https:// (http:// is accepted on loopback only)"),
        }
    }

    fn service_keys(&self) -> Option<Vec<ServiceKeySettings>> {
        const HASH: &str = "must be a SHA-256 hash of 64 hexadecimal digits; make one with: \
            printf %s \"$KEY\" | sha256sum | cut -d' ' -f1";
        let unnamed = self.list(SERVICE_KEY_HASHES).into_iter().map(|text| {
            let sha256 = sha256(&text).or_else(|| self.fail(SERVICE_KEY_HASHES, HASH))?;
            Some(ServiceKeySettings {
                name: None,
                sha256,
                scopes: Scopes { read: true, write: true, operate: true },
            })
        });
        // By its number: who mixes up the order may have a key where the name should be.
        let named = self.list(SERVICE_KEYS).into_iter().zip(1..).map(|(text, number)| {
            let mut parts = text.splitn(3, ':').map(str::trim);
            let (name, hash, scopes) =
                (parts.next().unwrap_or_default(), parts.next(), parts.next());
            let is_plain = |byte: u8| {
                byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"._-".contains(&byte)
            };
            if !(1..=SERVICE_NAME_MAX_BYTES).contains(&name.len()) || !name.bytes().all(is_plain) {
                let problem = format!(
                    "the name of key {number} must be 1 to {SERVICE_NAME_MAX_BYTES} of the \
                        characters a-z, 0-9, '.', '_', '-'"
                );
                return self.fail(SERVICE_KEYS, problem);
            }
            let sha256 = hash
                .and_then(sha256)
                .or_else(|| self.fail(SERVICE_KEYS, format!("the hash of key {number} {HASH}")))?;
            let Some(scopes) =
                scopes.map_or(Some(Scopes { read: true, write: true, operate: true }), scopes_of)
            else {
                return self.fail(
                    SERVICE_KEYS,
                    format!(
                        "the scopes of key {number} must be read, \
                    write or operate"
                    ),
                );
            };
            Some(ServiceKeySettings { name: Some(name.to_owned()), sha256, scopes })
        });
        let all: Vec<_> = named.chain(unnamed).collect();
        let all: Vec<_> = all.into_iter().collect::<Option<_>>()?;
        let mut names = BTreeSet::new();
        if all.iter().filter_map(|key| key.name.as_ref()).any(|name| !names.insert(name)) {
            return self.fail(SERVICE_KEYS, "two keys have the same name");
        }
        Some(all)
    }
}

/// Returns a hash in hexadecimal digits, or a line as `sha256sum` prints it.
fn sha256(text: &str) -> Option<[u8; 32]> {
    let digits = text.strip_suffix('-').map_or(text, str::trim_end);
    let mut bytes = [0; 32];
    hex::decode_to_slice(digits, &mut bytes).ok()?;
    Some(bytes)
}

fn scopes_of(text: &str) -> Option<Scopes> {
    let mut scopes = Scopes { read: false, write: false, operate: false };
    for scope in text.split('+') {
        match scope.trim() {
            "read" => scopes.read = true,
            "write" => scopes.write = true,
            "operate" => scopes.operate = true,
            _ => return None,
        }
    }
    Some(scopes)
}
