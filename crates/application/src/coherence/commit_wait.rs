//! How long a revocation that has been committed waits until it is effective on every node.

use std::pin::pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use domain::coherence::{MonotonicInstant, ack_deadline, may_acknowledge};
use domain::ports::{MonotonicClock, Peers, PortError, RevocationFeed};
use fail::fail_point;
use futures_util::future::{Either, select};

use super::RevocationState;
#[cfg(feature = "failpoints")]
use super::injected_bugs::{BOUNDARY, just_before};

/// The pause before the store is asked again.
const PAUSE: Duration = Duration::from_millis(10);

/// Waits until no node can serve what was revoked: until every peer has reported that it knows, or
/// for longer than any of them serves what it has cached.
pub struct CommitWait {
    feed: Arc<dyn RevocationFeed>,
    clock: Arc<dyn MonotonicClock>,
    state: Arc<RevocationState>,
    /// The longest maximum staleness of this node and of any peer that it ever polled, for when
    /// the store cannot be asked.
    longest: Mutex<Duration>,
}

impl CommitWait {
    /// Creates the commit wait of a node.
    pub fn new(
        feed: Arc<dyn RevocationFeed>,
        clock: Arc<dyn MonotonicClock>,
        state: Arc<RevocationState>,
    ) -> Self {
        let longest = Mutex::new(state.max_staleness());
        Self { feed, clock, state, longest }
    }

    /// Returns how long a revocation may have to wait.
    pub fn longest(&self) -> Duration {
        ack_deadline(MonotonicInstant::default(), *self.longest_staleness()).0
    }

    /// Waits until what had been committed at `committed` is effective on every node: until all
    /// nodes have polled the revocation, or none can serve what it cached before.
    ///
    /// # Cancel safety
    /// A wait that is dropped leaves nothing behind. Its revocation must not be acknowledged.
    pub(crate) async fn wait(&self, committed: MonotonicInstant) {
        fail_point!("bug-no-wait", |_| ());
        if self.feed.is_exclusive() {
            return;
        }
        let mut deadline = self.deadline(committed, *self.longest_staleness());
        loop {
            let now = self.state.now();
            if may_acknowledge(now, deadline) {
                return;
            }
            let left = deadline.0.saturating_sub(now.0);
            if let Ok(peers) = self.peers(left).await {
                let Some(present) = self.deadline_for(&peers, committed) else { return };
                if may_acknowledge(self.state.now(), present) {
                    return;
                }
                deadline = present;
            }
            let left = deadline.0.saturating_sub(self.state.now().0) + Duration::from_nanos(1);
            self.clock.sleep(PAUSE.min(left)).await;
        }
    }

    /// Returns how long it takes at most until what had been committed at `committed` is effective
    /// on every node.
    pub(crate) async fn remaining(&self, committed: MonotonicInstant) -> Duration {
        if self.feed.is_exclusive() {
            return Duration::ZERO;
        }
        let deadline = match self.peers(Duration::ZERO).await {
            Ok(peers) => self.deadline_for(&peers, committed).unwrap_or_default(),
            Err(_) => self.deadline(committed, *self.longest_staleness()),
        };
        deadline.0.saturating_sub(self.clock.now().0)
    }

    /// Asks for the peers, for as long as `left` and the store's own limit allow.
    async fn peers(&self, left: Duration) -> Result<Peers, PortError> {
        let asked = self.feed.peers(left);
        if left.is_zero() {
            return asked.await;
        }
        match select(pin!(asked), pin!(self.clock.sleep(left))).await {
            Either::Left((peers, _)) => peers,
            Either::Right(_) => {
                Err(PortError::unavailable("the store did not respond before the deadline"))
            }
        }
    }

    /// Returns the time after which no node serves what was revoked; `None` if none does.
    fn deadline_for(&self, peers: &Peers, committed: MonotonicInstant) -> Option<MonotonicInstant> {
        self.learn(peers);
        let longest = *self.longest_staleness();
        let lagging = peers.peers.iter().filter(|peer| !peer.is_caught_up);
        let lagging = lagging.map(|peer| self.deadline(committed, peer.max_staleness)).max();
        let earlier = self.state.earlier_incarnations_served_until(peers.incarnation, longest);
        let earlier = earlier.unwrap_or_else(|| self.deadline(committed, longest));
        let earlier = Some(earlier).filter(|earlier| !may_acknowledge(self.state.now(), *earlier));
        lagging.max(earlier)
    }

    /// Records how long the peers serve what they have cached.
    pub(super) fn learn(&self, peers: &Peers) {
        let mut longest = self.longest_staleness();
        for peer in &peers.peers {
            *longest = longest.max(peer.max_staleness);
        }
    }

    fn deadline(&self, committed: MonotonicInstant, max_staleness: Duration) -> MonotonicInstant {
        fail_point!(BOUNDARY, |_| just_before(committed.saturating_add(max_staleness)));
        ack_deadline(committed, max_staleness)
    }

    /// No method panics while it holds it.
    fn longest_staleness(&self) -> MutexGuard<'_, Duration> {
        self.longest.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
