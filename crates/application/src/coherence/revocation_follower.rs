//! Polls the revocation log.

use std::sync::Arc;
use std::time::Duration;

use domain::coherence::MonotonicInstant;
use domain::ports::{LogPosition, PortError, RevocationFeed};
use fail::fail_point;

use super::RevocationState;

/// What one poll did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Polled {
    /// Poll again soon: there is more to read, or entries were merged that the next poll has to
    /// report, because a peer may be waiting for that.
    pub again: bool,
    /// What was cached before is not served any more: another incarnation has begun, or the log was
    /// pruned too far.
    pub is_reset: bool,
    /// There were more entries than a node keeps.
    pub has_overflowed: bool,
    /// The store's numbers went back; another life of it begins.
    pub went_back: bool,
}

/// Polls the revocation log into a [`RevocationState`], and reports to peers what this node has
/// merged.
///
/// It awaits nothing but its feed: if it waited for anything else, such as a place in the pool of
/// connections, a busy database would turn the caches off, and be busier still.
pub struct RevocationFollower {
    feed: Arc<dyn RevocationFeed>,
    state: Arc<RevocationState>,
    is_registered: bool,
    position: Option<LogPosition>,
    /// When the poll of the first page of the present row was sent, if there are more pages to
    /// come.
    row_sent: Option<MonotonicInstant>,
    /// There is something that was not reported yet.
    has_news: bool,
    reported: Option<MonotonicInstant>,
}

