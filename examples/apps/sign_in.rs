//! An application in Rust: signs a user in, asks whether the session is live, and revokes it.

use std::env;

use reqwest::{Client, Method};
use serde_json::{Value, json};

/// Calls the service listener of a sessiond node.
async fn call(
    method: Method,
    path: &str,
    body: Value,
) -> Result<Value, Box<dyn std::error::Error>> {
    let url = format!("{}/service/v1/{path}", env::var("SESSIOND_URL")?);
    let request = Client::new().request(method, url).bearer_auth(env::var("SESSIOND_KEY")?);
    let text = request.json(&body).send().await?.error_for_status()?.text().await?;
    Ok(serde_json::from_str(&text).unwrap_or_default())
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let user = "00000000-0000-4000-8000-000000000001";
    let sign_in = json!({ "user_id": user, "ip_address": "192.0.2.7", "user_agent": "curl/8.0" });
    let session = call(Method::POST, "sessions", sign_in).await?;
    let path = format!("sessions/{}", session["id"].as_str().ok_or("no id")?);
    let as_user = format!("{path}?user_id={user}");
    println!("{}", call(Method::GET, &as_user, Value::Null).await?["status"]); // "live"
    call(Method::DELETE, &path, json!({ "reason": "signed out" })).await?;
    println!("{}", call(Method::GET, &as_user, Value::Null).await?["status"]); // "revoked"
    Ok(())
}
