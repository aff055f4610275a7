//! The event outbox, in memory.

use async_trait::async_trait;
use domain::SessionEvent;
use domain::ports::{EventOutbox, EventQuery, PortError};

use super::database::MemoryDatabase;

/// [`EventOutbox`] in the memory of this process, for tests.
pub struct MemoryEventOutbox {
    database: MemoryDatabase,
}

impl MemoryEventOutbox {
    /// Creates the outbox of this database.
    pub fn new(database: MemoryDatabase) -> Self {
        Self { database }
    }
}

#[async_trait]
impl EventOutbox for MemoryEventOutbox {
    async fn events(&self, query: &EventQuery) -> Result<Vec<SessionEvent>, PortError> {
        let tables = self.database.tables()?;
        let fits = |event: &&SessionEvent| {
            event.position > query.after
                && query.session_id.is_none_or(|id| id == event.session_id)
                && query.user_id.is_none_or(|id| id == event.user_id)
        };
        Ok(tables.events.iter().filter(fits).take(query.limit as usize).cloned().collect())
    }

    async fn newest_position(&self) -> Result<u64, PortError> {
        Ok(self.database.tables()?.events.last().map_or(0, |event| event.position))
    }
}
