//! Polls the log of revocations.

use std::sync::Arc;
use std::time::Duration;

use domain::coherence::MonotonicInstant;
use domain::ports::{LogPosition, MonotonicClock, PortError, RevocationFeed};
use fail::fail_point;

use super::RevocationState;

/// What one poll did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Polled {
    /// Poll again soon: there is more to read, or there is news whose merging peers may wait to hear of.
    pub again: bool,
    /// What was cached before is not served any more: another incarnation has begun, or the log was pruned too far.
    pub is_reset: bool,
    /// There were more entries than a node keeps.
    pub has_overflowed: bool,
    /// The store's numbers went back; another life of it begins.
    pub went_back: bool,
}

/// Polls the log of revocations into a [`RevocationState`], and reports to peers what this node has merged.
///
/// It awaits nothing but its feed: if it waited for anything else, such as a place in the pool of connections, a busy database would
/// turn the caches off, and be busier still.
pub struct RevocationFollower {
    feed: Arc<dyn RevocationFeed>,
    clock: Arc<dyn MonotonicClock>,
    state: Arc<RevocationState>,
    is_registered: bool,
    position: Option<LogPosition>,
    /// When the poll of the first page of the present row was sent, if there are more pages to come.
    row_sent: Option<MonotonicInstant>,
    /// There is something that was not reported yet.
    has_news: bool,
    reported: Option<MonotonicInstant>,
}

impl RevocationFollower {
    /// Creates the follower of a node that has not polled.
    pub fn new(feed: Arc<dyn RevocationFeed>, clock: Arc<dyn MonotonicClock>, state: Arc<RevocationState>) -> Self {
        Self {
            feed,
            clock,
            state,
            is_registered: false,
            position: None,
            row_sent: None,
            has_news: false,
            reported: None,
        }
    }

    /// Polls once.
    ///
    /// # Errors
    /// [`PortError::Unavailable`] if the store did not answer: cached sessions are served until the last poll is too long ago.
    pub async fn poll(&mut self) -> Result<Polled, PortError> {
        if !self.is_registered {
            self.feed.register(self.state.max_staleness()).await?;
            self.is_registered = true;
            (self.position, self.row_sent, self.reported) = (None, None, None);
        }
        // Before the poll is sent, never after.
        let sent = self.state.now();
        let is_heartbeat = self.is_heartbeat_due(sent);
        let poll = self.feed.poll(self.position.as_ref(), is_heartbeat).await?;
        let sent = self.sent_or_injected_bug(sent);
        let Some(poll) = poll else {
            // A peer took this node for dead, and waits for it no more.
            self.state.reset();
            self.is_registered = false;
            return Ok(Polled { again: true, is_reset: true, ..Polled::default() });
        };
        if is_heartbeat {
            (self.has_news, self.reported) = (false, Some(sent));
        }
        let is_first_page = self.row_sent.is_none() || poll.page.starts_over.is_some();
        let row_sent = self.row_sent.filter(|_| !is_first_page).unwrap_or(sent);
        let applied = self.state.apply(&poll.page, row_sent);
        if applied.went_back {
            self.position = None;
            self.feed.end_life(poll.page.incarnation).await?;
            return Ok(Polled { again: true, is_reset: true, went_back: true, ..Polled::default() });
        }
        self.position = Some(poll.position);
        self.row_sent = (!applied.is_complete).then_some(row_sent);
        self.has_news |= applied.has_news || applied.is_reset;
        Ok(Polled {
            again: self.has_news || !applied.is_complete,
            is_reset: applied.is_reset,
            has_overflowed: applied.has_overflowed,
            went_back: false,
        })
    }

    /// Reports where there is news, and often enough to show that this node lives, but not with each poll: a row that is updated ten
    /// times a second bloats under any long snapshot.
    fn is_heartbeat_due(&self, now: MonotonicInstant) -> bool {
        let is_due = |reported: MonotonicInstant| now >= reported.saturating_add(self.state.max_staleness() / 2);
        self.has_news && self.row_sent.is_none() || self.reported.is_none_or(is_due)
    }

    /// Returns when a poll was sent; by an injected bug, when it was answered.
    fn sent_or_injected_bug(&self, sent: MonotonicInstant) -> MonotonicInstant {
        fail_point!("bug-poll-counts-from-its-arrival", |_| self.clock.now());
        let _ = &self.clock;
        sent
    }
}

/// The pause between two polls, however much there is to read.
pub(crate) const MIN_PAUSE: Duration = Duration::from_millis(5);
