//! The queries: what each of them is given.

use domain::ports::ListPosition;
use domain::{SessionId, UserId};

/// Get one session, as its owner sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct GetSession {
    /// The session asked for.
    pub session_id: SessionId,
    /// Who asks.
    pub user_id: UserId,
}

/// Get one session, whosever it is: an operator's read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct InspectSession {
    /// The session asked for.
    pub session_id: SessionId,
}

/// List a user's sessions, newest first.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListUserSessions {
    /// Whose.
    pub user_id: UserId,
    /// Only those that are live.
    pub active_only: bool,
    /// At most so many.
    pub limit: u32,
    /// Those after this position, where an earlier page ended.
    pub after: Option<ListPosition>,
}