impl RevocationFollower {
    /// Creates the follower of a node that has not polled.
    pub fn new(feed: Arc<dyn RevocationFeed>, state: Arc<RevocationState>) -> Self {
        Self {
            feed,
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
    /// [`PortError::Unavailable`] if the store did not respond: cached sessions are served
    /// until the last poll is too long ago.
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
            self.feed.end_incarnation(poll.page.incarnation).await?;
            return Ok(Polled {
                again: true,
                is_reset: true,
                went_back: true,
                ..Polled::default()
            });
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

    /// Reports where there is news, and often enough to show that this node lives, but not with
    /// each poll: a row that is updated ten times a second bloats under any long snapshot.
    fn is_heartbeat_due(&self, now: MonotonicInstant) -> bool {
        let is_due = |reported: MonotonicInstant| {
            now >= reported.saturating_add(self.state.max_staleness() / 2)
        };
        self.has_news && self.row_sent.is_none() || self.reported.is_none_or(is_due)
    }

    /// Returns when a poll was sent; by an injected bug, when it got a response.
    fn sent_or_injected_bug(&self, sent: MonotonicInstant) -> MonotonicInstant {
        fail_point!("bug-poll-counts-from-its-arrival", |_| self.state.now());
        sent
    }
}

/// The pause between two polls, however much there is to read.
pub(crate) const MIN_PAUSE: Duration = Duration::from_millis(5);

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;
    use std::sync::Mutex;

    use async_trait::async_trait;
    use domain::coherence::{Incarnation, LogPage, RevocationEntry, Scope, Snapshot};
    use domain::ports::{Peer, Peers, Poll};
    use testkit::SteppingClock;

    use super::*;

    const MAX_STALENESS: Duration = Duration::from_millis(500);
    const HERE: Incarnation = Incarnation { system: 1, database: 1, life: 1 };

    /// Returns what the test says, each response after 100 ms, and notes what it was asked.
    struct Script {
        clock: Arc<SteppingClock>,
        polls: Mutex<VecDeque<Option<Poll>>>,
        asked: Mutex<Vec<(Option<String>, bool)>>,
        ended: Mutex<Vec<Incarnation>>,
        registered: Mutex<u32>,
    }

    #[async_trait]
    impl RevocationFeed for Script {
        async fn register(&self, max_staleness: Duration) -> Result<(), PortError> {
            assert_eq!(max_staleness, MAX_STALENESS);
            *self.registered.lock().unwrap() += 1;
            Ok(())
        }

        async fn poll(
            &self,
            position: Option<&LogPosition>,
            is_heartbeat: bool,
        ) -> Result<Option<Poll>, PortError> {
            self.asked
                .lock()
                .unwrap()
                .push((position.map(|position| position.0.clone()), is_heartbeat));
            self.clock.advance(Duration::from_millis(100));
            let poll = self.polls.lock().unwrap().pop_front();
            poll.ok_or_else(|| PortError::unavailable("the script is over"))
        }

        async fn peers(&self, _: Duration) -> Result<Peers, PortError> {
            Err(PortError::unavailable("a follower asks for no peers"))
        }

        async fn remove_peer(&self, _: &Peer) -> Result<(), PortError> {
            Err(PortError::unavailable("a follower removes no peers"))
        }

        async fn leave(&self) -> Result<(), PortError> {
            Ok(())
        }

        async fn prune(&self, _: u32) -> Result<u64, PortError> {
            Ok(0)
        }

        async fn end_incarnation(&self, incarnation: Incarnation) -> Result<(), PortError> {
            self.ended.lock().unwrap().push(incarnation);
            Ok(())
        }
    }

    struct Fixture {
        clock: Arc<SteppingClock>,
        feed: Arc<Script>,
        state: Arc<RevocationState>,
        follower: RevocationFollower,
    }

    fn fixture() -> Fixture {
        let clock = Arc::new(SteppingClock::default());
        let feed = Arc::new(Script {
            clock: clock.clone(),
            polls: Mutex::default(),
            asked: Mutex::default(),
            ended: Mutex::default(),
            registered: Mutex::default(),
        });
        let state = Arc::new(RevocationState::new(clock.clone(), MAX_STALENESS));
        let follower = RevocationFollower::new(feed.clone(), state.clone());
        Fixture { clock, feed, state, follower }
    }

    fn page(xmax: u64) -> LogPage {
        let snapshot = Snapshot::below(xmax);
        LogPage {
            incarnation: HERE,
            entries: Vec::new(),
            snapshot,
            is_last: true,
            starts_over: None,
        }
    }

    fn first(xmax: u64) -> LogPage {
        LogPage { starts_over: Some(Snapshot::default()), ..page(xmax) }
    }

    impl Fixture {
        /// Polls once, and is returned this page, with this position.
        async fn poll(&mut self, page: LogPage, position: &str) -> Polled {
            let position = LogPosition(position.to_owned());
            self.feed.polls.lock().unwrap().push_back(Some(Poll { page, position }));
            self.follower.poll().await.unwrap()
        }

        /// From which position the last poll went on, and whether it was a heartbeat.
        fn last_asked(&self) -> (Option<String>, bool) {
            self.feed.asked.lock().unwrap().last().unwrap().clone()
        }

        /// How long ago the poll was sent by which cached sessions are servable.
        fn poll_age(&self) -> u128 {
            self.state.poll_age().as_millis()
        }
    }

    fn at(position: &str) -> Option<String> {
        Some(position.to_owned())
    }

    #[tokio::test]
    async fn poll_goes_on_from_the_last_position_and_reports_news_with_the_next() {
        let mut f = fixture();
        let polled = f.poll(first(10), "a").await;
        assert_eq!(
            polled,
            Polled { again: true, is_reset: true, ..Polled::default() },
            "what it has merged is news to peers"
        );
        assert_eq!((f.last_asked(), f.poll_age()), ((None, true), 100));
        assert_eq!(f.poll(page(10), "b").await, Polled::default());
        assert_eq!(f.last_asked(), (at("a"), true));
        assert_eq!(f.poll(page(10), "c").await, Polled::default());
        assert_eq!(f.last_asked(), (at("b"), false), "there is nothing to report");
        let entry = RevocationEntry { sequence: 10, scope: Scope::AllUsers };
        let news = f.poll(LogPage { entries: vec![entry], ..page(11) }, "d").await;
        assert_eq!(news, Polled { again: true, ..Polled::default() });
        assert_eq!(f.poll(page(11), "e").await, Polled::default());
        assert_eq!(f.last_asked(), (at("d"), true));
        assert_eq!(*f.feed.registered.lock().unwrap(), 1);
    }

    #[tokio::test]
    async fn node_without_news_reports_twice_per_maximum_staleness() {
        let mut f = fixture();
        f.poll(first(10), "a").await;
        let mut heartbeats = Vec::new();
        for _ in 0..8 {
            f.poll(page(10), "b").await;
            heartbeats.push(f.last_asked().1);
        }
        // Each poll takes 100 ms: after the first, every third is due.
        assert_eq!(heartbeats, [true, false, false, true, false, false, true, false]);
    }

    #[tokio::test]
    async fn row_of_pages_is_as_recent_as_its_first_poll() {
        let mut f = fixture();
        let polled = f.poll(LogPage { is_last: false, ..first(10) }, "a").await;
        assert_eq!(polled, Polled { again: true, is_reset: true, ..Polled::default() });
        assert!(f.state.poll_age() >= MAX_STALENESS, "nothing is servable before the last page");
        let polled = f.poll(LogPage { is_last: false, ..page(10) }, "b").await;
        assert_eq!(
            (polled.again, f.last_asked()),
            (true, (at("a"), false)),
            "half of a row is nothing to report"
        );
        f.poll(page(10), "c").await;
        assert_eq!((f.last_asked().0, f.poll_age()), (at("b"), 300));
        f.poll(page(10), "d").await;
        assert_eq!(f.poll_age(), 100);
        // A row of which nothing is news.
        let polled = f.poll(LogPage { is_last: false, ..page(12) }, "e").await;
        assert_eq!(polled, Polled { again: true, ..Polled::default() });
        // In the middle of a row the log has been pruned: another row begins.
        f.poll(first(12), "f").await;
        assert_eq!(f.poll_age(), 100);
    }

    #[tokio::test]
    async fn life_whose_numbers_went_back_is_ended() {
        let mut f = fixture();
        f.poll(first(10), "a").await;
        let polled = f.poll(page(9), "b").await;
        assert_eq!(
            polled,
            Polled { again: true, is_reset: true, went_back: true, ..Polled::default() }
        );
        assert_eq!(*f.feed.ended.lock().unwrap(), [HERE]);
        f.poll(LogPage { incarnation: Incarnation { life: 2, ..HERE }, ..first(9) }, "c").await;
        assert_eq!((f.last_asked().0, f.poll_age()), (None, 100));
    }

    #[tokio::test]
    async fn node_that_is_not_registered_any_more_registers_and_starts_again() {
        let mut f = fixture();
        f.poll(first(10), "a").await;
        f.feed.polls.lock().unwrap().push_back(None);
        let polled = f.follower.poll().await.unwrap();
        assert_eq!(polled, Polled { again: true, is_reset: true, ..Polled::default() });
        assert!(f.state.poll_age() >= MAX_STALENESS);
        f.poll(first(10), "b").await;
        assert_eq!((f.last_asked(), *f.feed.registered.lock().unwrap()), ((None, true), 2));
    }

    #[tokio::test]
    async fn failed_poll_changes_nothing() {
        let mut f = fixture();
        f.poll(first(10), "a").await;
        assert!(f.follower.poll().await.is_err());
        assert_eq!(f.poll_age(), 200);
        f.clock.advance(Duration::from_millis(1));
        f.poll(page(10), "b").await;
        assert_eq!(f.last_asked(), (at("a"), true), "what was to be reported was not");
    }

    #[tokio::test]
    async fn very_many_entries_are_reported_as_an_overflow() {
        use domain::SessionId;
        use domain::coherence::RevocationMap;
        let mut f = fixture();
        let scope = |n: usize| Scope::Session(SessionId(uuid::Uuid::from_u128(n as u128)));
        let entry = |n: usize| RevocationEntry { sequence: 5, scope: scope(n) };
        let entries = (0..=RevocationMap::MAX_ENTRIES).map(entry).collect();
        assert!(f.poll(LogPage { entries, ..first(10) }, "a").await.has_overflowed);
        assert!(!f.poll(page(10), "b").await.has_overflowed);
    }
}
