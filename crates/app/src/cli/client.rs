use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use reqwest::{Method, Response};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;

use crate::auth::DevKeys;
use crate::config::Settings;
use crate::wiring;

/// How long a node may take to answer.
const TIMEOUT: Duration = Duration::from_secs(10);

/// Speaks to the service listener of a running node.
pub(super) struct Client {
    http: reqwest::Client,
    base: String,
    key: SecretString,
}

impl Client {
    /// A client of the node at `url`, or of the one that the configuration describes, with the configured service key or
    /// the development key.
    pub(super) fn new(url: Option<String>, settings: &Settings) -> Result<Self> {
        let key = match &settings.client_service_key {
            Some(key) => key.clone(),
            None => {
                let path = wiring::dev_keys(settings)?.service_key_path();
                DevKeys::read(&path)
                    .context("no service key: set client.service_key, or run this where the node has its data")?
            }
        };
        let base = url.unwrap_or_else(|| format!("http://{}", reachable(settings.service_listen)));
        let http = reqwest::Client::builder().timeout(TIMEOUT).build().context("cannot make an HTTP client")?;
        Ok(Self { http, base: base.trim_end_matches('/').to_owned(), key })
    }

    /// Sends a request, and answers the JSON that came back; null, if nothing did.
    pub(super) async fn call(&self, method: Method, path: &str, body: Option<&Value>) -> Result<Value> {
        let url = format!("{}{path}", self.base);
        let mut request = self.http.request(method, &url).bearer_auth(self.key.expose_secret());
        if let Some(body) = body {
            request = request.json(body);
        }
        let response = request.send().await.map_err(|error| self.unreachable(&error))?;
        if response.status() == reqwest::StatusCode::NO_CONTENT {
            return Ok(Value::Null);
        }
        if response.status().is_success() {
            return response.json().await.context("the node's answer is no JSON");
        }
        Err(refusal(response).await)
    }

    fn unreachable(&self, error: &reqwest::Error) -> anyhow::Error {
        let base = &self.base;
        match error {
            error if error.is_builder() => anyhow!("--url: {base} is no URL such as http://127.0.0.1:8081"),
            error if error.is_timeout() => {
                anyhow!("the node at {base} did not answer within {} seconds", TIMEOUT.as_secs())
            }
            _ => anyhow!("no sessiond answers at {base}: start one with `sessiond serve`, or name another with --url"),
        }
    }
}

/// The problem document, on one line.
async fn refusal(response: Response) -> anyhow::Error {
    let status = response.status();
    let problem: Value = response.json().await.unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut message = match &problem["code"] {
        Value::String(code) => format!("{code}: {}", text(&problem["title"])),
        _ => format!("the node answered {status}"),
    };
    for error in problem["errors"].as_array().into_iter().flatten() {
        message.push_str(&format!("; {}: {}", text(&error["field"]), text(&error["message"])));
    }
    if status == reqwest::StatusCode::FORBIDDEN && problem["code"] == "forbidden" {
        message.push_str("; set client.service_key to a key whose hash the node knows");
    }
    anyhow!(message)
}

/// A node that listens on every address is reached on loopback.
pub(super) fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        ip if !ip.is_unspecified() => ip,
        ip if ip.is_ipv4() => Ipv4Addr::LOCALHOST.into(),
        _ => Ipv6Addr::LOCALHOST.into(),
    };
    SocketAddr::new(ip, address.port())
}
