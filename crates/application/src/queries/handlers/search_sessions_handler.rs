//! Search sessions query handler.

use std::sync::Arc;

use chrono::{DateTime, Utc};
use domain::Session;
use domain::ports::{
    Clock, ListPosition, MAX_EXAMINED, PortError, SearchPage, SessionRepository, SessionSearch,
};

use crate::activity::ActivityBuffer;
use crate::queries::SearchSessions;

/// A page of what was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FoundSessions {
    /// Newest first. Fewer than the limit, or none, do not mean that there are no more.
    pub sessions: Vec<Session>,
    /// Where the next page begins; absent once every session was examined.
    pub next: Option<ListPosition>,
    /// The time of the search, for the status of each session.
    pub now: DateTime<Utc>,
}

/// Handles [`SearchSessions`]: an operator's search over all users.
pub struct SearchSessionsHandler {
    session_repo: Arc<dyn SessionRepository>,
    clock: Arc<dyn Clock>,
    activity: Arc<ActivityBuffer>,
}

impl SearchSessionsHandler {
    /// Creates a handler over its ports, which adds the activity that `activity` has not written
    /// yet.
    pub fn new(
        session_repo: Arc<dyn SessionRepository>,
        clock: Arc<dyn Clock>,
        activity: Arc<ActivityBuffer>,
    ) -> Self {
        Self { session_repo, clock, activity }
    }

    /// Returns a page of what was found.
    ///
    /// # Errors
    /// [`PortError`] from the store.
    pub async fn handle(&self, query: SearchSessions) -> Result<FoundSessions, PortError> {
        let now = self.clock.now();
        let limit = query.limit as usize;
        let search = SessionSearch {
            filter: query.filter,
            now,
            // One more than requested shows whether there is another page.
            limit: query.limit.saturating_add(1),
            after: query.after,
            max_examined: MAX_EXAMINED,
        };
        let SearchPage { mut sessions, examined_until } = self.session_repo.search(&search).await?;
        let next = match sessions.len() > limit {
            true => sessions.get(limit.saturating_sub(1)).map(position),
            false => examined_until,
        };
        sessions.truncate(limit);
        let refresh =
            |session| Arc::unwrap_or_clone(self.activity.with_pending_activity(Arc::new(session)));
        Ok(FoundSessions { sessions: sessions.into_iter().map(refresh).collect(), next, now })
    }
}

fn position(last: &Session) -> ListPosition {
    ListPosition { created_at: last.created_at, id: last.id }
}

#[cfg(test)]
mod tests {
    use domain::ports::SessionFilter;
    use testkit::fixtures;
    use testkit::memory::MemorySessionRepository;

    use super::*;
    use crate::test_support;

    #[tokio::test]
    async fn pages_follow_one_another_and_the_last_says_that_it_is_the_last() {
        let repo = Arc::new(MemorySessionRepository::default());
        for n in 1..=5 {
            repo.insert(&fixtures::session_number(n), None).await.unwrap();
        }
        let handler = SearchSessionsHandler::new(repo, fixtures::clock(), test_support::activity());
        let first = SearchSessions { filter: SessionFilter::default(), limit: 3, after: None };
        let page = handler.handle(first.clone()).await.unwrap();
        assert_eq!(page.sessions.len(), 3);
        let second = SearchSessions { after: page.next, ..first.clone() };
        let page = handler.handle(second).await.unwrap();
        assert_eq!((page.sessions.len(), page.next), (2, None));
        let page = handler.handle(SearchSessions { limit: 5, ..first }).await.unwrap();
        assert_eq!((page.sessions.len(), page.next), (5, None));
    }
}
