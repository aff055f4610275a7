//! Removes peers that are dead.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use domain::coherence::MonotonicInstant;
use domain::ports::{MonotonicClock, Peer, PortError, RevocationFeed};
use uuid::Uuid;

use super::CommitWait;

/// A peer is dead once it has missed heartbeats for this many of its maximum stalenesses.
const STALENESSES_UNTIL_DEAD: u32 = 10;

/// Monitors the peers of this node: removes those that are dead, so that no revocation waits for
/// them.
pub struct PeerMonitor {
    feed: Arc<dyn RevocationFeed>,
    clock: Arc<dyn MonotonicClock>,
    commit_wait: Arc<CommitWait>,
    /// The last heartbeat of each peer, and since when this node has seen it.
    last_heartbeats: HashMap<Uuid, (u64, MonotonicInstant)>,
}

impl PeerMonitor {
    /// Creates the monitor of a node that has not seen its peers yet.
    pub fn new(
        feed: Arc<dyn RevocationFeed>,
        clock: Arc<dyn MonotonicClock>,
        commit_wait: Arc<CommitWait>,
    ) -> Self {
        Self { feed, clock, commit_wait, last_heartbeats: HashMap::new() }
    }

    /// Removes the peers that are dead. Returns which.
    ///
    /// # Errors
    /// [`PortError::Unavailable`] if the store did not respond.
    pub async fn remove_dead_peers(&mut self) -> Result<Vec<Peer>, PortError> {
        let peers = self.feed.peers(Duration::ZERO).await?;
        self.commit_wait.learn(&peers);
        let now = self.clock.now();
        let peers = peers.peers;
        self.last_heartbeats.retain(|node, _| peers.iter().any(|peer| peer.node == *node));
        let mut dead = Vec::new();
        for peer in peers {
            let (heartbeats, since) =
                self.last_heartbeats.entry(peer.node).or_insert((peer.heartbeats, now));
            if *heartbeats != peer.heartbeats {
                (*heartbeats, *since) = (peer.heartbeats, now);
            } else if now > since.saturating_add(peer.max_staleness * STALENESSES_UNTIL_DEAD) {
                dead.push(peer);
            }
        }
        for peer in &dead {
            self.feed.remove_peer(peer).await?;
        }
        Ok(dead)
    }
}
