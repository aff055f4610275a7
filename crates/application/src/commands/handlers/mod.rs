//! One handler a file, its error above it.

mod create_session_handler;

pub use create_session_handler::{CreateSessionError, CreateSessionHandler};
