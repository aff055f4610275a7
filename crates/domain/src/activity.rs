//! Activity of a session that is to be written.

use std::net::IpAddr;

use chrono::{DateTime, Utc};

use crate::ids::SessionId;

/// That a session was used, once or several times in a row.
///
/// The uses in between are not kept: each found the session alive, so what matters is whether the
/// first one did, and when the last one was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Touch {
    /// Which session.
    pub session_id: SessionId,
    /// The first of these uses: the session must have been live then.
    pub first_at: DateTime<Utc>,
    /// The last of them; never before the first.
    pub last_at: DateTime<Utc>,
    /// The client's address at the last use that had one.
    pub ip_address: Option<IpAddr>,
}

impl Touch {
    /// Merges the two, whichever came first.
    pub fn merge(self, other: Self) -> Self {
        let (older, newer) =
            if self.last_at <= other.last_at { (self, other) } else { (other, self) };
        Self {
            session_id: self.session_id,
            first_at: self.first_at.min(other.first_at),
            last_at: newer.last_at,
            ip_address: newer.ip_address.or(older.ip_address),
        }
    }
}
