//! Test support, never part of the product: fixtures, a clock and ids that tests own, a store in
//! memory, one conformance suite per port, and private PostgreSQL and Redis servers.
//!
//! To add a behaviour to a port: a `pub async fn` in `conformance/<port>.rs`, and its name in the
//! list of the macro below it. Every adapter of the port then runs it.

// A test that cannot go on says so by panicking; that is what this crate is for.
#![expect(
    clippy::panic,
    clippy::expect_used,
    clippy::unwrap_used,
    reason = "assertions and set-up of tests"
)]

mod clock;
pub mod conformance;
mod fault_proxy;
pub mod fixtures;
mod ids;
pub mod memory;
pub mod servers;
mod temporary_dir;

pub use clock::{FixedClock, SteppingClock};
pub use fault_proxy::{Fault, FaultProxy};
pub use ids::{SequentialIds, SequentialTokens};
pub use temporary_dir::TemporaryDir;

/// Returns the session with this id as the store has it.
///
/// # Panics
/// If the store cannot be read.
pub async fn find_session(
    repo: &(impl domain::ports::SessionRepository + ?Sized),
    id: domain::SessionId,
) -> Option<domain::Session> {
    let read = repo.find_by_id(id).await.unwrap();
    read.map(|read| std::sync::Arc::unwrap_or_clone(read.session))
}
