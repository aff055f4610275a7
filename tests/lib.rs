//! What the tests of the whole share.

// A test that cannot go on says so by panicking.
#![expect(clippy::unwrap_used, clippy::panic, reason = "set-up of tests")]

pub mod node;
