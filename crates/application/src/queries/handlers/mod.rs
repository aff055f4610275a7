//! One handler a file, its error above it.

mod get_session_handler;
mod inspect_session_handler;
mod list_events_handler;
mod list_sessions_handler;
mod search_sessions_handler;
mod verify_token_handler;

pub use get_session_handler::{FoundSession, GetSessionError, GetSessionHandler, SessionResult};
pub use inspect_session_handler::{InspectSessionError, InspectSessionHandler};
pub use list_events_handler::ListEventsHandler;
pub use list_sessions_handler::{ListUserSessionsHandler, ListedSessions};
pub use search_sessions_handler::{FoundSessions, SearchSessionsHandler};
pub use verify_token_handler::{VerifyTokenError, VerifyTokenHandler};
