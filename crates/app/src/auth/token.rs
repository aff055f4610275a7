//! What an end user's token says once it is verified, and why one is refused.

use std::fmt;

use chrono::{DateTime, Utc};
use domain::{SessionId, UserId};
use thiserror::Error;

/// A token that was verified: whose it is, and which session it speaks for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VerifiedToken {
    /// `sub`, or the id that stands for it.
    pub user_id: UserId,
    /// The session claim.
    pub session_id: SessionId,
    /// From when on it is not accepted: `exp`, and a leeway for the issuer's clock.
    pub expires_at: DateTime<Utc>,
}

/// Why a token was not accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum TokenError {
    /// It is no good. The reason is for operators; callers are given one and the same response.
    #[error("{0}")]
    Refused(Refusal),
    /// It could not be found out: there are no keys to verify it with, for now.
    #[error("the token issuer's keys are unavailable")]
    KeysUnavailable,
}

/// What is wrong with a token, in the order in which it is checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Longer than any head of a request.
    TooLong,
    /// Not three parts of base64url with JSON in them, or of an unknown algorithm.
    Malformed,
    /// `crit` names extensions, and none is understood (RFC 7515 section 4.1.11).
    CriticalHeader,
    /// A claim occurs twice (RFC 7519 section 4).
    DuplicateClaim,
    /// No issuer with this `iss` is configured.
    Issuer,
    /// The `typ` header is not accepted.
    Type,
    /// There is no key for the algorithm.
    Algorithm,
    /// There is no key with this `kid`.
    UnknownKey,
    /// No key verifies the signature.
    Signature,
    /// None of the accepted audiences is in `aud`.
    Audience,
    /// `exp` is missing.
    NoExpiry,
    /// `exp` or `nbf` is no time.
    Time,
    /// `exp` has passed.
    Expired,
    /// `nbf` is still to come.
    NotYetValid,
    /// `sub` is missing or does not name a user.
    Subject,
    /// The session claim is missing or no UUID.
    SessionClaim,
}

impl Refusal {
    /// Every reason, for metrics that are there before the first refusal.
    pub const ALL: [Self; 16] = [
        Self::TooLong,
        Self::Malformed,
        Self::CriticalHeader,
        Self::DuplicateClaim,
        Self::Issuer,
        Self::Type,
        Self::Algorithm,
        Self::UnknownKey,
        Self::Signature,
        Self::Audience,
        Self::NoExpiry,
        Self::Time,
        Self::Expired,
        Self::NotYetValid,
        Self::Subject,
        Self::SessionClaim,
    ];

    /// Returns the word for logs and metrics.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::TooLong => "too_long",
            Self::Malformed => "malformed",
            Self::CriticalHeader => "critical_header",
            Self::DuplicateClaim => "duplicate_claim",
            Self::Issuer => "issuer",
            Self::Type => "type",
            Self::Algorithm => "algorithm",
            Self::UnknownKey => "unknown_key",
            Self::Signature => "signature",
            Self::Audience => "audience",
            Self::NoExpiry => "no_expiry",
            Self::Time => "time",
            Self::Expired => "expired",
            Self::NotYetValid => "not_yet_valid",
            Self::Subject => "subject",
            Self::SessionClaim => "session_claim",
        }
    }

    /// Returns what is wrong and what to check, for `sessiond token inspect`.
    pub fn explain(self) -> &'static str {
        match self {
            Self::TooLong => "it is longer than the head of a request may be (16 KiB)",
            Self::Malformed => {
                "it is no JWT: three parts of base64url, the first two JSON, with a known `alg`"
            }
            Self::CriticalHeader => {
                "its header `crit` names extensions, and sessiond understands none"
            }
            Self::DuplicateClaim => "a claim occurs twice in it",
            Self::Issuer => {
                "its `iss` is not that of a configured issuer, to the letter (a slash at the end \
                    counts)"
            }
            Self::Type => "its header `typ` is not among auth.jwt.types",
            Self::Algorithm => {
                "no key of its issuer is for its algorithm (HS256, RS256, ES256 or EdDSA)"
            }
            Self::UnknownKey => "its issuer has no key with its `kid`",
            Self::Signature => {
                "its signature is not verified by any key of its issuer: another key made it"
            }
            Self::Audience => "its `aud` has none of the accepted audiences",
            Self::NoExpiry => "it has no `exp`",
            Self::Time => "its `exp` or `nbf` is no number of seconds since 1970",
            Self::Expired => "its `exp` has passed",
            Self::NotYetValid => "its `nbf` is still to come",
            Self::Subject => {
                "its `sub` is no hyphenated UUID; auth.jwt.subject = \"uuid5\" accepts any text"
            }
            Self::SessionClaim => {
                "its session claim (auth.jwt.session_claim) is missing or no hyphenated UUID: it \
                    must be the id \
                 that POST /service/v1/sessions returned"
            }
        }
    }
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl From<Refusal> for TokenError {
    fn from(refusal: Refusal) -> Self {
        Self::Refused(refusal)
    }
}
