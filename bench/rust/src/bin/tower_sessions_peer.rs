//! tower-sessions as its documentation shows it: sessions in PostgreSQL, cached in Redis.
//!
//! `tower_sessions_peer PORT REDIS_URL POSTGRES_URL`

use axum::http::StatusCode;
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::{Deserialize, Serialize};
use sqlx::postgres::PgPoolOptions;
use tokio::net::TcpListener;
use tower_sessions::cookie::time::Duration;
use tower_sessions::{CachingSessionStore, Expiry, Session, SessionManagerLayer};
use tower_sessions_redis_store::RedisStore;
use tower_sessions_redis_store::fred::prelude::*;
use tower_sessions_sqlx_store::PostgresStore;

#[derive(Deserialize, Serialize)]
struct Device {
    user_id: String,
    device_info: String,
    ip_address: String,
    location: String,
    created_at: String,
    last_activity_at: String,
    expires_at: String,
}

#[tokio::main]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let mut argument = || arguments.next().expect("PORT REDIS_URL POSTGRES_URL");
    let port = argument();
    let redis_url = argument();
    let postgres_url = argument();
    let redis = Pool::new(Config::from_url(&redis_url).expect("a URL"), None, None, None, 2)
        .expect("a pool");
    redis.init().await.expect("Redis");
    let postgres =
        PgPoolOptions::new().max_connections(16).connect(&postgres_url).await.expect("PostgreSQL");
    let store = PostgresStore::new(postgres);
    store.migrate().await.expect("a schema");
    let sessions =
        SessionManagerLayer::new(CachingSessionStore::new(RedisStore::new(redis), store))
            .with_secure(false)
            .with_expiry(Expiry::OnInactivity(Duration::days(30)));
    let router =
        Router::new().route("/sign-in", post(sign_in)).route("/session", get(read)).layer(sessions);
    let listener = TcpListener::bind(format!("127.0.0.1:{port}")).await.expect("a listener");
    axum::serve(listener, router).await.expect("it serves");
}

async fn sign_in(session: Session, Json(device): Json<Device>) -> StatusCode {
    session
        .insert("device", device)
        .await
        .map_or(StatusCode::INTERNAL_SERVER_ERROR, |()| StatusCode::NO_CONTENT)
}

async fn read(session: Session) -> Result<Json<Device>, StatusCode> {
    let device =
        session.get::<Device>("device").await.map_err(|_| StatusCode::SERVICE_UNAVAILABLE)?;
    device.map(Json).ok_or(StatusCode::UNAUTHORIZED)
}
