//! Import sessions command handler.

use std::sync::Arc;

use chrono::TimeDelta;
use domain::ports::{PortError, SessionRepository, SessionSource};
use domain::{Session, SessionId, truncated_user_agent};
use thiserror::Error;

use crate::commands::ImportSessions;

/// Why sessions were not imported.
#[derive(Debug, Error)]
pub enum ImportSessionsError {
    /// The other system could not be read.
    #[error("the source: {0}")]
    Source(#[source] PortError),
    /// The store could not be written.
    #[error("the store: {0}")]
    Store(#[source] PortError),
}

/// What one step has imported.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ImportedSessions {
    /// Sessions that were read.
    pub read: u64,
    /// Those that were not here yet.
    pub new: u64,
    /// Those that never expired there, and got an expiry.
    pub never_expired: u64,
    /// Those that had expired before they began there; here they last for a microsecond.
    pub expired_on_import: u64,
    /// The last one's id, to go on after; `None`: that was all.
    pub last: Option<SessionId>,
}

impl ImportedSessions {
    /// Both together; `next` is the later one.
    pub fn and(self, next: Self) -> Self {
        Self {
            read: self.read + next.read,
            new: self.new + next.new,
            never_expired: self.never_expired + next.never_expired,
            expired_on_import: self.expired_on_import + next.expired_on_import,
            last: next.last,
        }
    }
}

/// Imports another system's sessions, a step at a time; safe to repeat.
pub struct ImportSessionsHandler {
    source: Arc<dyn SessionSource>,
    session_repo: Arc<dyn SessionRepository>,
}

impl ImportSessionsHandler {
    /// Creates a handler over its ports.
    pub fn new(source: Arc<dyn SessionSource>, session_repo: Arc<dyn SessionRepository>) -> Self {
        Self { source, session_repo }
    }

    /// About how many there are.
    ///
    /// # Errors
    /// See [`ImportSessionsError`].
    pub async fn count(&self) -> Result<u64, ImportSessionsError> {
        self.source.count().await.map_err(ImportSessionsError::Source)
    }

    /// Runs one step. Sessions that are here already stay as they are, but what was revoked there
    /// is revoked here too.
    ///
    /// # Errors
    /// See [`ImportSessionsError`]. Trying again is safe.
    pub async fn handle(
        &self,
        command: ImportSessions,
    ) -> Result<ImportedSessions, ImportSessionsError> {
        let batch = self
            .source
            .batch(command.after, command.limit)
            .await
            .map_err(ImportSessionsError::Source)?;
        let mut imported = ImportedSessions {
            read: batch.len() as u64,
            never_expired: batch.iter().filter(|source| source.never_expired).count() as u64,
            last: batch.last().map(|source| source.session.id),
            ..ImportedSessions::default()
        };
        let mut sessions: Vec<Session> = batch.into_iter().map(|source| source.session).collect();
        for session in &mut sessions {
            session.user_agent =
                session.user_agent.as_deref().map(|text| truncated_user_agent(text).into());
            if session.expires_at <= session.created_at {
                session.expires_at = session.created_at + TimeDelta::microseconds(1);
                imported.expired_on_import += 1;
            }
        }
        imported.new =
            self.session_repo.import(&sessions).await.map_err(ImportSessionsError::Store)?;
        Ok(imported)
    }
}

#[cfg(test)]
mod tests {
    use async_trait::async_trait;
    use domain::ports::SourceSession;
    use testkit::fixtures;
    use testkit::memory::{MemoryDatabase, MemorySessionRepository};

    use super::*;

    struct Five;

    #[async_trait]
    impl SessionSource for Five {
        async fn count(&self) -> Result<u64, PortError> {
            Ok(5)
        }

        async fn batch(
            &self,
            after: Option<SessionId>,
            limit: u32,
        ) -> Result<Vec<SourceSession>, PortError> {
            let mut sessions: Vec<_> = (1..=5).map(fixtures::session_number).collect();
            sessions[1].user_agent = Some("x".repeat(600).into());
            sessions[2].expires_at = sessions[2].created_at;
            let rest =
                sessions.into_iter().filter(|session| after.is_none_or(|after| session.id > after));
            let rest = rest.take(limit as usize);
            Ok(rest
                .map(|session| SourceSession { never_expired: session.name.is_none(), session })
                .collect())
        }
    }

    #[tokio::test]
    async fn all_sessions_are_imported_step_by_step_and_once() {
        let database = MemoryDatabase::default();
        let repo = Arc::new(MemorySessionRepository::new(database.clone()));
        let handler = ImportSessionsHandler::new(Arc::new(Five), repo.clone());
        for new in [5, 0] {
            let mut all = ImportedSessions::default();
            loop {
                let step =
                    handler.handle(ImportSessions { after: all.last, limit: 2 }).await.unwrap();
                all = all.and(step);
                if step.last.is_none() {
                    break;
                }
            }
            assert_eq!(
                all,
                ImportedSessions {
                    read: 5,
                    new,
                    never_expired: 0,
                    expired_on_import: 1,
                    last: None
                }
            );
        }
        assert_eq!(database.session_count(), 5);
        let cut = testkit::find_session(&*repo, fixtures::session_number(2).id).await.unwrap();
        assert_eq!(cut.user_agent.map(|text| text.len()), Some(512));
    }
}
