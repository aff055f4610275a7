//! The rules that make a revocation final on every node: when a cached session may be served, and
//! when a revocation may be acknowledged (`docs/coherence.md`).
//!
//! Everything here is pure: no clock, no I/O. A store numbers the transactions that revoke
//! sessions. A cached session carries the [`ReadVersion`] of the read that found it: which
//! transactions that read could see. Each node polls the revocation log into its
//! [`RevocationMap`], and serves a cached session only if its last poll is recent enough, and if
//! the read had seen every revocation that the map has for the session.
//!
//! Why an acknowledged revocation is final: a node that serves from a cache at some time has sent
//! a poll less than its maximum staleness before. The acknowledgement waits for longer than that
//! after the commit, or for the node's report that it has merged the revocation. So a read that
//! starts after the acknowledgement is served from a cache only by a node whose map has it.

mod deadline;
mod read_version;
mod revocation_map;
mod snapshot;

pub use deadline::{MonotonicInstant, ack_deadline, may_acknowledge};
pub use read_version::{Incarnation, ReadVersion, SessionRead};
pub use revocation_map::{Applied, LogPage, Refusal, RevocationEntry, RevocationMap, Scope};
pub use snapshot::Snapshot;
