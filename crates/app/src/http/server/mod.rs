//! A listener and its connections: how many there may be, their time-outs, and who is at the other
//! end.

pub(crate) mod admission;
pub(crate) mod client_address;
pub(crate) mod connection;
pub(crate) mod listener;
