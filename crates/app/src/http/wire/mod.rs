//! What requests and responses look like: bodies, parameters, problems, and the fields they are
//! made of.

pub(crate) mod body;
pub(crate) mod fields;
pub(crate) mod parameters;
pub(crate) mod problem;
pub(crate) mod session_body;
pub(crate) mod session_list;
