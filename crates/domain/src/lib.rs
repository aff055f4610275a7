//! What a session is, and the ports through which its home is reached.
//!
//! This crate knows nothing about HTTP, SQL, Redis, configuration or a runtime: it does no I/O and
//! reads no clock. Everything outside is a trait in [`ports`]; times, ids and randomness come in as
//! arguments or through those traits.
//!
//! To add a port: write the trait in `ports/`, with one MUST clause a behaviour in its doc comment;
//! write one function a clause in `testkit::conformance`; implement it in an adapter, whose
//! `tests/contract.rs` runs the suite in one line.

mod activity;
mod address;
pub mod coherence;
mod device;
mod ids;
mod metadata;
mod name;
mod policy;
pub mod ports;
mod session;
mod session_event;
mod session_token;

pub use activity::Touch;
pub use address::parse_ip_address;
pub use device::{Device, DeviceKind};
pub use ids::{SessionId, UserId};
pub use metadata::{METADATA_MAX_BYTES, Metadata, metadata_text};
pub use name::{NAME_MAX_CHARS, NameError, parse_name};
pub use policy::{
    ExpiryNotInTheFuture, OnLimit, OnTokenReuse, SessionLimit, SessionPolicy, TokenPolicy,
};
pub use session::{
    Actor, IDEMPOTENCY_KEY_MAX_BYTES, IdempotencyKey, REASON_MAX_CHARS, Revocation,
    SERVICE_NAME_MAX_BYTES, Session, SessionStatus, USER_AGENT_MAX_BYTES, truncated_user_agent,
};
pub use session_event::{
    EVICTED_BY_LIMIT, EXPIRED_BY_IDLING, EXPIRED_BY_LIFETIME, REVOKED_BY_TOKEN_REUSE, SessionEvent,
    SessionEventKind,
};
pub use session_token::{
    ReplacedToken, SessionTokens, TOKEN_SECRET_BYTES, TokenHash, TokenSecret, TokenVerdict,
};
