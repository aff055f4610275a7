//! The ports: what the application needs of the world outside, as traits that adapters implement.
//!
//! Handlers hold `Arc<dyn Port>`, because adapters are chosen at run time. Each MUST clause of a
//! port's documentation is a function of the same name in `testkit::conformance`, run against every
//! adapter.

mod clock;
mod device_enricher;
mod error;
mod event_outbox;
mod health_check;
mod id_generator;
mod location_enricher;
mod monotonic_clock;
mod node_directory;
mod revocation_feed;
mod session_cache;
mod session_repository;
mod session_retention;
mod session_search;
mod session_source;
mod token_generator;

pub use clock::Clock;
pub use device_enricher::DeviceEnricher;
pub use error::PortError;
pub use event_outbox::{EventOutbox, EventQuery};
pub use health_check::HealthCheck;
pub use id_generator::IdGenerator;
pub use location_enricher::LocationEnricher;
pub use monotonic_clock::MonotonicClock;
pub use node_directory::{NodeDirectory, NodeReport, REPORT_RETENTION};
pub use revocation_feed::{LogPosition, Peer, Peers, Poll, RevocationFeed};
pub use session_cache::{CachedSession, Layer, SessionCache};
pub use session_repository::{
    EditableFields, Insertion, ListPosition, MAX_COUNTED, SessionEdit, SessionKey, SessionListing,
    SessionPage, SessionRepository, TokenRotation,
};
pub use session_retention::SessionRetention;
pub use session_search::{MAX_EXAMINED, SearchPage, SessionFilter, SessionSearch};
pub use session_source::{SessionSource, SourceSession};
pub use token_generator::TokenGenerator;
