//! What happens to a request before its handler runs, and to its response afterwards.

pub(crate) mod limits;
pub(crate) mod observe;
pub(crate) mod routes;
pub(crate) mod work;
