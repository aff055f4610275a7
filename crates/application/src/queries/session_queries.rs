//! The queries: what each of them is given.

use domain::ports::{ListPosition, SessionFilter};
use domain::{SessionId, TokenHash, UserId};

/// Get one session, as its owner sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct GetSession {
    /// The session asked for.
    pub session_id: SessionId,
    /// Who asks.
    pub user_id: UserId,
}

/// Get the session of a session token that was presented.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct VerifyToken {
    /// The session in the token.
    pub session_id: SessionId,
    /// The user in the token.
    pub user_id: UserId,
    /// SHA-256 of the secret in the token.
    pub hash: TokenHash,
}

/// Get one session of any user: an operator's read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InspectSession {
    /// The session asked for.
    pub session_id: SessionId,
}

/// List a user's sessions, newest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListUserSessions {
    /// Their owner.
    pub user_id: UserId,
    /// Only those that are live.
    pub active_only: bool,
    /// The size of the page.
    pub limit: u32,
    /// Those after this position, where an earlier page ended.
    pub after: Option<ListPosition>,
}

/// Search the sessions of all users, newest first: an operator's read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SearchSessions {
    /// Which sessions.
    pub filter: SessionFilter,
    /// The size of the page.
    pub limit: u32,
    /// Those after this position, where an earlier page ended.
    pub after: Option<ListPosition>,
}
