//! Every route there is, as the routers have it: which credentials it wants, and that it is
//! documented.

use std::collections::BTreeSet;

use axum::body::Body;
use axum::http::{Method, Request};
use sessiond::http::gateway::paths as gateway_paths;
use sessiond::http::openapi::paths as openapi_paths;
use sessiond::http::public::{open_paths as public_pages, paths as public_paths};
use sessiond::http::service::{
    console_paths, open_paths as open_service_paths, paths as service_paths,
};
use testkit::fixtures;

use crate::fixture::{Fixture, Reply, SERVICE_KEY, bearer};

/// A listener.
#[derive(Clone, Copy)]
pub(crate) enum Listener {
    Public,
    Service,
}

async fn send(
    fixture: &Fixture,
    to: Listener,
    method: &str,
    path: &str,
    authorization: Option<&str>,
) -> Reply {
    let id = fixtures::session().id.to_string();
    let uri = path.replace("{id}", &id).replace("{user_id}", &id);
    let mut request = Request::builder().method(method).uri(uri);
    if let Some(value) = authorization {
        request = request.header("authorization", value);
    }
    let request = request.body(Body::empty()).unwrap();
    match to {
        Listener::Public => fixture.public(request).await,
        Listener::Service => fixture.service(request).await,
    }
}

/// Whether a path is a stream, which would not end.
pub(crate) fn is_stream(path: &str) -> bool {
    path.ends_with("/stream") || path.ends_with("/watch")
}

/// The methods that a path has, as `Allow` says them for one that no path has.
pub(crate) async fn methods(fixture: &Fixture, to: Listener, path: &str) -> Vec<String> {
    let response = send(fixture, to, Method::TRACE.as_str(), path, None).await;
    assert_eq!(response.status, 405, "{path}");
    response.header("allow").split(',').map(|method| method.trim().to_owned()).collect()
}

#[tokio::test]
async fn every_public_route_wants_a_token() {
    let fixture = Fixture::new();
    let gateway = gateway_paths().into_iter().map(|path| (Listener::Service, path));
    let public = public_paths().into_iter().map(|path| (Listener::Public, path));
    for (to, path) in public.chain(gateway) {
        for method in methods(&fixture, to, path).await {
            for authorization in [None, Some("Basic YTpi"), Some("Bearer"), Some("Bearer nonsense")]
            {
                let response = send(&fixture, to, &method, path, authorization).await;
                assert_eq!(response.status, 401, "{method} {path} {authorization:?}");
                assert!(
                    response.header("www-authenticate").starts_with("Bearer"),
                    "{method} {path}"
                );
                if method != "HEAD" {
                    assert_eq!(
                        response.problem(),
                        (401, "unauthenticated".into()),
                        "{method} {path}"
                    );
                }
            }
        }
    }
}

#[tokio::test]
async fn every_service_route_wants_a_known_key() {
    let fixture = Fixture::new();
    let session = fixtures::session();
    let users_token = bearer(session.user_id, session.id);
    for path in service_paths() {
        for method in methods(&fixture, Listener::Service, path).await {
            for (authorization, expected) in [
                (None, (401, "unauthenticated")),
                (Some("Basic YTpi"), (401, "unauthenticated")),
                (Some("Bearer"), (401, "unauthenticated")),
                (Some("Bearer wrong"), (403, "forbidden")),
                (Some(users_token.as_str()), (403, "forbidden")),
            ] {
                // OAuth libraries send the key as a password there.
                let is_password = path.ends_with("/introspect")
                    && authorization.is_some_and(|value| value.starts_with("Basic"));
                let expected = if is_password { (403, "forbidden") } else { expected };
                let response =
                    send(&fixture, Listener::Service, &method, path, authorization).await;
                assert_eq!(response.status, expected.0, "{method} {path} {authorization:?}");
                if method != "HEAD" {
                    assert_eq!(
                        response.problem(),
                        (expected.0, expected.1.into()),
                        "{method} {path}"
                    );
                }
            }
            if !is_stream(path) {
                let key = format!("Bearer {SERVICE_KEY}");
                let response = send(&fixture, Listener::Service, &method, path, Some(&key)).await;
                assert!(
                    ![401, 403].contains(&response.status.as_u16()),
                    "{method} {path}: {}",
                    response.status
                );
            }
        }
    }
    let open = open_service_paths().into_iter().chain(console_paths());
    let open = open.map(|path| (Listener::Service, path));
    for (to, path) in open.chain(public_pages().into_iter().map(|path| (Listener::Public, path))) {
        assert_eq!(send(&fixture, to, "GET", path, None).await.status, 200, "{path}");
    }
}

/// `docs/http.md` has every method of every path, and no other.
#[tokio::test]
async fn routes_and_documents_agree() {
    let fixture = Fixture::new();
    let mut routes = BTreeSet::new();
    let service = service_paths()
        .into_iter()
        .chain(open_service_paths())
        .chain(gateway_paths())
        .chain(openapi_paths())
        .map(|path| (Listener::Service, path));
    for (to, path) in public_paths().into_iter().map(|path| (Listener::Public, path)).chain(service)
    {
        let methods = methods(&fixture, to, path).await;
        // HEAD comes with GET.
        routes.extend(
            methods
                .iter()
                .filter(|method| *method != "HEAD")
                .map(|method| format!("{method} {path}")),
        );
    }
    let text = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/http.md"))
        .unwrap();
    let calls = text
        .lines()
        .filter(|line| line.starts_with("| `"))
        .flat_map(|line| line.split('`').skip(1).step_by(2));
    let calls = calls
        .filter(|code| code.contains(" /"))
        .map(|call| call.split('?').next().unwrap().to_owned());
    assert_eq!(routes, calls.collect::<BTreeSet<_>>());
}
