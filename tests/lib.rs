//! What the tests of the whole share.

// A test that cannot go on says so by panicking.
#![expect(clippy::unwrap_used, clippy::panic, reason = "set-up of tests")]

pub mod node;
pub mod npm;
pub mod repository;

/// The table of the Python original, with 1234 sessions, of which 617 never expire and 246 are
/// revoked.
pub const DASHTAM_SESSIONS: &str = include_str!("dashtam_sessions.sql");
