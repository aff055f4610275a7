//! The ports: what the application needs of the world outside, as traits that adapters implement.
//!
//! Handlers hold `Arc<dyn Port>`, because adapters are chosen at run time. Each MUST clause of a port's documentation is a
//! function of the same name in `testkit::conformance`, run against every adapter.

mod clock;
mod error;
mod health_check;
mod id_generator;
mod session_cache;
mod session_repository;

pub use clock::Clock;
pub use error::PortError;
pub use health_check::HealthCheck;
pub use id_generator::IdGenerator;
pub use session_cache::{CachedSession, Layer, SessionCache};
pub use session_repository::{EndedSession, Insertion, ListPosition, SessionListing, SessionPage, SessionRepository};
