//! One handler a file, its error above it.

mod clean_up_handler;
mod create_session_handler;
mod edit_session_handler;
mod import_sessions_handler;
mod record_activity_handler;
mod revoke_all_sessions_handler;
mod revoke_all_user_sessions_handler;
mod revoke_matching_sessions_handler;
mod revoke_session_handler;
mod revoke_sessions_handler;
mod rotate_token_handler;

pub use clean_up_handler::{CleanUpHandler, CleanedUp};
pub use create_session_handler::{
    CreateSessionError, CreateSessionHandler, CreatedSession, Enrichers,
};
pub use edit_session_handler::{EditSessionError, EditSessionHandler};
pub use import_sessions_handler::{ImportSessionsError, ImportSessionsHandler, ImportedSessions};
pub use record_activity_handler::{RecordActivityError, RecordActivityHandler};
pub use revoke_all_sessions_handler::RevokeAllSessionsHandler;
pub use revoke_all_user_sessions_handler::RevokeAllUserSessionsHandler;
pub use revoke_matching_sessions_handler::RevokeMatchingSessionsHandler;
pub use revoke_session_handler::{RevokeSessionError, RevokeSessionHandler};
pub use revoke_sessions_handler::RevokeSessionsHandler;
pub use rotate_token_handler::{IssuedToken, RotateTokenError, RotateTokenHandler};
