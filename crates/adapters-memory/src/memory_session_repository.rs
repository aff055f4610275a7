use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use domain::ports::{
    EndedSession, HealthCheck, Insertion, ListPosition, PortError, SessionListing, SessionPage, SessionRepository,
};
use domain::{OnLimit, Revocation, Session, SessionId, SessionLimit, UserId};

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

    async fn insert(&self, session: &Session, limit: Option<SessionLimit>) -> Result<Insertion, PortError> {
        let mut sessions = self.sessions();
        if sessions.contains_key(&session.id) {
            return Err(PortError::conflict("a session with this id exists"));
        }
        let mut evicted = Vec::new();
        if let Some(limit) = limit {
            let now = session.created_at;
            let is_own = |other: &&mut Session| other.user_id == session.user_id && other.is_live(now);
            let mut live: Vec<_> = sessions.values_mut().filter(is_own).collect();
            live.sort_by_key(|session| (session.created_at, session.id));
            let too_many = (live.len() + 1).saturating_sub(limit.max.get() as usize);
            if too_many > 0 && limit.on_limit == OnLimit::Deny {
                return Ok(Insertion::LimitReached);
            }
            for oldest in live.into_iter().take(too_many) {
                oldest.revocation = Some(SessionLimit::eviction(now));
                evicted.push(EndedSession { id: oldest.id, user_id: oldest.user_id });
            }
        }
        sessions.insert(session.id, session.clone());
        Ok(Insertion::Stored { evicted })
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
