//! The revocation log of an in-memory store, for tests.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use domain::coherence::{Incarnation, LogPage, Snapshot};
use domain::ports::{LogPosition, Peer, Peers, Poll, PortError, RevocationFeed};
use uuid::Uuid;

use super::database::MemoryDatabase;

/// The nodes of one in-memory store.
#[derive(Clone, Default)]
pub struct MemoryNodes(Arc<Mutex<BTreeMap<Uuid, Lease>>>);

#[derive(Clone, Copy, Default)]
struct Lease {
    max_staleness: Duration,
    heartbeats: u64,
    /// In which life every entry with a smaller number is merged.
    applied: Option<(u64, u64)>,
}

/// [`RevocationFeed`] in the memory of this process, for tests.
pub struct MemoryRevocationFeed {
    database: MemoryDatabase,
    nodes: MemoryNodes,
    node: Uuid,
}

impl MemoryRevocationFeed {
    /// Creates the feed of this database for a node of this id, one of `nodes`.
    pub fn new(database: MemoryDatabase, nodes: MemoryNodes, node: Uuid) -> Self {
        Self { database, nodes, node }
    }
}

impl MemoryNodes {
    /// Drops all leases, as a restore may that brings back those of another time.
    pub fn clear(&self) {
        self.lock().clear();
    }

    fn lock(&self) -> MutexGuard<'_, BTreeMap<Uuid, Lease>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A position is the life and the number that the next entry gets.
fn parse(position: &LogPosition) -> Option<(u64, u64)> {
    let (life, next) = position.0.split_once(':')?;
    Some((life.parse().ok()?, next.parse().ok()?))
}

#[async_trait]
impl RevocationFeed for MemoryRevocationFeed {
    async fn register(&self, max_staleness: Duration) -> Result<(), PortError> {
        let _tables = self.database.tables()?;
        self.nodes.lock().insert(self.node, Lease { max_staleness, ..Lease::default() });
        Ok(())
    }

    async fn poll(
        &self,
        position: Option<&LogPosition>,
        is_heartbeat: bool,
    ) -> Result<Option<Poll>, PortError> {
        let tables = self.database.tables()?;
        let mut nodes = self.nodes.lock();
        let Some(lease) = nodes.get_mut(&self.node) else { return Ok(None) };
        let position = position.and_then(parse);
        if is_heartbeat {
            lease.heartbeats += 1;
            lease.applied = position;
        }
        let incarnation = tables.incarnation();
        let since = position
            .filter(|(life, _)| *life == incarnation.life)
            .map(|(_, next)| Snapshot::below(next));
        let snapshot = tables.snapshot();
        let page = LogPage {
            incarnation,
            entries: tables.entries_after(&since.clone().unwrap_or_default()),
            is_last: true,
            starts_over: since.is_none().then(Snapshot::default),
            snapshot: snapshot.clone(),
        };
        Ok(Some(Poll {
            page,
            position: LogPosition(format!("{}:{}", incarnation.life, snapshot.xmax())),
        }))
    }

    async fn peers(&self, _: Duration) -> Result<Peers, PortError> {
        let tables = self.database.tables()?;
        let incarnation = tables.incarnation();
        let next = tables.snapshot().xmax();
        let nodes = self.nodes.lock();
        let others = nodes.iter().filter(|(node, _)| **node != self.node);
        let peer = |(node, lease): (&Uuid, &Lease)| Peer {
            node: *node,
            max_staleness: lease.max_staleness,
            heartbeats: lease.heartbeats,
            is_caught_up: lease
                .applied
                .is_some_and(|(life, merged)| life == incarnation.life && merged >= next),
        };
        Ok(Peers { incarnation: Some(incarnation), peers: others.map(peer).collect() })
    }

    async fn remove_peer(&self, peer: &Peer) -> Result<(), PortError> {
        let mut nodes = self.nodes.lock();
        if nodes.get(&peer.node).is_some_and(|lease| lease.heartbeats == peer.heartbeats) {
            nodes.remove(&peer.node);
        }
        Ok(())
    }

    async fn leave(&self) -> Result<(), PortError> {
        self.nodes.lock().remove(&self.node);
        Ok(())
    }

    async fn prune(&self, _: u32) -> Result<u64, PortError> {
        Ok(0)
    }

    async fn end_incarnation(&self, _: Incarnation) -> Result<(), PortError> {
        Ok(())
    }
}
