use domain::{SessionId, UserId};

/// Get one session, as its owner sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
