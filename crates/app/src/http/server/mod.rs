//! A listener and its connections: how many there may be, and their time-outs.

pub(crate) mod admission;
pub(crate) mod connection;
pub(crate) mod listener;
