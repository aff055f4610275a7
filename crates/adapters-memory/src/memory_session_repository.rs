use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use domain::ports::{HealthCheck, PortError, SessionRepository};
use domain::{Session, SessionId};

/// [`SessionRepository`] in the memory of this process, for tests: it forgets everything with the process.
#[derive(Default)]
pub struct MemorySessionRepository {
    sessions: Mutex<HashMap<SessionId, Session>>,
}

impl MemorySessionRepository {
    /// How many sessions there are.
    pub fn len(&self) -> usize {
        self.sessions().len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.sessions().is_empty()
    }

    /// No method panics halfway through a change, so a poisoned map is a whole map.
    fn sessions(&self) -> MutexGuard<'_, HashMap<SessionId, Session>> {
        self.sessions.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl SessionRepository for MemorySessionRepository {
    async fn find_by_id(&self, session_id: SessionId) -> Result<Option<Session>, PortError> {
        Ok(self.sessions().get(&session_id).cloned())
    }

    async fn insert(&self, session: &Session) -> Result<(), PortError> {
        match self.sessions().entry(session.id) {
            Entry::Occupied(_) => Err(PortError::conflict("a session with this id exists")),
            Entry::Vacant(vacant) => {
                vacant.insert(session.clone());
                Ok(())
            }
        }
    }
}

#[async_trait]
impl HealthCheck for MemorySessionRepository {
    async fn check(&self) -> Result<(), PortError> {
        Ok(())
    }
}
