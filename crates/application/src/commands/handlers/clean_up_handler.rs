//! Clean up command handler.

use std::sync::Arc;

use chrono::TimeDelta;
use domain::ports::{Clock, PortError, SessionRetention};

use crate::commands::CleanUp;

/// A backlog is counted up to here.
const BACKLOG_LIMIT: u32 = 100_000;

/// What one step has purged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct CleanedUp {
    /// Sessions whose end by time was noted, with its event.
    pub expired: u64,
    /// Sessions that were deleted after their retention.
    pub deleted: u64,
    /// Events that were deleted, for the same reason.
    pub events: u64,
}

impl CleanedUp {
    /// Returns whether there was nothing to do.
    pub fn is_nothing(&self) -> bool {
        *self == Self::default()
    }

    /// Both together.
    pub fn and(self, other: Self) -> Self {
        Self {
            expired: self.expired + other.expired,
            deleted: self.deleted + other.deleted,
            events: self.events + other.events,
        }
    }
}

/// Deletes expired and revoked sessions, and old events, after their retention, a step at a time.
pub struct CleanUpHandler {
    retention: Arc<dyn SessionRetention>,
    clock: Arc<dyn Clock>,
    keep: TimeDelta,
}

impl CleanUpHandler {
    /// Creates a handler over its ports, which keeps terminated sessions, and events, for that
    /// long.
    pub fn new(
        retention: Arc<dyn SessionRetention>,
        clock: Arc<dyn Clock>,
        keep: TimeDelta,
    ) -> Self {
        Self { retention, clock, keep }
    }

    /// Runs one step: some sessions marked expired, some deleted, some events deleted. Call it
    /// until it [did nothing](CleanedUp::is_nothing).
    ///
    /// # Errors
    /// [`PortError`] if the store could not be read or written. Trying again is safe.
    pub async fn handle(&self, command: CleanUp) -> Result<CleanedUp, PortError> {
        let now = self.clock.now();
        let by = now - self.keep;
        Ok(CleanedUp {
            expired: self.retention.mark_expired(now, command.limit).await?,
            deleted: self.retention.delete_terminated(by, command.limit).await?,
            events: self.retention.delete_events(by, command.limit).await?,
        })
    }

    /// Returns how many sessions wait to be purged; 100 000, if there are more.
    ///
    /// # Errors
    /// As for [`handle`](Self::handle).
    pub async fn backlog(&self) -> Result<u64, PortError> {
        let now = self.clock.now();
        self.retention.backlog(now, now - self.keep, BACKLOG_LIMIT).await
    }
}

#[cfg(test)]
mod tests {
    use domain::ports::SessionRepository;
    use testkit::fixtures;
    use testkit::memory::{MemoryDatabase, MemorySessionRepository, MemorySessionRetention};

    use super::*;

    #[tokio::test]
    async fn session_is_marked_expired_and_deleted_after_its_retention() {
        let database = MemoryDatabase::default();
        let clock = fixtures::clock();
        let repo = MemorySessionRepository::new(database.clone());
        let keep = TimeDelta::days(30);
        let handler = CleanUpHandler::new(
            Arc::new(MemorySessionRetention::new(database.clone())),
            clock.clone(),
            keep,
        );
        let session = fixtures::session();
        repo.insert(&session, None).await.unwrap();
        let clean_up = async || handler.handle(CleanUp { limit: 10 }).await.unwrap();

        assert!(clean_up().await.is_nothing() && handler.backlog().await.unwrap() == 0);
        clock.advance(session.ends_at() - clock.now());
        assert_eq!(handler.backlog().await.unwrap(), 1);
        assert_eq!(clean_up().await, CleanedUp { expired: 1, ..CleanedUp::default() });
        clock.advance(keep - TimeDelta::microseconds(1));
        assert_eq!(clean_up().await.deleted, 0);
        clock.advance(TimeDelta::microseconds(1));
        assert_eq!(clean_up().await.deleted, 1);
        assert!(clean_up().await.is_nothing() && database.session_count() == 0);
    }
}
