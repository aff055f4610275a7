//! What can be asked. A query changes nothing but caches; [`VerifyToken`] records a reused token.

pub mod handlers;
mod session_queries;

pub use session_queries::{
    GetSession, InspectSession, ListUserSessions, SearchSessions, VerifyToken,
};
