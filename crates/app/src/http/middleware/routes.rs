//! How a listener's routes become a router, and what is returned where there is no route.

use axum::Router;
use axum::http::Uri;
use axum::routing::MethodRouter;

use crate::http::wire::problem::Problem;

/// Makes a router of these paths.
pub(crate) fn with_routes<S: Clone + Send + Sync + 'static>(
    routes: impl IntoIterator<Item = (&'static str, MethodRouter<S>)>,
) -> Router<S> {
    routes.into_iter().fold(Router::new(), |router, (path, methods)| router.route(path, methods))
}

/// Returns the problem for a path that a listener does not have. If it begins with one of
/// `elsewhere`, it names the setting of the other listener: a caller that has mixed up the ports
/// sees which one to use.
pub(crate) fn no_route(uri: &Uri, elsewhere: &[&str], setting: &str) -> Problem {
    let is_elsewhere = elsewhere.iter().any(|prefix| uri.path().starts_with(prefix));
    if is_elsewhere { Problem::on_other_listener(setting) } else { Problem::not_found() }
}

/// Refuses a method that a path does not have.
pub(crate) async fn method_not_allowed() -> Problem {
    Problem::method_not_allowed()
}
