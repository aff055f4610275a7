//! The commands: what each of them is given.

use std::net::IpAddr;
use std::num::NonZeroU32;

use chrono::{DateTime, Utc};
use domain::ports::{SessionEdit, SessionFilter};
use domain::{Actor, IdempotencyKey, Metadata, SessionId, TokenHash, UserId};

use crate::coherence::Acknowledge;

/// A user has signed in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CreateSession {
    /// Who signed in.
    pub user_id: UserId,
    /// The client's address, as the application's backend saw it.
    pub ip_address: Option<IpAddr>,
    /// The client's user agent; cut to [`domain::USER_AGENT_MAX_BYTES`].
    pub user_agent: Option<String>,
    /// An earlier expiry than the configured lifetime.
    pub expires_at: Option<DateTime<Utc>>,
    /// How many live sessions this user may have, this one included; the configured number, if
    /// absent.
    pub max_sessions: Option<NonZeroU32>,
    /// What the backend keeps with the session; at most [`domain::METADATA_MAX_BYTES`].
    pub metadata: Option<Metadata>,
    /// The same key again means the same sign-in again: its session is served, and no other made.
    pub idempotency_key: Option<IdempotencyKey>,
    /// Whether to issue a session token.
    pub issue_token: bool,
}

impl CreateSession {
    /// Creates a sign-in of this user, of which nothing else is known.
    pub fn of(user_id: UserId) -> Self {
        Self {
            user_id,
            ip_address: None,
            user_agent: None,
            expires_at: None,
            max_sessions: None,
            metadata: None,
            idempotency_key: None,
            issue_token: false,
        }
    }
}

/// Change what people keep with a session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EditSession {
    /// Which session.
    pub session_id: SessionId,
    /// The user that has to own it; any user, if absent.
    pub owner: Option<UserId>,
    /// What to change: a name of at most [`domain::NAME_MAX_CHARS`], metadata of at most
    /// [`domain::METADATA_MAX_BYTES`].
    pub edit: SessionEdit,
}

/// The end user has made a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordActivity {
    /// Which session.
    pub session_id: SessionId,
    /// The client's address.
    pub ip_address: Option<IpAddr>,
}

/// Replace the token of a session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RotateToken {
    /// Which session.
    pub session_id: SessionId,
    /// The token that the caller has, by its hash: it must still be good. Absent for a backend,
    /// which needs none.
    pub presented: Option<TokenHash>,
}

/// Revoke one session.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RevokeSession {
    /// Which session.
    pub session_id: SessionId,
    /// The user that has to own it; any user, if absent.
    pub owner: Option<UserId>,
    /// Why; at most [`domain::REASON_MAX_CHARS`].
    pub reason: Option<String>,
    /// Who revokes it.
    pub actor: Actor,
    /// When to respond.
    pub acknowledge: Acknowledge,
}

/// Revoke several sessions, of any users.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RevokeSessions {
    /// The ids. Unknown ones are ignored.
    pub session_ids: Vec<SessionId>,
    /// Why.
    pub reason: Option<String>,
    /// Who revokes them.
    pub actor: Actor,
    /// When to respond.
    pub acknowledge: Acknowledge,
}

/// Revoke the sessions that an operator's search finds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RevokeMatchingSessions {
    /// Which sessions.
    pub filter: SessionFilter,
    /// Why.
    pub reason: Option<String>,
    /// Who revokes them.
    pub actor: Actor,
    /// When to respond.
    pub acknowledge: Acknowledge,
    /// Only count them.
    pub dry_run: bool,
}

/// Revoke all of a user's sessions, but one if it is excepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RevokeAllUserSessions {
    /// Their owner.
    pub user_id: UserId,
    /// The session to keep; usually the one that the user is in.
    pub except: Option<SessionId>,
    /// Why.
    pub reason: Option<String>,
    /// Who revokes them.
    pub actor: Actor,
    /// When to respond.
    pub acknowledge: Acknowledge,
}

/// Revoke every user's sessions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RevokeAllSessions {
    /// Why.
    pub reason: Option<String>,
    /// Who revokes them.
    pub actor: Actor,
    /// When to respond.
    pub acknowledge: Acknowledge,
}

/// Purge some expired and revoked sessions, and old events.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct CleanUp {
    /// Sessions and events that one step takes at most.
    pub limit: u32,
}

/// Import some of another system's sessions.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ImportSessions {
    /// Those with greater ids; from the first, if absent.
    pub after: Option<SessionId>,
    /// The size of the batch.
    pub limit: u32,
}
