//! Tokens that were verified a while ago.

use std::collections::HashMap;

use aws_lc_rs::digest::{SHA256, digest};
use chrono::{DateTime, Utc};
use quick_cache::sync::Cache;
use serde_json::Value;

use super::token::{Refusal, VerifiedToken};

/// How far the issuer's clock may be ahead or behind, in seconds.
const LEEWAY: f64 = 5.0;
/// Tokens that are cached at most; about 150 bytes each.
const CAPACITY: usize = 65_536;

/// The last second of the year 9999: RFC 3339 has no later one, and neither does a token.
const LATEST: f64 = 253_402_300_799.0;

/// One publication of an issuer's keys.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Publication {
    /// Whose keys they are, as a position among the configured issuers.
    pub(super) issuer: usize,
    /// Which fetch brought them.
    pub(super) number: u64,
}

/// When a token that is signed well is good.
#[derive(Clone, Copy)]
pub(super) struct Validity {
    /// `nbf`, in seconds since 1970.
    not_before: Option<f64>,
    /// `exp`
    expires: f64,
    /// The publication of keys that it was verified with; `None`: a configured key.
    publication: Option<Publication>,
}

impl Validity {
    /// As the claims say.
    pub(super) fn of(
        claims: &HashMap<String, Value>,
        publication: Option<Publication>,
    ) -> Result<Self, Refusal> {
        let time =
            |value: &Value| value.as_f64().filter(|seconds| (0.0..=LATEST).contains(seconds));
        let number = |name: &str| claims.get(name).map(|value| time(value).ok_or(Refusal::Time));
        let expires = number("exp").ok_or(Refusal::NoExpiry)??;
        Ok(Self { not_before: number("nbf").transpose()?, expires, publication })
    }

    /// Returns from when on it is not good.
    pub(super) fn expires_at(&self) -> DateTime<Utc> {
        // At most the year 9999 and some seconds, which is a time.
        DateTime::from_timestamp((self.expires + LEEWAY).ceil() as i64, 0)
            .unwrap_or(DateTime::<Utc>::MAX_UTC)
    }

    /// RFC 7519 section 4.1.4: on or after `exp`, it must not be accepted; section 4.1.5: nor
    /// before `nbf`.
    pub(super) fn check(&self, now: DateTime<Utc>) -> Result<(), Refusal> {
        if now >= self.expires_at() {
            return Err(Refusal::Expired);
        }
        let now = now.timestamp() as f64;
        if self.not_before.is_some_and(|not_before| now < not_before - LEEWAY) {
            return Err(Refusal::NotYetValid);
        }
        Ok(())
    }
}

/// Tokens that were verified, so that the next request with the same one costs a hash instead of a
/// signature. By their SHA-256, so that a copy of the memory holds no token. Good as long as the
/// token is, and as the keys are that verified it.
pub(super) struct VerifiedTokens(Cache<[u8; 32], (VerifiedToken, Validity)>);

impl Default for VerifiedTokens {
    fn default() -> Self {
        Self(Cache::new(CAPACITY))
    }
}

impl VerifiedTokens {
    /// Returns what this token was found to say, if it still does at `now`. `is_current` says
    /// whether a publication of keys is the issuer's present one.
    pub(super) fn recall(
        &self,
        token: &str,
        now: DateTime<Utc>,
        is_current: impl FnOnce(Publication) -> bool,
    ) -> Option<VerifiedToken> {
        let (verified, validity) = self.0.get(&key(token))?;
        let keys_are_good = validity.publication.is_none_or(is_current);
        (keys_are_good && validity.check(now).is_ok()).then_some(verified)
    }

    /// Caches the claims of a token that has passed every check.
    pub(super) fn insert(&self, token: &str, verified: VerifiedToken, validity: Validity) {
        self.0.insert(key(token), (verified, validity));
    }
}

fn key(token: &str) -> [u8; 32] {
    let mut key = [0; 32];
    key.copy_from_slice(digest(&SHA256, token.as_bytes()).as_ref());
    key
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;
    use serde_json::json;
    use testkit::fixtures;

    use super::*;

    fn verified() -> VerifiedToken {
        let session = fixtures::session();
        let expires_at = validity(None).expires_at();
        VerifiedToken { user_id: session.user_id, session_id: session.id, expires_at }
    }

    /// Good from a minute ago for an hour.
    fn validity(publication: Option<Publication>) -> Validity {
        let now = fixtures::now().timestamp();
        let claims = [("nbf", json!(now - 60)), ("exp", json!(now + 3600))];
        Validity::of(&claims.map(|(name, value)| (name.to_owned(), value)).into(), publication)
            .unwrap()
    }

    #[test]
    fn token_is_cached_until_it_expires() {
        let tokens = VerifiedTokens::default();
        let now = fixtures::now();
        tokens.insert("one", verified(), validity(None));
        let recall = |token: &str, seconds| {
            tokens.recall(token, now + TimeDelta::seconds(seconds), |_| false)
        };
        assert_eq!(recall("one", 0), Some(verified()));
        assert_eq!(recall("one", 3604), Some(verified()));
        assert_eq!(recall("one", 3605), None);
        assert_eq!(recall("one", -66), None, "a clock that was set back");
        assert_eq!(recall("another", 0), None);
    }

    #[test]
    fn token_is_verified_again_after_the_issuers_keys_have_changed() {
        let tokens = VerifiedTokens::default();
        let now = fixtures::now();
        let first = Publication { issuer: 3, number: 1 };
        tokens.insert("one", verified(), validity(Some(first)));
        assert_eq!(tokens.recall("one", now, |publication| publication == first), Some(verified()));
        assert_eq!(tokens.recall("one", now, |_| false), None);
    }

    #[test]
    fn cached_tokens_are_bounded() {
        let tokens = VerifiedTokens::default();
        for n in 0..2 * CAPACITY {
            tokens.insert(&n.to_string(), verified(), validity(None));
        }
        assert!(tokens.0.len() <= CAPACITY);
    }
}
