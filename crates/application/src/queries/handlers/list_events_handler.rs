//! List events query handler.

use std::sync::Arc;

use domain::SessionEvent;
use domain::ports::{EventOutbox, EventQuery, PortError};

/// Reads the event feed. The query is the port's own.
pub struct ListEventsHandler {
    event_outbox: Arc<dyn EventOutbox>,
}

impl ListEventsHandler {
    /// Creates a handler over its port.
    pub fn new(event_outbox: Arc<dyn EventOutbox>) -> Self {
        Self { event_outbox }
    }

    /// Returns events in ascending order of their positions.
    ///
    /// # Errors
    /// [`PortError`] from the store.
    pub async fn handle(&self, query: &EventQuery) -> Result<Vec<SessionEvent>, PortError> {
        self.event_outbox.events(query).await
    }

    /// Returns the position of the newest event, from which a reader goes on that wants later ones.
    ///
    /// # Errors
    /// [`PortError`] from the store.
    pub async fn newest_position(&self) -> Result<u64, PortError> {
        self.event_outbox.newest_position().await
    }
}
