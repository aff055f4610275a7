//! List events query handler.

use std::sync::Arc;

use domain::SessionEvent;
use domain::ports::{EventOutbox, EventQuery, PortError};
use thiserror::Error;

use crate::queries::ListEvents;

/// Why events were not answered.
#[derive(Debug, Error)]
pub enum ListEventsError {
    /// They could not be read.
    #[error(transparent)]
    Port(#[from] PortError),
}

/// Answers [`ListEvents`].
pub struct ListEventsHandler {
    event_outbox: Arc<dyn EventOutbox>,
}

impl ListEventsHandler {
    /// A handler over its port.
    pub fn new(event_outbox: Arc<dyn EventOutbox>) -> Self {
        Self { event_outbox }
    }

    /// Events in ascending order of their positions.
    ///
    /// # Errors
    /// See [`ListEventsError`].
    pub async fn handle(&self, query: ListEvents) -> Result<Vec<SessionEvent>, ListEventsError> {
        let ListEvents { after, limit, session_id, user_id } = query;
        Ok(self.event_outbox.events(&EventQuery { after, limit, session_id, user_id }).await?)
    }
}
