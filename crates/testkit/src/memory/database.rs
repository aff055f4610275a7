//! The tables that the in-memory ports share, and simulated outages of them.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use chrono::{DateTime, Utc};
use domain::coherence::{Incarnation, ReadVersion, RevocationEntry, Scope, Snapshot};
use domain::ports::PortError;
use domain::{
    Actor, EVICTED_BY_LIMIT, EXPIRED_BY_IDLING, EXPIRED_BY_LIFETIME, Revocation, Session,
    SessionEvent, SessionEventKind, SessionId,
};

/// What the adapters of one in-memory store share. It is lost with the process.
#[derive(Clone, Default)]
pub struct MemoryDatabase(Arc<Shared>);

#[derive(Default)]
struct Shared {
    tables: Mutex<Tables>,
    down: AtomicBool,
}

/// Sessions, and what happened to them.
#[derive(Clone, Default)]
pub(crate) struct Tables {
    pub(crate) sessions: BTreeMap<SessionId, Session>,
    /// Sessions that were revoked and deleted.
    pub(crate) revoked_and_deleted: BTreeSet<SessionId>,
    /// Sessions that were marked expired.
    pub(crate) expired: BTreeSet<SessionId>,
    /// Sessions whose replaced token was used after its grace.
    pub(crate) tokens_reused: BTreeSet<SessionId>,
    pub(crate) events: Vec<SessionEvent>,
    last_position: u64,
    /// The revocation log, in the order of their sequence numbers from 1 on.
    pub(crate) log: Vec<Scope>,
    /// How often the database was put back.
    restores: u64,
}

/// A copy of everything that a database holds.
#[derive(Clone)]
pub struct MemoryBackup(Tables);

impl MemoryDatabase {
    /// From now on it does not respond, as a database that is down.
    pub fn take_down(&self) {
        self.0.down.store(true, Ordering::SeqCst);
    }

    /// Copies everything that it holds, as `pg_dump` does.
    pub fn back_up(&self) -> MemoryBackup {
        MemoryBackup(self.lock().clone())
    }

    /// Puts a copy back in place: what came after it is gone, and another life of the database
    /// begins.
    pub fn restore(&self, backup: &MemoryBackup) {
        let mut tables = self.lock();
        let restores = tables.restores + 1;
        *tables = Tables { restores, log: Vec::new(), ..backup.0.clone() };
    }

    /// Takes a session away without a trace, as a restore does that goes unnoticed.
    pub fn drop_row(&self, id: SessionId) {
        self.lock().sessions.remove(&id);
    }

    /// Returns how many sessions there are, whether or not it responds.
    pub fn session_count(&self) -> usize {
        self.lock().sessions.len()
    }

