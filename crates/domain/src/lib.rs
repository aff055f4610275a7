//! What a session is, and the ports through which its home is reached.
//!
//! This crate knows nothing about HTTP, SQL, Redis, configuration or a runtime: it does no I/O and reads no clock.
//! Everything outside is a trait in [`ports`]; times, ids and randomness come in as arguments or through those traits.
//!
//! To add a port: write the trait in `ports/`, with one MUST clause a behaviour in its doc comment; write one function a
//! clause in `testkit::conformance`; implement it in an adapter, whose `tests/contract.rs` runs the suite in one line.

mod ids;
mod policy;
pub mod ports;
mod session;

pub use ids::{SessionId, UserId};
pub use policy::{OnLimit, SessionLimit, SessionPolicy};
pub use session::{
    Actor, REASON_MAX_CHARS, Revocation, Session, SessionError, SessionStatus, USER_AGENT_MAX_BYTES,
    truncated_user_agent,
};
