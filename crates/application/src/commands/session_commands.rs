use std::net::IpAddr;

use chrono::{DateTime, Utc};
use domain::UserId;

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
}
