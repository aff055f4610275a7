//! The limit of everything behind axum: a response of the same size that is always the same.
//!
//! `constant PORT BODY_FILE`

use axum::Router;
use axum::http::{HeaderName, HeaderValue, header};
use axum::routing::get;
use tokio::net::TcpListener;

#[tokio::main]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let port = arguments.next().expect("a port");
    let file = arguments.next().expect("a file");
    let body: &'static str = std::fs::read_to_string(file).expect("a body").leak();
    let headers = [
        (header::CONTENT_TYPE, HeaderValue::from_static("application/json")),
        (header::CACHE_CONTROL, HeaderValue::from_static("no-store")),
        (
            HeaderName::from_static("cache-status"),
            HeaderValue::from_static("sessiond; hit; detail=near"),
        ),
        (
            HeaderName::from_static("x-request-id"),
            HeaderValue::from_static("019aa000-0000-7000-8000-000000000000"),
        ),
    ];
    let router = Router::new().route("/{*path}", get(move || async move { (headers, body) }));
    let listener = TcpListener::bind(format!("127.0.0.1:{port}")).await.expect("a listener");
    axum::serve(listener, router).await.expect("it serves");
}
