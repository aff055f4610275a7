//! Record activity command handler.

use std::net::IpAddr;
use std::sync::Arc;

use domain::ports::{Clock, EndedSession, PortError, SessionRepository};
use domain::{Session, Touch};
use thiserror::Error;

use crate::commands::RecordActivity;
use crate::{ActivityBuffer, RevocationGuard};

/// Uses that one statement writes.
const BATCH: usize = 2000;

/// Why use was not taken note of.
#[derive(Debug, Error)]
pub enum RecordActivityError {
    /// There is no such session.
    #[error("session_not_found")]
    SessionNotFound,
    /// It is over: revoked, expired or idle.
    #[error("session_ended")]
    SessionEnded,
    /// The store could not be read or written.
    #[error(transparent)]
    Port(#[from] PortError),
}

/// Takes note of the use of sessions, and writes it in batches: see [`ActivityBuffer`].
pub struct RecordActivityHandler {
    session_repo: Arc<dyn SessionRepository>,
    clock: Arc<dyn Clock>,
    buffer: Arc<ActivityBuffer>,
    guard: Arc<RevocationGuard>,
}

impl RecordActivityHandler {
    /// A handler over its ports.
    pub fn new(
        session_repo: Arc<dyn SessionRepository>,
        clock: Arc<dyn Clock>,
        buffer: Arc<ActivityBuffer>,
        guard: Arc<RevocationGuard>,
    ) -> Self {
        Self { session_repo, clock, buffer, guard }
    }

    /// Takes note that a session is used now. The store is asked about it where the buffer does not have it, and where what the buffer has is
    /// not servable: it may have been revoked since, or the node cannot know.
    ///
    /// # Errors
    /// See [`RecordActivityError`].
    pub async fn handle(&self, command: RecordActivity) -> Result<(), RecordActivityError> {
        let now = self.clock.now();
        let id = command.session_id;
        let is_servable = |user_id, stamp| self.guard.lets_through_read(id, user_id, stamp);
        if self.buffer.record_known(id, command.ip_address, now, is_servable) {
            return Ok(());
        }
        let session = self.session_repo.find_by_id(command.session_id).await?;
        let session = session.ok_or(RecordActivityError::SessionNotFound)?;
        let session = self.buffer.refresh(Arc::new(session));
        if !session.is_live(now) {
            // What is not written of a session that has expired is still news for the store; of one that is revoked it is not.
            if session.is_revoked() {
                self.buffer.forget(&[EndedSession { id: session.id, user_id: session.user_id }]);
            }
            return Err(RecordActivityError::SessionEnded);
        }
        self.buffer.record(&session, command.ip_address, now);
        Ok(())
    }

    /// The same for a session that the caller has just found live.
    pub fn of_live(&self, session: &Session, ip_address: Option<IpAddr>) {
        self.buffer.record(session, ip_address, self.clock.now());
    }

    /// How often use was not taken note of, because there was no room.
    pub fn dropped(&self) -> u64 {
        self.buffer.dropped()
    }

    /// Writes what is due, and answers of how many sessions.
    ///
    /// # Errors
    /// [`PortError::Unavailable`] if the store did not take it; it is tried again soon.
    pub async fn flush_due(&self) -> Result<usize, PortError> {
        self.write(self.buffer.take_due(self.clock.now())).await
    }

    /// Writes everything, due or not, and answers of how many sessions: before an orderly end.
    ///
    /// # Errors
    /// As for [`flush_due`](Self::flush_due).
    pub async fn flush_all(&self) -> Result<usize, PortError> {
        self.write(self.buffer.take_all()).await
    }

    async fn write(&self, mut touches: Vec<Touch>) -> Result<usize, PortError> {
        // Several nodes may write the same sessions: in one order, they wait for each other once and not in a circle.
        touches.sort_unstable_by_key(|touch| touch.session_id);
        let mut result = Ok(());
        for batch in touches.chunks(BATCH) {
            if result.is_ok() {
                result = self.session_repo.touch(batch).await;
            }
            if result.is_err() {
                self.buffer.put_back(batch, self.clock.now());
            }
        }
        result.map(|()| touches.len())
    }
}

#[cfg(test)]
mod tests {
    use adapters_memory::MemorySessionRepository;
    use chrono::TimeDelta;
    use domain::ports::SessionReader;
    use testkit::fixtures;

    use super::*;
    use crate::testing;

    #[tokio::test]
    async fn use_is_written_once_a_window_and_all_of_it_in_the_end() {
        let (repo, clock) = (Arc::new(MemorySessionRepository::default()), fixtures::clock());
        let buffer = Arc::new(ActivityBuffer::new(TimeDelta::seconds(60)));
        let handler = RecordActivityHandler::new(repo.clone(), clock.clone(), buffer, testing::guard());
        let session = fixtures::session();
        repo.insert(&session, None).await.unwrap();
        let record = async || {
            let ip_address = "198.51.100.1".parse().ok();
            handler.handle(RecordActivity { session_id: session.id, ip_address }).await
        };
        let stored = async || repo.find_by_id(session.id).await.unwrap().unwrap();

        clock.advance(TimeDelta::seconds(10));
        record().await.unwrap();
        handler.flush_due().await.unwrap();
        assert_eq!(stored().await.last_activity_at, clock.now());
        assert_eq!(stored().await.last_ip_address, "198.51.100.1".parse().ok());

        let written = clock.now();
        clock.advance(TimeDelta::seconds(10));
        record().await.unwrap();
        handler.flush_due().await.unwrap();
        assert_eq!(stored().await.last_activity_at, written);
        handler.flush_all().await.unwrap();
        assert_eq!(stored().await.last_activity_at, clock.now());
    }

    #[tokio::test]
    async fn what_is_over_or_unknown_cannot_be_used() {
        let (repo, clock) = (Arc::new(MemorySessionRepository::default()), fixtures::clock());
        let buffer = Arc::new(ActivityBuffer::new(TimeDelta::seconds(60)));
        let handler = RecordActivityHandler::new(repo.clone(), clock.clone(), buffer, testing::guard());
        let session = Session { idle_timeout: Some(TimeDelta::minutes(10)), ..fixtures::session() };
        repo.insert(&session, None).await.unwrap();
        let record = async |session_id| handler.handle(RecordActivity { session_id, ip_address: None }).await;

        let unknown = record(fixtures::session_number(404).id).await;
        assert!(matches!(unknown, Err(RecordActivityError::SessionNotFound)));
        clock.advance(TimeDelta::minutes(10) - TimeDelta::microseconds(1));
        record(session.id).await.unwrap();
        // Not written yet, and all the same it is what counts.
        clock.advance(TimeDelta::minutes(5));
        record(session.id).await.unwrap();
        clock.advance(TimeDelta::minutes(10));
        assert!(matches!(record(session.id).await, Err(RecordActivityError::SessionEnded)));
        // Late news of use in time is believed.
        handler.flush_all().await.unwrap();
        let stored = repo.find_by_id(session.id).await.unwrap().unwrap();
        assert_eq!(stored.last_activity_at, clock.now() - TimeDelta::minutes(10));
    }
}
