//! What can be changed.

pub mod handlers;
mod session_commands;

pub use session_commands::{CreateSession, RevokeAllUserSessions, RevokeSession, RevokeSessions};
