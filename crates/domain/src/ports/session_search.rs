//! What operators search sessions by.

use std::net::IpAddr;

use chrono::{DateTime, Utc};

use super::ListPosition;
use crate::ids::UserId;
use crate::session::{Session, SessionStatus};

/// Which sessions an operator searches for. What is `None` does not matter.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SessionFilter {
    /// Their owner.
    pub user_id: Option<UserId>,
    /// Their status at the time of the search.
    pub status: Option<SessionStatus>,
    /// The client's address, at sign-in or when it was last seen.
    pub ip_address: Option<IpAddr>,
    /// A part of the device in words, or the word of its kind; ASCII letters in either case.
    pub device: Option<String>,
    /// Created at this time, or later.
    pub created_after: Option<DateTime<Utc>>,
    /// Created before this time.
    pub created_before: Option<DateTime<Utc>>,
    /// Last active at this time, or later.
    pub active_after: Option<DateTime<Utc>>,
}

impl SessionFilter {
    /// Returns whether a session is one of those at `now`.
    pub fn matches(&self, session: &Session, now: DateTime<Utc>) -> bool {
        let Self { user_id, status, ip_address, device, .. } = self;
        let has_address = |address: &IpAddr| {
            [session.ip_address, session.last_ip_address].contains(&Some(*address))
        };
        user_id.is_none_or(|user_id| session.user_id == user_id)
            && status.is_none_or(|status| session.status(now) == status)
            && ip_address.as_ref().is_none_or(has_address)
            && device.as_ref().is_none_or(|device| is_on_device(session, device))
            && self.created_after.is_none_or(|at| session.created_at >= at)
            && self.created_before.is_none_or(|at| session.created_at < at)
            && self.active_after.is_none_or(|at| session.last_activity_at >= at)
    }
}

fn is_on_device(session: &Session, device: &str) -> bool {
    let device = device.to_ascii_lowercase();
    let info = session.device_info.as_deref().unwrap_or_default().to_ascii_lowercase();
    info.contains(&device) || session.device.as_ref().is_some_and(|it| it.kind.as_str() == device)
}

/// Sessions that are examined for one page, so that a search for what is rare stays quick. It goes
/// on with the next page.
pub const MAX_EXAMINED: u32 = 10_000;

/// A search over all users' sessions, newest first.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionSearch {
    /// Which sessions.
    pub filter: SessionFilter,
    /// The time of the search, at which a session has its status.
    pub now: DateTime<Utc>,
    /// The size of the page.
    pub limit: u32,
    /// Only those after this position; from the newest, if absent.
    pub after: Option<ListPosition>,
    /// How many sessions are examined for this page, at most. Those that an index finds, by user,
    /// address or time of creation, are examined alone.
    pub max_examined: u32,
}

/// What a search has found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SearchPage {
    /// Newest first; at most [`SessionSearch::limit`].
    pub sessions: Vec<Session>,
    /// Where the search has stopped, because it had examined [`SessionSearch::max_examined`].
    /// `None`: it has examined every session there is.
    pub examined_until: Option<ListPosition>,
}
