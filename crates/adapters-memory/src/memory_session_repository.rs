use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use domain::ports::{
    EndedSession, HealthCheck, ListPosition, PortError, SessionListing, SessionPage, SessionRepository,
};
use domain::{Revocation, Session, SessionId, UserId};

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

    /// Ends the sessions that fit and that nobody has ended yet.
    fn revoke_where(&self, fits: impl Fn(&Session) -> bool, revocation: &Revocation) -> Vec<EndedSession> {
        let mut sessions = self.sessions();
        let live = sessions.values_mut().filter(|session| !session.is_revoked() && fits(session));
        let ended = live.map(|session| {
            session.revocation = Some(revocation.clone());
            EndedSession { id: session.id, user_id: session.user_id }
        });
        ended.collect()
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

    async fn list_by_user(&self, listing: &SessionListing) -> Result<SessionPage, PortError> {
        let sessions = self.sessions();
        let mut own: Vec<_> = sessions.values().filter(|session| session.user_id == listing.user_id).collect();
        own.sort_by_key(|session| std::cmp::Reverse((session.created_at, session.id)));
        let is_active = |session: &&&Session| session.is_live(listing.now);
        let (total_count, active_count) = (own.len() as u64, own.iter().filter(is_active).count() as u64);
        let is_after = |session: &&&Session| {
            let older = |ListPosition { created_at, id }| (session.created_at, session.id) < (created_at, id);
            listing.after.is_none_or(older)
        };
        let wanted = own.iter().filter(|session| !listing.active_only || is_active(session)).filter(is_after);
        let page = wanted.take(listing.limit as usize).map(|session| Session::clone(session)).collect();
        Ok(SessionPage { sessions: page, total_count, active_count })
    }

    async fn revoke(&self, session_ids: &[SessionId], revocation: &Revocation) -> Result<Vec<EndedSession>, PortError> {
        Ok(self.revoke_where(|session| session_ids.contains(&session.id), revocation))
    }

    async fn revoke_all_of_user(
        &self,
        user_id: UserId,
        except: Option<SessionId>,
        revocation: &Revocation,
    ) -> Result<Vec<EndedSession>, PortError> {
        Ok(self.revoke_where(|session| session.user_id == user_id && Some(session.id) != except, revocation))
    }
}

#[async_trait]
impl HealthCheck for MemorySessionRepository {
    async fn check(&self) -> Result<(), PortError> {
        Ok(())
    }
}
