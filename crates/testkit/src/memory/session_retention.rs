//! Expiry and deletion of sessions and events, in memory.

use async_trait::async_trait;
use chrono::{DateTime, Utc};
use domain::ports::{PortError, SessionRetention};
use domain::{Session, SessionId};

use super::database::{MemoryDatabase, Tables};

/// [`SessionRetention`] in the memory of this process, for tests. What other stores go by when an
/// event was written, this one goes by when it happened.
pub struct MemorySessionRetention {
    database: MemoryDatabase,
}

impl MemorySessionRetention {
    /// Creates the retention of this database.
    pub fn new(database: MemoryDatabase) -> Self {
        Self { database }
    }
}

impl Tables {
    fn expired(&self, now: DateTime<Utc>) -> impl Iterator<Item = SessionId> {
        let is_expired = move |session: &&Session| {
            !session.is_revoked() && session.ends_at() <= now && !self.expired.contains(&session.id)
        };
        self.sessions.values().filter(is_expired).map(|session| session.id)
    }

    fn terminated(&self, by: DateTime<Utc>) -> impl Iterator<Item = SessionId> {
        let is_terminated = move |session: &&Session| match &session.revocation {
            Some(revocation) => revocation.at <= by,
            None => self.expired.contains(&session.id) && session.ends_at() <= by,
        };
        self.sessions.values().filter(is_terminated).map(|session| session.id)
    }
}

#[async_trait]
impl SessionRetention for MemorySessionRetention {
    async fn mark_expired(&self, now: DateTime<Utc>, limit: u32) -> Result<u64, PortError> {
        let mut tables = self.database.tables()?;
        let ids: Vec<_> = tables.expired(now).take(limit as usize).collect();
        for id in &ids {
            tables.mark_expired(*id);
        }
        Ok(ids.len() as u64)
    }

    async fn delete_terminated(&self, by: DateTime<Utc>, limit: u32) -> Result<u64, PortError> {
        let mut tables = self.database.tables()?;
        let ids: Vec<_> = tables.terminated(by).take(limit as usize).collect();
        for id in &ids {
            if tables.sessions.remove(id).is_some_and(|session| session.is_revoked()) {
                tables.revoked_and_deleted.insert(*id);
            }
            tables.expired.remove(id);
        }
        Ok(ids.len() as u64)
    }

    async fn delete_events(&self, by: DateTime<Utc>, limit: u32) -> Result<u64, PortError> {
        let mut tables = self.database.tables()?;
        let old =
            tables.events.iter().take(limit as usize).take_while(|event| event.at <= by).count();
        Ok(tables.events.drain(..old).count() as u64)
    }

    async fn backlog(
        &self,
        now: DateTime<Utc>,
        terminated_by: DateTime<Utc>,
        limit: u32,
    ) -> Result<u64, PortError> {
        let tables = self.database.tables()?;
        Ok(tables.expired(now).chain(tables.terminated(terminated_by)).take(limit as usize).count()
            as u64)
    }
}
