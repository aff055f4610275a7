//! What can be changed.

pub mod handlers;
mod session_commands;

pub use session_commands::{
    CleanUp, CreateSession, EditSession, ImportSessions, RecordActivity, RevokeAllSessions,
    RevokeAllUserSessions, RevokeMatchingSessions, RevokeSession, RevokeSessions, RotateToken,
};
