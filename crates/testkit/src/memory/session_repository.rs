//! Sessions of an in-memory store, for tests.

use std::cmp::Reverse;
use std::sync::Arc;

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use domain::coherence::{Scope, SessionRead};
use domain::ports::{
    EditableFields, HealthCheck, Insertion, ListPosition, MAX_COUNTED, PortError, SearchPage,
    SessionEdit, SessionFilter, SessionKey, SessionListing, SessionPage, SessionRepository,
    SessionSearch, TokenRotation,
};
use domain::{
    OnLimit, Revocation, Session, SessionId, SessionLimit, SessionTokens, TokenHash, Touch, UserId,
};

use super::database::MemoryDatabase;

/// [`SessionRepository`] in the memory of this process, for tests.
#[derive(Default)]
pub struct MemorySessionRepository {
    database: MemoryDatabase,
}

impl MemorySessionRepository {
    /// Creates a repository on this database.
    pub fn new(database: MemoryDatabase) -> Self {
        Self { database }
    }

    /// Revokes the matching sessions that are not revoked yet, by ascending id.
    fn revoke_where(
        &self,
        fits: impl Fn(&Session) -> bool,
        limit: usize,
        revocation: &Revocation,
    ) -> Result<Vec<SessionKey>, PortError> {
        let mut tables = self.database.tables()?;
        let fitting =
            tables.sessions.values().filter(|session| !session.is_revoked() && fits(session));
        let revoked: Vec<_> = fitting.map(key).take(limit).collect();
        for session in &revoked {
            tables
                .update(session.id, |session| session.revocation = Some(revocation.clone().into()));
        }
        Ok(revoked)
    }
}

fn key(session: &Session) -> SessionKey {
    SessionKey { id: session.id, user_id: session.user_id }
}

#[async_trait]
impl SessionRepository for MemorySessionRepository {
    async fn find_by_id(&self, session_id: SessionId) -> Result<Option<SessionRead>, PortError> {
        let tables = self.database.tables()?;
        let session = tables.sessions.get(&session_id).cloned().map(Arc::new);
        Ok(session.map(|session| SessionRead { session, version: Some(tables.version()) }))
    }

    async fn insert(
        &self,
        session: &Session,
        limit: Option<SessionLimit>,
    ) -> Result<Insertion, PortError> {
        let mut tables = self.database.tables()?;
        let sign_in = |session: &Session| {
            session.idempotency_key.clone().map(|key| (session.user_id, key.text))
        };
        let key_is_taken = sign_in(session).is_some_and(|wanted| {
            tables.sessions.values().any(|other| sign_in(other).as_ref() == Some(&wanted))
        });
        if key_is_taken || tables.sessions.contains_key(&session.id) {
            return Err(PortError::conflict(
                "a session with this id, or this idempotency key, exists",
            ));
        }
        let mut evicted = Vec::new();
        if let Some(limit) = limit {
            let now = session.created_at;
            let is_own = |other: &&Session| other.user_id == session.user_id && other.is_live(now);
            let mut live: Vec<_> = tables.sessions.values().filter(is_own).collect();
            live.sort_by_key(|session| (session.created_at, session.id));
            let too_many = (live.len() + 1).saturating_sub(limit.max.get() as usize);
            if too_many > 0 && limit.on_limit == OnLimit::Deny {
                return Ok(Insertion::LimitReached);
            }
            evicted = live.into_iter().take(too_many).map(key).collect();
            for oldest in &evicted {
                tables.update(oldest.id, |session| {
                    session.revocation = Some(Revocation::eviction(now).into())
                });
            }
        }
        tables.insert(session.clone());
        Ok(Insertion::Stored { evicted })
    }

    async fn list_by_user(&self, listing: &SessionListing) -> Result<SessionPage, PortError> {
        let tables = self.database.tables()?;
        let mut own: Vec<_> =
            tables.sessions.values().filter(|session| session.user_id == listing.user_id).collect();
        own.sort_by_key(|session| Reverse((session.created_at, session.id)));
        let is_active = |session: &&&Session| session.is_live(listing.now);
        let counted = |count: usize| (count as u64).min(MAX_COUNTED);
        let (total_count, active_count) =
            (counted(own.len()), counted(own.iter().filter(is_active).count()));
        let is_after = |session: &&&Session| {
            let older = |ListPosition { created_at, id }| {
                (session.created_at, session.id) < (created_at, id)
            };
            listing.after.is_none_or(older)
        };
        let wanted = own
            .iter()
            .filter(|session| !listing.active_only || is_active(session))
            .filter(is_after);
        let page =
            wanted.take(listing.limit as usize).map(|session| Session::clone(session)).collect();
        Ok(SessionPage { sessions: page, total_count, active_count })
    }

    async fn search(&self, search: &SessionSearch) -> Result<SearchPage, PortError> {
        let tables = self.database.tables()?;
        let filter = &search.filter;
        let position = |session: &Session| (session.created_at, session.id);
        // What an index finds is examined alone.
        let indexed =
            SessionFilter { status: None, device: None, active_after: None, ..filter.clone() };
        let is_after = |session: &Session| {
            search.after.is_none_or(|last| position(session) < (last.created_at, last.id))
        };
        let mut examined: Vec<_> = tables.sessions.values().collect();
        examined.retain(|session| indexed.matches(session, search.now) && is_after(session));
        examined.sort_by_key(|session| Reverse(position(session)));
        let is_complete = examined.len() <= search.max_examined as usize;
        examined.truncate(search.max_examined as usize);
        let examined_until = examined.last().filter(|_| !is_complete);
        let found = examined.iter().filter(|session| filter.matches(session, search.now));
        Ok(SearchPage {
            sessions: found.take(search.limit as usize).map(|it| Session::clone(it)).collect(),
            examined_until: examined_until
                .map(|it| ListPosition { created_at: it.created_at, id: it.id }),
        })
    }

