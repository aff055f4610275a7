//! How a read found a session: in which database, and what it could see there. This travels beside
//! a session, never inside it.

use std::sync::Arc;

use super::Snapshot;
use crate::session::Session;

/// Which database, in which of its lives. Transaction ids of one mean nothing in another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Incarnation {
    /// The server: PostgreSQL's system identifier.
    pub system: u64,
    /// The database of that server: its OID.
    pub database: u32,
    /// A random id of this life of the database. A new life begins after everything that may use
    /// transaction ids again, or may bring back what was revoked: a crash, a promotion, a restore,
    /// a copy.
    pub life: u64,
}

/// What the read that found a session had seen.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ReadVersion {
    /// Where it read.
    pub incarnation: Incarnation,
    /// Which transactions it could see, [limited](Snapshot::limited).
    pub snapshot: Snapshot,
}

/// A session as a read of the store found it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SessionRead {
    /// The session.
    pub session: Arc<Session>,
    /// What the read had seen. `None` if that is not known, for example right after a crash of the
    /// server: such a session cannot be cached.
    pub version: Option<ReadVersion>,
}
