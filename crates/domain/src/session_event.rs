//! What has happened to a session.

use chrono::{DateTime, Utc};

use crate::ids::{SessionId, UserId};
use crate::session::{Actor, Revocation};

/// Something that happened to a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionEvent {
    /// Its place in the feed: later events have higher ones, and none is used twice.
    pub position: u64,
    /// What happened.
    pub kind: SessionEventKind,
    /// When.
    pub at: DateTime<Utc>,
    /// To which session.
    pub session_id: SessionId,
    /// Whose it is.
    pub user_id: UserId,
    /// Why, where there is a reason.
    pub reason: Option<String>,
    /// By whom, where that is known.
    pub actor: Option<Actor>,
}

/// What can happen to a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SessionEventKind {
    /// A user has signed in.
    Created,
    /// It was revoked.
    Revoked,
    /// It was evicted by the limit.
    Evicted,
    /// It has expired, by its lifetime or by its idle time-out. Written when it is marked; `at` is
    /// when it was.
    Expired,
    /// Activity has extended its lifetime.
    Renewed,
    /// A token that was replaced has been used after its grace. Once per rotation.
    TokenReused,
}

/// The reason of [`SessionEventKind::Expired`] where the lifetime had passed.
pub const EXPIRED_BY_LIFETIME: &str = "lifetime";

/// The reason of [`SessionEventKind::Expired`] where it was idle for too long.
pub const EXPIRED_BY_IDLING: &str = "idle_timeout";

/// The reason of [`SessionEventKind::Evicted`], and of the revocation that goes with it.
pub const EVICTED_BY_LIMIT: &str = "session_limit";

/// The reason of the revocation that follows [`SessionEventKind::TokenReused`], where the policy is
/// to revoke.
pub const REVOKED_BY_TOKEN_REUSE: &str = "token_reused";

impl Revocation {
    /// Returns the revocation of a session that the session limit evicts at `now`.
    pub fn eviction(now: DateTime<Utc>) -> Self {
        Self { at: now, reason: Some(EVICTED_BY_LIMIT.to_owned()), actor: Some(Actor::System) }
    }
}

impl SessionEventKind {
    /// Every kind.
    pub const ALL: [Self; 6] = [
        Self::Created,
        Self::Revoked,
        Self::Evicted,
        Self::Expired,
        Self::Renewed,
        Self::TokenReused,
    ];

    /// Returns the word users see in the field `type`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Revoked => "revoked",
            Self::Evicted => "evicted",
            Self::Expired => "expired",
            Self::Renewed => "renewed",
            Self::TokenReused => "token_reused",
        }
    }

    /// Returns the kind that goes by this word.
    pub fn from_word(word: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == word)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_kind_is_read_as_it_is_written() {
        for kind in SessionEventKind::ALL {
            assert_eq!(SessionEventKind::from_word(kind.as_str()), Some(kind));
        }
        assert_eq!(SessionEventKind::from_word("exploded"), None);
    }
}
