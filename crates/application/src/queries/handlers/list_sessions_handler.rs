//! List a user's sessions query handler.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use domain::Session;
use domain::ports::{Clock, ListPosition, PortError, SessionListing, SessionRepository};

use crate::activity::ActivityBuffer;
use crate::queries::ListUserSessions;

/// A page of a user's sessions.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListedSessions {
    /// Newest first.
    pub sessions: Vec<Session>,
    /// All of the user's, in any state.
    pub total_count: u64,
    /// Those that are live at `now`.
    pub active_count: u64,
    /// Where the next page begins; absent on the last one.
    pub next: Option<ListPosition>,
    /// The time of the list, for the status of each session.
    pub now: DateTime<Utc>,
}

/// Handles [`ListUserSessions`].
pub struct ListUserSessionsHandler {
    session_repo: Arc<dyn SessionRepository>,
    clock: Arc<dyn Clock>,
    activity: Arc<ActivityBuffer>,
}

impl ListUserSessionsHandler {
    /// Creates a handler over its ports, which adds the activity that `activity` has not written
    /// yet.
    pub fn new(
        session_repo: Arc<dyn SessionRepository>,
        clock: Arc<dyn Clock>,
        activity: Arc<ActivityBuffer>,
    ) -> Self {
        Self { session_repo, clock, activity }
    }

    /// Returns a page of the list.
    ///
    /// # Errors
    /// [`PortError`] from the store.
    pub async fn handle(&self, query: ListUserSessions) -> Result<ListedSessions, PortError> {
        let now = self.clock.now();
        let limit = query.limit as usize;
        // One more than requested shows whether there is another page.
        let listing = SessionListing {
            user_id: query.user_id,
            now,
            active_only: query.active_only,
            limit: query.limit.saturating_add(1),
            after: query.after,
        };
        let mut page = self.session_repo.list_by_user(&listing).await?;
        let more = page.sessions.len() > limit;
        page.sessions.truncate(limit);
        let position = |last: &Session| ListPosition { created_at: last.created_at, id: last.id };
        let next = page.sessions.last().filter(|_| more).map(position);
        let total_count = page.total_count;
        let active_count = page.active_count;
        let refresh =
            |session| Arc::unwrap_or_clone(self.activity.with_pending_activity(Arc::new(session)));
        let sessions = page.sessions.into_iter().map(refresh).collect();
        Ok(ListedSessions { sessions, total_count, active_count, next, now })
    }
}

#[cfg(test)]
mod tests {
    use testkit::fixtures;
    use testkit::memory::MemorySessionRepository;

    use super::*;
    use crate::test_support;

    #[tokio::test]
    async fn the_last_page_says_that_it_is_the_last() {
        let repo = Arc::new(MemorySessionRepository::default());
        for n in 1..=5 {
            repo.insert(&fixtures::session_number(n), None).await.unwrap();
        }
        let handler =
            ListUserSessionsHandler::new(repo, fixtures::clock(), test_support::activity());
        let first = ListUserSessions {
            user_id: fixtures::session().user_id,
            active_only: true,
            limit: 3,
            after: None,
        };
        let page = handler.handle(first).await.unwrap();
        assert_eq!((page.sessions.len(), page.total_count, page.active_count), (3, 5, 5));
        let page = handler.handle(ListUserSessions { after: page.next, ..first }).await.unwrap();
        assert_eq!((page.sessions.len(), page.next), (2, None));
        // A page that is exactly full is the last one too.
        let page = handler.handle(ListUserSessions { limit: 5, ..first }).await.unwrap();
        assert_eq!((page.sessions.len(), page.next), (5, None));
    }
}