    pub(crate) fn tables(&self) -> Result<MutexGuard<'_, Tables>, PortError> {
        if self.0.down.load(Ordering::SeqCst) {
            return Err(PortError::unavailable(
                "the in-memory database is down by request of a test",
            ));
        }
        Ok(self.lock())
    }

    /// No method panics halfway through a change, so poisoned tables are whole tables.
    fn lock(&self) -> MutexGuard<'_, Tables> {
        self.0.tables.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Tables {
    /// Stores a session, with its events.
    pub(crate) fn insert(&mut self, session: Session) {
        self.record(&session, SessionEventKind::Created, session.created_at, None, None);
        if let Some(revocation) = session.revocation.clone() {
            self.record_end(&session, &revocation);
        }
        self.sessions.insert(session.id, session);
    }

    /// Changes a session, with its events; returns it as it is then.
    pub(crate) fn update(
        &mut self,
        id: SessionId,
        change: impl FnOnce(&mut Session),
    ) -> Option<Session> {
        let session = self.sessions.get_mut(&id)?;
        let before = session.clone();
        change(session);
        let after = session.clone();
        if let (None, Some(revocation)) = (&before.revocation, &after.revocation) {
            self.record_end(&after, revocation);
        }
        if before.is_revoked() != after.is_revoked()
            || after.ends_at() < before.ends_at()
            || before.tokens != after.tokens
        {
            self.log.push(Scope::Session(id));
        }
        if after.expires_at > before.expires_at {
            self.record(&after, SessionEventKind::Renewed, after.last_activity_at, None, None);
        }
        Some(after)
    }

    /// Returns the database, in its present life.
    pub(crate) fn incarnation(&self) -> Incarnation {
        Incarnation { system: 1, database: 1, life: self.restores }
    }

    /// Returns what a read sees now.
    pub(crate) fn snapshot(&self) -> Snapshot {
        Snapshot::below(self.log.len() as u64 + 1)
    }

    /// The same, with where it reads.
    pub(crate) fn version(&self) -> ReadVersion {
        ReadVersion { incarnation: self.incarnation(), snapshot: self.snapshot() }
    }

    /// Returns the entries of the log that this snapshot does not see.
    pub(crate) fn entries_after(&self, snapshot: &Snapshot) -> Vec<RevocationEntry> {
        let entries = (1..)
            .zip(&self.log)
            .map(|(sequence, scope)| RevocationEntry { sequence, scope: *scope });
        entries.filter(|entry| !snapshot.sees(entry.sequence)).collect()
    }

    /// Marks a session expired, with its event.
    pub(crate) fn mark_expired(&mut self, id: SessionId) {
        let Some(session) = self.sessions.get(&id).cloned() else { return };
        if self.expired.insert(id) {
            let at = session.ends_at();
            let by_lifetime = session.ends_at() == session.expires_at;
            let reason = if by_lifetime { EXPIRED_BY_LIFETIME } else { EXPIRED_BY_IDLING };
            self.record(
                &session,
                SessionEventKind::Expired,
                at,
                Some(reason.to_owned()),
                Some(Actor::System),
            );
        }
    }

    /// Marks that a session's replaced token was used, with its event, once. Returns whether it
    /// did.
    pub(crate) fn mark_token_reused(&mut self, id: SessionId, at: DateTime<Utc>) -> bool {
        let Some(session) = self.sessions.get(&id).cloned() else { return false };
        let is_first = self.tokens_reused.insert(id);
        if is_first {
            self.record(&session, SessionEventKind::TokenReused, at, None, None);
        }
        is_first
    }

    fn record_end(&mut self, session: &Session, revocation: &Revocation) {
        let evicted = revocation.actor == Some(Actor::System)
            && revocation.reason.as_deref() == Some(EVICTED_BY_LIMIT);
        let kind = if evicted { SessionEventKind::Evicted } else { SessionEventKind::Revoked };
        self.record(
            session,
            kind,
            revocation.at,
            revocation.reason.clone(),
            revocation.actor.clone(),
        );
    }

    fn record(
        &mut self,
        session: &Session,
        kind: SessionEventKind,
        at: DateTime<Utc>,
        reason: Option<String>,
        actor: Option<Actor>,
    ) {
        self.last_position += 1;
        let position = self.last_position;
        let session_id = session.id;
        let user_id = session.user_id;
        self.events.push(SessionEvent { position, kind, at, session_id, user_id, reason, actor });
    }
}

#[cfg(test)]
mod tests {
    use crate::fixtures;
    use chrono::TimeDelta;

    use super::*;

    /// No port shortens the life of a session, but SQL can, and this store is to do what the others
    /// do.
    #[test]
    fn session_whose_life_is_shortened_is_logged_and_one_whose_life_is_extended_is_not() {
        let mut tables = Tables::default();
        let session = fixtures::bare_session();
        tables.insert(session.clone());
        tables.update(session.id, |session| session.expires_at += TimeDelta::hours(1));
        assert!(tables.log.is_empty());
        tables.update(session.id, |session| session.expires_at -= TimeDelta::hours(2));
        assert_eq!(tables.log, [Scope::Session(session.id)]);
    }
}
