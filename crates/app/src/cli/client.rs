//! Calls the service listener of a running node.

use std::net::{Ipv4Addr, Ipv6Addr, SocketAddr};
use std::time::Duration;

use anyhow::{Context, Result, anyhow};
use reqwest::{Method, RequestBuilder, Response};
use secrecy::{ExposeSecret, SecretString};
use serde_json::Value;

use super::{eprint_line, progress};
use crate::auth::DevKeys;
use crate::composition::credentials;
use crate::config::Settings;
use crate::loopback::is_loopback;

/// How long a node may take to respond where it does not wait.
const TIMEOUT: Duration = Duration::from_secs(10);
/// How long connecting may take.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// Speaks to the service listener of a running node.
pub(super) struct Client {
    http: reqwest::Client,
    base: String,
    key: SecretString,
}

impl Client {
    /// Creates a client of the node at `url`, or of the one that the configuration describes, with
    /// the configured service key or the development key.
    pub(super) fn new(url: Option<String>, settings: &Settings) -> Result<Self> {
        let key = match &settings.client_service_key {
            Some(key) => key.clone(),
            None => {
                let path = credentials::dev_keys(settings)?.service_key_path();
                DevKeys::read(&path).context(
                    "no service key: set client.service_key, or run this where the node \
                        has its data",
                )?
            }
        };
        let base = url.unwrap_or_else(|| format!("http://{}", reachable(settings.service_listen)));
        let parsed = reqwest::Url::parse(&base)
            .map_err(|_| anyhow!("--url: {base} is no URL such as http://127.0.0.1:8081"))?;
        let builder = reqwest::Client::builder().connect_timeout(CONNECT_TIMEOUT);
        let builder = if is_loopback(&parsed) {
            // A proxy could not reach this machine's loopback, and would be given the service key.
            builder.no_proxy()
        } else {
            if parsed.scheme() == "http" {
                eprint_line(&format!(
                    "warning: {base} is not encrypted: the service key can be read on the way"
                ));
            }
            builder
        };
        let http = builder.build().context("cannot make an HTTP client")?;
        Ok(Self { http, base: base.trim_end_matches('/').to_owned(), key })
    }

    /// Sends a request, and returns the JSON that came back; null, if nothing did.
    ///
    /// # Errors
    /// If the node does not respond within [`TIMEOUT`], or refuses.
    pub(super) async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Value> {
        self.send(self.request(method, path, body).timeout(TIMEOUT)).await
    }

    /// The same for work that takes as long as it takes: the node goes on whether or not the client
    /// waits. Shows on standard error that it does.
    ///
    /// # Errors
    /// If the node cannot be reached, or refuses.
    pub(super) async fn call_and_wait(
        &self,
        method: Method,
        path: &str,
        body: Option<&Value>,
    ) -> Result<Value> {
        let bar = progress(None);
        bar.set_message("the node is revoking sessions");
        bar.enable_steady_tick(Duration::from_millis(100));
        let result = self.send(self.request(method, path, body)).await;
        bar.finish_and_clear();
        result
    }

    fn request(&self, method: Method, path: &str, body: Option<&Value>) -> RequestBuilder {
        let request = self
            .http
            .request(method, format!("{}{path}", self.base))
            .bearer_auth(self.key.expose_secret());
        match body {
            Some(body) => request.json(body),
            None => request,
        }
    }

    async fn send(&self, request: RequestBuilder) -> Result<Value> {
        let response = request.send().await.map_err(|error| self.unreachable(&error))?;
        if response.status() == reqwest::StatusCode::NO_CONTENT {
            return Ok(Value::Null);
        }
        if response.status().is_success() {
            return response.json().await.context("the node's response is no JSON");
        }
        Err(refusal(response).await)
    }

    fn unreachable(&self, error: &reqwest::Error) -> anyhow::Error {
        let base = &self.base;
        match error {
            error if error.is_connect() && error.is_timeout() => {
                anyhow!(
                    "the node at {base} could not be reached within {} seconds",
                    CONNECT_TIMEOUT.as_secs()
                )
            }
            error if error.is_timeout() => {
                let seconds = TIMEOUT.as_secs();
                anyhow!(
                    "the node at {base} did not respond within {seconds} seconds; what was asked \
                        may yet be done"
                )
            }
            _ => anyhow!(
                "no sessiond responds at {base}: start one with `sessiond serve`, or name another \
                    with --url"
            ),
        }
    }
}

/// Returns the problem document, on one line.
async fn refusal(response: Response) -> anyhow::Error {
    let status = response.status();
    let problem: Value = response.json().await.unwrap_or_default();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let mut message = match &problem["code"] {
        Value::String(code) => format!("{code}: {}", text(&problem["title"])),
        _ => format!("the node responded with {status}"),
    };
    for error in problem["errors"].as_array().into_iter().flatten() {
        message.push_str(&format!("; {}: {}", text(&error["field"]), text(&error["message"])));
    }
    if status == reqwest::StatusCode::FORBIDDEN && problem["code"] == "forbidden" {
        message.push_str("; set client.service_key to a key whose hash the node knows");
    }
    anyhow!(message)
}

/// Returns where to reach a node: one that listens on every address is reached on loopback.
pub(super) fn reachable(address: SocketAddr) -> SocketAddr {
    let ip = match address.ip() {
        ip if !ip.is_unspecified() => ip,
        ip if ip.is_ipv4() => Ipv4Addr::LOCALHOST.into(),
        _ => Ipv6Addr::LOCALHOST.into(),
    };
    SocketAddr::new(ip, address.port())
}
