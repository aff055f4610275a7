//! The limit of everything that asks Redis behind axum: one `GET` a request, and its value as the
//! response.
//!
//! `bare_redis PORT REDIS_URL`; the key is the bearer token of the request.

use axum::Router;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use fred::prelude::*;
use tokio::net::TcpListener;

#[tokio::main]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let port = arguments.next().expect("a port");
    let url = arguments.next().expect("a URL");
    let config = Config::from_url(&url).expect("a URL");
    // As many connections as sessiond has.
    let pool = Builder::from_config(config).build_pool(2).expect("a pool");
    pool.init().await.expect("Redis");
    let router = Router::new().route("/{*path}", get(read)).with_state(pool);
    let listener = TcpListener::bind(format!("127.0.0.1:{port}")).await.expect("a listener");
    axum::serve(listener, router).await.expect("it serves");
}

async fn read(State(pool): State<Pool>, headers: HeaderMap) -> Response {
    let token = headers.get(header::AUTHORIZATION).and_then(|value| value.to_str().ok());
    let Some(key) = token.and_then(|token| token.strip_prefix("Bearer ")) else {
        return StatusCode::UNAUTHORIZED.into_response();
    };
    match pool.get::<Option<String>, _>(key).await {
        Ok(Some(value)) => ([(header::CONTENT_TYPE, "application/json")], value).into_response(),
        Ok(None) => StatusCode::NOT_FOUND.into_response(),
        Err(_) => StatusCode::SERVICE_UNAVAILABLE.into_response(),
    }
}
