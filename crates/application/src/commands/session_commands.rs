use std::net::IpAddr;
use std::num::NonZeroU32;

use chrono::{DateTime, Utc};
use domain::{Actor, SessionId, UserId};

/// A user has signed in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreateSession {
    /// Who signed in.
    pub user_id: UserId,
    /// The client's address, as the application's backend saw it.
    pub ip_address: Option<IpAddr>,
    /// The client's user agent; cut to [`domain::USER_AGENT_MAX_BYTES`].
    pub user_agent: Option<String>,
    /// An earlier end than the configured lifetime.
    pub expires_at: Option<DateTime<Utc>>,
    /// How many live sessions this user may have, this one included; the configured number, if absent.
    pub max_sessions: Option<NonZeroU32>,
}

/// End one session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RevokeSession {
    /// Which.
    pub session_id: SessionId,
    /// Whose it has to be; anybody's, if absent.
    pub owner: Option<UserId>,
    /// Why; at most [`domain::REASON_MAX_CHARS`].
    pub reason: Option<String>,
    /// Who ends it.
    pub actor: Actor,
}

/// End several sessions, whosever they are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RevokeSessions {
    /// Which. Unknown ones are passed over.
    pub session_ids: Vec<SessionId>,
    /// Why.
    pub reason: Option<String>,
    /// Who ends them.
    pub actor: Actor,
}

/// End all of a user's sessions, but one if it is excepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RevokeAllUserSessions {
    /// Whose.
    pub user_id: UserId,
    /// Spared; usually the one that the user is in.
    pub except: Option<SessionId>,
    /// Why.
    pub reason: Option<String>,
    /// Who ends them.
    pub actor: Actor,
}
