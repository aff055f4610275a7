//! Record activity command handler.

use std::net::IpAddr;
use std::sync::Arc;

use domain::Session;
use domain::coherence::ReadVersion;
use domain::ports::{Clock, PortError, SessionKey, SessionRepository};
use thiserror::Error;

use crate::activity::ActivityBuffer;
use crate::coherence::RevocationState;
use crate::commands::RecordActivity;

/// Why activity was not recorded.
#[derive(Debug, Error)]
pub enum RecordActivityError {
    /// There is no such session.
    #[error("session_not_found")]
    SessionNotFound,
    /// It is terminated: revoked, expired or idle.
    #[error("session_ended")]
    SessionEnded,
    /// The store could not be read or written.
    #[error(transparent)]
    Port(#[from] PortError),
}

/// Records activity of sessions: see [`ActivityBuffer`].
pub struct RecordActivityHandler {
    session_repo: Arc<dyn SessionRepository>,
    clock: Arc<dyn Clock>,
    buffer: Arc<ActivityBuffer>,
    state: Arc<RevocationState>,
}

impl RecordActivityHandler {
    /// Creates a handler over its ports.
    pub fn new(
        session_repo: Arc<dyn SessionRepository>,
        clock: Arc<dyn Clock>,
        buffer: Arc<ActivityBuffer>,
        state: Arc<RevocationState>,
    ) -> Self {
        Self { session_repo, clock, buffer, state }
    }

    /// Records that a session is active now. The store is asked about it where the buffer does not
    /// have it, and where what the buffer has is not servable: it may have been revoked since, or
    /// the node cannot know.
    ///
    /// # Errors
    /// See [`RecordActivityError`].
    pub async fn handle(&self, command: RecordActivity) -> Result<(), RecordActivityError> {
        let now = self.clock.now();
        let id = command.session_id;
        let is_servable =
            |user_id, version: &ReadVersion| self.state.is_servable(id, user_id, version);
        if self.buffer.record_if_buffered(id, command.ip_address, now, is_servable) {
            return Ok(());
        }
        let read =
            self.session_repo.find_by_id(id).await?.ok_or(RecordActivityError::SessionNotFound)?;
        let session = self.buffer.with_pending_activity(read.session);
        if !session.is_live(now) {
            // Activity that is not written of a session that has expired is still news for the
            // store; of one that is revoked it is not.
            if session.is_revoked() {
                self.buffer.remove(&[SessionKey { id, user_id: session.user_id }]);
            }
            return Err(RecordActivityError::SessionEnded);
        }
        self.buffer.record(&session, read.version.as_ref(), command.ip_address, now);
        Ok(())
    }

    /// Records activity of a session that the caller has just found live, by a read with this
    /// version.
    pub fn record_live(
        &self,
        session: &Session,
        version: Option<&ReadVersion>,
        ip_address: Option<IpAddr>,
    ) {
        self.buffer.record(session, version, ip_address, self.clock.now());
    }
}

#[cfg(test)]
mod tests {
    use chrono::TimeDelta;
    use testkit::memory::MemorySessionRepository;
    use testkit::{SteppingClock, fixtures};

    use super::*;
    use crate::activity::ActivityWriter;
    use crate::test_support;

    #[tokio::test]
    async fn activity_is_written_once_per_window_and_all_of_it_in_the_end() {
        let repo = Arc::new(MemorySessionRepository::default());
        let clock = fixtures::clock();
        let monotonic_clock = Arc::new(SteppingClock::default());
        let buffer = Arc::new(ActivityBuffer::new(TimeDelta::seconds(60), monotonic_clock.clone()));
        let writer = ActivityWriter::new(repo.clone(), buffer.clone());
        let handler = RecordActivityHandler::new(
            repo.clone(),
            clock.clone(),
            buffer,
            test_support::revocation_state(),
        );
        let session = fixtures::session();
        repo.insert(&session, None).await.unwrap();
        let record = async || {
            let ip_address = "198.51.100.1".parse().ok();
            handler.handle(RecordActivity { session_id: session.id, ip_address }).await
        };
        let stored = async || testkit::find_session(&*repo, session.id).await.unwrap();

        clock.advance(TimeDelta::seconds(10));
        record().await.unwrap();
        writer.write_due().await.unwrap();
        assert_eq!(stored().await.last_activity_at, clock.now());
        assert_eq!(stored().await.last_ip_address, "198.51.100.1".parse().ok());

        let written = clock.now();
        clock.advance(TimeDelta::seconds(10));
        record().await.unwrap();
        writer.write_due().await.unwrap();
        assert_eq!(stored().await.last_activity_at, written);
        writer.write_all().await.unwrap();
        assert_eq!(stored().await.last_activity_at, clock.now());
    }

    #[tokio::test]
    async fn terminated_or_unknown_session_takes_no_activity() {
        let repo = Arc::new(MemorySessionRepository::default());
        let clock = fixtures::clock();
        let monotonic_clock = Arc::new(SteppingClock::default());
        let buffer = Arc::new(ActivityBuffer::new(TimeDelta::seconds(60), monotonic_clock.clone()));
        let writer = ActivityWriter::new(repo.clone(), buffer.clone());
        let handler = RecordActivityHandler::new(
            repo.clone(),
            clock.clone(),
            buffer,
            test_support::revocation_state(),
        );
        let session = Session { idle_timeout: Some(TimeDelta::minutes(10)), ..fixtures::session() };
        repo.insert(&session, None).await.unwrap();
        let record = async |session_id| {
            handler.handle(RecordActivity { session_id, ip_address: None }).await
        };

        let unknown = record(fixtures::session_number(404).id).await;
        assert!(matches!(unknown, Err(RecordActivityError::SessionNotFound)));
        clock.advance(TimeDelta::minutes(10) - TimeDelta::microseconds(1));
        record(session.id).await.unwrap();
        // Not written yet, and all the same it is what counts.
        clock.advance(TimeDelta::minutes(5));
        record(session.id).await.unwrap();
        clock.advance(TimeDelta::minutes(10));
        assert!(matches!(record(session.id).await, Err(RecordActivityError::SessionEnded)));
        // A late report of activity in time counts.
        writer.write_all().await.unwrap();
        let stored = testkit::find_session(&*repo, session.id).await.unwrap();
        assert_eq!(stored.last_activity_at, clock.now() - TimeDelta::minutes(10));
    }
}
