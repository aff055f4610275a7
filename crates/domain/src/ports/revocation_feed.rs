//! The revocation log, and the nodes that poll it.

use std::time::Duration;

use async_trait::async_trait;
use uuid::Uuid;

use super::PortError;
use crate::coherence::{Incarnation, LogPage};

/// Where a node is in the log, in the store's own format: what [`RevocationFeed::poll`] returned
/// with the last page that was merged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LogPosition(pub String);

/// What one poll of the log returned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Poll {
    /// The entries.
    pub page: LogPage,
    /// Where the node is once it has merged the page.
    pub position: LogPosition,
}

/// Another node of the same store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peer {
    /// Its id.
    pub node: Uuid,
    /// How long after a poll it serves what it has cached.
    pub max_staleness: Duration,
    /// How often it has reported. A node that lives does so again and again.
    pub heartbeats: u64,
    /// Whether it has reported a poll that saw every revocation that had been committed when it was
    /// asked for.
    pub is_caught_up: bool,
}

/// The other nodes of a store at one time.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Peers {
    /// The incarnation in which they are caught up or not. `None` if no node has polled since it
    /// began.
    pub incarnation: Option<Incarnation>,
    /// Every node but this one that is registered.
    pub peers: Vec<Peer>,
}

/// Reads the revocation log, and knows which nodes do (`docs/coherence.md`).
///
/// The store writes the log in the transaction that revokes, by triggers, so that direct SQL is
/// logged too. Each item below is a test of `testkit::conformance::revocation_feed`, or of
/// `revocation_feed_of_two_nodes` where a store can have more than one node.
#[async_trait]
pub trait RevocationFeed: Send + Sync {
    /// Returns whether no other process can use the store. Then there are no peers, and never were
    /// any.
    fn is_exclusive(&self) -> bool {
        false
    }

    /// Registers this node, with its maximum staleness. MUST be durable before it returns.
    ///
    /// # Errors
    /// [`PortError::Unavailable`] if the store did not respond in time.
    async fn register(&self, max_staleness: Duration) -> Result<(), PortError>;

    /// Returns the entries that came after `position`, or all that the log has, if `position` is
    /// `None` or of another incarnation. `None`: this node is not registered any more.
    ///
    /// With `is_heartbeat`, the store records that the node is alive and has merged everything up
    /// to `position`.
    ///
    /// - `revocation_is_in_the_next_poll`: also an eviction, a deletion, a lifetime that was
    ///   shortened, and a token that was rotated; by session, by user or for all users.
    /// - `revocation_that_matches_no_session_is_in_the_next_poll`: of all of a user's sessions, and
    ///   of all users': caches may hold what the store no longer has.
    /// - `poll_goes_on_from_the_one_before`: an entry may be returned twice, and MUST NOT be
    ///   missed, in any order of commits.
    /// - `first_poll_brings_what_the_log_still_has`: so that a node that has just started can serve
    ///   sessions from the shared cache.
    /// - `read_version_says_which_revocations_it_saw`: of a read before a revocation, and of one
    ///   after it; in the incarnation that the poll names.
    /// - `node_that_is_not_registered_gets_nothing`: the poll MUST return `None`.
    ///
    /// # Errors
    /// As for [`register`](Self::register).
    async fn poll(
        &self,
        position: Option<&LogPosition>,
        is_heartbeat: bool,
    ) -> Result<Option<Poll>, PortError>;

    /// Returns the peers, as soon as all of them are caught up with what was committed before this
    /// call, at the latest after `wait` or half a second, whichever is shorter.
    ///
    /// - `node_alone_has_no_peers`
    /// - `peer_lags_until_it_reports_a_poll_that_saw_the_revocation`
    /// - `peers_are_returned_as_soon_as_all_are_caught_up`: and else at the end of `wait`.
    ///
    /// # Errors
    /// As for [`register`](Self::register).
    async fn peers(&self, wait: Duration) -> Result<Peers, PortError>;

    /// Removes a peer that is dead, unless it has reported meanwhile.
    ///
    /// # Errors
    /// As for [`register`](Self::register).
    async fn remove_peer(&self, peer: &Peer) -> Result<(), PortError>;

    /// Removes this node, which serves nothing from its caches any more.
    ///
    /// # Errors
    /// As for [`register`](Self::register).
    async fn leave(&self) -> Result<(), PortError>;

    /// Deletes at most `limit` of the oldest entries that are more than an hour old and that every
    /// read has seen. Returns how many.
    ///
    /// # Errors
    /// As for [`register`](Self::register).
    async fn prune(&self, limit: u32) -> Result<u64, PortError>;

    /// Ends this incarnation, because its numbers went back: the next poll begins another.
    ///
    /// # Errors
    /// As for [`register`](Self::register).
    async fn end_incarnation(&self, incarnation: Incarnation) -> Result<(), PortError>;
}
