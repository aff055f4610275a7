//! What the micro-benchmarks share.

use domain::coherence::{Incarnation, ReadStamp, Stamp};
use domain::{Session, UserId};
use testkit::fixtures;

/// A session such as browsers make, read from a database, with an id of its own.
pub fn session(n: u64) -> Session {
    let stamp = ReadStamp { incarnation: Incarnation { system: 1, timeline: 1 }, seen_below: u64::MAX };
    let whole = fixtures::session_number(n);
    let user_id = UserId(whole.id.0);
    Session { user_id, stamp: Stamp(Some(stamp)), ..whole }
}
