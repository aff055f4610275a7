//! What the micro-benchmarks share.

use domain::coherence::{Incarnation, ReadVersion, Snapshot};
use domain::{Session, UserId};
use testkit::fixtures;

/// A session such as browsers make, read from a database, with an id of its own.
pub fn session(n: u64) -> Session {
    let whole = fixtures::session_number(n);
    let user_id = UserId(whole.id.0);
    Session { user_id, ..whole }
}

/// What a read that had seen everything had seen.
pub fn read_version() -> ReadVersion {
    let incarnation = Incarnation { system: 1, database: 1, life: 1 };
    ReadVersion { incarnation, snapshot: Snapshot::below(u64::MAX) }
}
