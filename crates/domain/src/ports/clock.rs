//! The wall clock.

use chrono::{DateTime, Utc};

/// The wall clock. A handler reads it once and passes the time down.
pub trait Clock: Send + Sync {
    /// Returns the present time, UTC, cut to microseconds, which is what every store keeps.
    fn now(&self) -> DateTime<Utc>;
}
