//! One handler a file, its error above it.

mod create_session_handler;
mod revoke_all_user_sessions_handler;
mod revoke_session_handler;
mod revoke_sessions_handler;

pub use create_session_handler::{CreateSessionError, CreateSessionHandler, CreatedSession};
pub use revoke_all_user_sessions_handler::{RevokeAllUserSessionsError, RevokeAllUserSessionsHandler};
pub use revoke_session_handler::{RevokeSessionError, RevokeSessionHandler};
pub use revoke_sessions_handler::{RevokeSessionsError, RevokeSessionsHandler};
