//! The shape of requests and responses: bodies, parameters, problems and their fields, and the
//! address of the client.

pub(crate) mod body;
pub(crate) mod client_address;
pub(crate) mod fields;
pub(crate) mod page;
pub(crate) mod parameters;
pub(crate) mod problem;
pub(crate) mod schemas;
pub(crate) mod session_body;
pub(crate) mod session_cookie;
pub(crate) mod session_list;
