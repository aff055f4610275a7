//! One suite a port: each function is one MUST clause of the port's documentation, over `&dyn Port`.
//!
//! An adapter's `tests/contract.rs` runs a suite in one line, giving an async expression that answers a guard, which is held
//! while the test runs, and a fresh, empty adapter:
//!
//! ```text
//! testkit::session_repository_contract!(async { ((), Arc::new(MySessionRepository::default())) });
//! ```

use std::sync::Arc;

use domain::ports::{EventOutbox, RevocationFeed, SessionRepository, SessionRetention};

pub mod event_outbox;
mod model;
pub mod revocation_feed;
pub mod session_cache;
pub mod session_repository;
pub mod session_retention;

/// The ports of one store, for suites whose subject shows only beside the sessions.
pub struct Stores {
    /// The sessions.
    pub sessions: Arc<dyn SessionRepository>,
    /// What happened to them.
    pub events: Arc<dyn EventOutbox>,
    /// What clears them away.
    pub retention: Arc<dyn SessionRetention>,
    /// The changes that end them, as this node follows them.
    pub feed: Arc<dyn RevocationFeed>,
    /// The same for a second node, where a store can have one.
    pub other_feed: Option<Arc<dyn RevocationFeed>>,
}

/// One named test a behaviour.
#[doc(hidden)]
#[macro_export]
macro_rules! contract_tests {
    ($suite:ident, $fixture:expr, [$($name:ident),* $(,)?]) => {
        mod $suite {
            #[allow(unused_imports, reason = "the fixture may need what the file imports")]
            use super::*;
            $(
                #[tokio::test(flavor = "multi_thread", worker_threads = 2)]
                async fn $name() {
                    let (_guard, subject) = $fixture.await;
                    $crate::conformance::$suite::$name(&*subject).await;
                }
            )*
        }
    };
}
