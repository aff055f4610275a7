//! The console: a page on which operators search sessions and revoke them. It asks for a service
//! key, and does what that key may.

use axum::response::Response;
use axum::routing::{MethodRouter, get};

use super::ServiceState;
use crate::http::wire::page::{module, page, stylesheet};

/// Returns the routes of the page and of its files. They need no key: the page presents the
/// operator's.
pub(super) fn routes() -> [(&'static str, MethodRouter<ServiceState>); 3] {
    [
        ("/console", get(console_page)),
        ("/console/console.css", get(console_style)),
        ("/console/console.js", get(console_module)),
    ]
}

async fn console_page() -> Response {
    page(include_str!("../../../assets/console.html"))
}

async fn console_style() -> Response {
    stylesheet(include_str!("../../../assets/console.css"))
}

async fn console_module() -> Response {
    module(include_str!("../../../assets/console.js"))
}
