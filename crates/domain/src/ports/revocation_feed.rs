use std::time::Duration;

use async_trait::async_trait;
use uuid::Uuid;

use super::PortError;
use crate::coherence::FeedPage;

/// What one look at the changes brought.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Look {
    /// The changes.
    pub page: FeedPage,
    /// The moment of the look, in the store's own words; what `look` is given back once the page is merged.
    pub moment: String,
}

/// Another node of the same store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OtherNode {
    /// Which.
    pub node: Uuid,
    /// For how long it answers what it remembers after a look.
    pub delta: Duration,
    /// How often it has looked; a node that lives looks again and again.
    pub renewals: u64,
}

/// The nodes there were at one moment, and a number for the moment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Mark {
    /// A change of nothing, which whoever looks later sees.
    pub change: u64,
    /// Every node but this one that was registered then.
    pub others: Vec<OtherNode>,
}

/// Follows the changes that end sessions, and knows who else does (`docs/coherence.md`).
///
/// The store writes its log in the transaction of the change, by triggers, whoever makes the change.
///
/// - `an_end_is_seen_by_the_next_look`: revoked, evicted, deleted, made shorter; by a session, a user or everybody.
/// - `a_look_goes_on_from_the_one_before`: what it found may be found again, and nothing is missed, in whatever order writers
///   commit.
/// - `a_read_is_stamped_with_what_it_has_seen`: a session that was found before an end is stamped below it, one that is found
///   after it above; on the history that the look names.
/// - `a_node_alone_waits_for_nobody`
/// - `who_is_not_registered_learns_nothing`: a look MUST renew this node's lease, and answer `None` where there is none.
/// - `other_nodes_are_behind_until_they_say_otherwise`
#[async_trait]
pub trait RevocationFeed: Send + Sync {
    /// Makes this node known, with its delta. MUST be durable before it returns.
    ///
    /// # Errors
    /// [`PortError::Unavailable`] if the store did not answer in time.
    async fn register(&self, delta: Duration) -> Result<(), PortError>;

    /// The changes from number `from` on (from those that are under way, if absent), at one moment; says that the look of the
    /// moment `applied` is merged. `None`: this node is not registered any more.
    ///
    /// # Errors
    /// As for [`register`](Self::register).
    async fn look(&self, from: Option<u64>, applied: Option<&str>) -> Result<Option<Look>, PortError>;

    /// Marks this moment, after a commit.
    ///
    /// # Errors
    /// As for [`register`](Self::register).
    async fn mark(&self) -> Result<Mark, PortError>;

    /// The other nodes that have not merged a look that saw this mark.
    ///
    /// # Errors
    /// As for [`register`](Self::register).
    async fn behind(&self, change: u64) -> Result<Vec<OtherNode>, PortError>;

    /// Takes a node off the list that stood still, if it still does.
    ///
    /// # Errors
    /// As for [`register`](Self::register).
    async fn remove(&self, node: &OtherNode) -> Result<(), PortError>;

    /// Takes this node off the list: from now on it answers nothing that it remembers.
    ///
    /// # Errors
    /// As for [`register`](Self::register).
    async fn leave(&self) -> Result<(), PortError>;

    /// Clears away at most `limit` of the oldest entries of the log, of those older than an hour.
    ///
    /// # Errors
    /// As for [`register`](Self::register).
    async fn prune(&self, limit: u32) -> Result<u64, PortError>;
}