    async fn find_by_idempotency_key(
        &self,
        user_id: UserId,
        key: &str,
    ) -> Result<Option<Session>, PortError> {
        let is_it = |session: &&Session| {
            let own = session.idempotency_key.as_ref().map(|key| &*key.text);
            session.user_id == user_id && own == Some(key)
        };
        Ok(self.database.tables()?.sessions.values().find(is_it).cloned())
    }

    async fn edit(
        &self,
        session_id: SessionId,
        edit: &SessionEdit,
    ) -> Result<Option<Session>, PortError> {
        let mut tables = self.database.tables()?;
        let is_expected = |session: &Session| {
            edit.only_if.as_ref().is_none_or(|expected| EditableFields::of(session) == *expected)
        };
        if !tables.sessions.get(&session_id).is_some_and(is_expected) {
            return Ok(None);
        }
        let change = |session: &mut Session| {
            if let Some(name) = &edit.name {
                session.name = name.as_deref().map(Into::into);
            }
            if let Some(metadata) = &edit.metadata {
                session.metadata = metadata.clone().map(Into::into);
            }
        };
        Ok(tables.update(session_id, change))
    }

    async fn rotate_token(
        &self,
        session_id: SessionId,
        rotation: &TokenRotation,
    ) -> Result<bool, PortError> {
        let mut tables = self.database.tables()?;
        let fits = |session: &Session| {
            let current = session.tokens.as_ref().map(|tokens| tokens.current);
            session.is_live(rotation.at)
                && rotation.only_if.is_none_or(|expected| current == Some(expected))
        };
        if !tables.sessions.get(&session_id).is_some_and(fits) {
            return Ok(false);
        }
        tables.tokens_reused.remove(&session_id);
        tables.update(session_id, |session| {
            let tokens = match session.tokens.as_deref() {
                Some(tokens) => tokens.rotated(rotation.hash, rotation.at),
                None => SessionTokens::issued(rotation.hash),
            };
            session.tokens = Some(tokens.into());
        });
        Ok(true)
    }

    async fn mark_token_reused(
        &self,
        session_id: SessionId,
        hash: &TokenHash,
        at: DateTime<Utc>,
    ) -> Result<bool, PortError> {
        let mut tables = self.database.tables()?;
        let is_replaced = |session: &Session| {
            let replaced = session.tokens.as_ref().and_then(|tokens| tokens.replaced);
            replaced.is_some_and(|replaced| replaced.hash == *hash) && !session.is_revoked()
        };
        let is_it = tables.sessions.get(&session_id).is_some_and(is_replaced);
        Ok(is_it && tables.mark_token_reused(session_id, at))
    }

    async fn touch(&self, touches: &[Touch]) -> Result<(), PortError> {
        let mut tables = self.database.tables()?;
        for touch in touches {
            tables.update(touch.session_id, |session| {
                session.touch(touch);
            });
        }
        Ok(())
    }

    async fn import(&self, sessions: &[Session]) -> Result<u64, PortError> {
        let mut tables = self.database.tables()?;
        let before = tables.sessions.len();
        for session in sessions {
            let revocation = session.revocation.clone();
            let known = tables.update(session.id, |known| {
                known.revocation = known.revocation.take().or(revocation)
            });
            if known.is_none() && !tables.revoked_and_deleted.contains(&session.id) {
                tables.insert(session.clone());
            }
        }
        Ok((tables.sessions.len() - before) as u64)
    }

    async fn revoke(
        &self,
        session_ids: &[SessionId],
        revocation: &Revocation,
    ) -> Result<Vec<SessionKey>, PortError> {
        self.revoke_where(|session| session_ids.contains(&session.id), usize::MAX, revocation)
    }

    async fn revoke_all_of_user(
        &self,
        user_id: UserId,
        except: Option<SessionId>,
        limit: u32,
        revocation: &Revocation,
    ) -> Result<Vec<SessionKey>, PortError> {
        let fits = |session: &Session| session.user_id == user_id && Some(session.id) != except;
        let revoked = self.revoke_where(fits, limit as usize, revocation)?;
        self.database.tables()?.log.push(Scope::User(user_id));
        Ok(revoked)
    }

    async fn revoke_all_sessions(
        &self,
        after: Option<SessionId>,
        limit: u32,
        revocation: &Revocation,
    ) -> Result<Vec<SessionKey>, PortError> {
        let fits = |session: &Session| after.is_none_or(|after| session.id > after);
        let revoked = self.revoke_where(fits, limit as usize, revocation)?;
        if after.is_none() {
            self.database.tables()?.log.push(Scope::AllUsers);
        }
        Ok(revoked)
    }
}

#[async_trait]
impl HealthCheck for MemorySessionRepository {
    async fn check(&self) -> Result<(), PortError> {
        self.database.tables().map(drop)
    }
}
