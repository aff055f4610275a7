use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use async_trait::async_trait;
use domain::coherence::{FeedPage, LoggedEnd, Scope};
use domain::ports::{Look, Mark, OtherNode, PortError, RevocationFeed};
use uuid::Uuid;

use crate::memory_database::{INCARNATION, MemoryDatabase};

/// The nodes of one in-memory store.
#[derive(Clone, Default)]
pub struct MemoryNodes(Arc<Mutex<BTreeMap<Uuid, Lease>>>);

#[derive(Clone, Copy, Default)]
struct Lease {
    delta: Duration,
    renewals: u64,
    /// Every change with a smaller number is merged.
    applied: u64,
}

/// [`RevocationFeed`] in the memory of this process, for tests.
pub struct MemoryRevocationFeed {
    database: MemoryDatabase,
    nodes: MemoryNodes,
    node: Uuid,
}

impl MemoryRevocationFeed {
    /// The feed of this database for a node of this id, one of `nodes`.
    pub fn new(database: MemoryDatabase, nodes: MemoryNodes, node: Uuid) -> Self {
        Self { database, nodes, node }
    }

    fn others(&self, fits: impl Fn(&Lease) -> bool) -> Vec<OtherNode> {
        let nodes = self.nodes.lock();
        let others = nodes.iter().filter(|(node, lease)| **node != self.node && fits(lease));
        others.map(|(node, lease)| OtherNode { node: *node, delta: lease.delta, renewals: lease.renewals }).collect()
    }
}

impl MemoryNodes {
    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<Uuid, Lease>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[async_trait]
impl RevocationFeed for MemoryRevocationFeed {
    async fn register(&self, delta: Duration) -> Result<(), PortError> {
        let _tables = self.database.tables()?;
        self.nodes.lock().entry(self.node).or_default().delta = delta;
        Ok(())
    }

    async fn look(&self, from: Option<u64>, applied: Option<&str>) -> Result<Option<Look>, PortError> {
        let tables = self.database.tables()?;
        let mut nodes = self.nodes.lock();
        let Some(lease) = nodes.get_mut(&self.node) else { return Ok(None) };
        lease.renewals += 1;
        lease.applied = applied.and_then(|moment| moment.parse().ok()).unwrap_or_default();
        let next = tables.next_change();
        let numbered = (1..).zip(&tables.ends).filter(|(change, _)| *change >= from.unwrap_or(next));
        let ends = numbered.map(|(change, id)| LoggedEnd { change, scope: Scope::Session(*id) }).collect();
        let page = FeedPage { incarnation: INCARNATION, ends, complete: true, next, kept_from: 0 };
        Ok(Some(Look { page, moment: next.to_string() }))
    }

    async fn mark(&self) -> Result<Mark, PortError> {
        let change = self.database.tables()?.next_change() - 1;
        Ok(Mark { change, others: self.others(|_| true) })
    }

    async fn behind(&self, change: u64) -> Result<Vec<OtherNode>, PortError> {
        let _tables = self.database.tables()?;
        Ok(self.others(|lease| lease.applied <= change))
    }

    async fn remove(&self, node: &OtherNode) -> Result<(), PortError> {
        let mut nodes = self.nodes.lock();
        if nodes.get(&node.node).is_some_and(|lease| lease.renewals == node.renewals) {
            nodes.remove(&node.node);
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
}
