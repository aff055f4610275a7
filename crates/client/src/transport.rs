//! One call to a node: its attempts, their time-outs, and what comes back.

use std::time::Duration;

use http::{HeaderMap, HeaderName, HeaderValue, Method, StatusCode, header};
use reqwest::redirect::Policy;
use reqwest::{Response, Url};
use secrecy::{ExposeSecret, SecretString};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};
use thiserror::Error;
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::error::{Error, Problem, Result, Unavailable};
use crate::types::{InspectedSession, Session};

pub(crate) const IDEMPOTENCY_KEY: HeaderName = HeaderName::from_static("idempotency-key");

/// The wait before the second attempt, where the response names none; it doubles from then on.
const FIRST_WAIT: Duration = Duration::from_millis(50);

/// No wait is longer: a time that far ahead must not overflow a clock.
const LONGEST_WAIT: Duration = Duration::from_secs(24 * 3600);

/// How large a response may be.
const RESPONSE_MAX_BYTES: usize = 1024 * 1024;

/// How long calls take at most, and how often they are attempted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// How long one attempt may take.
    pub attempt_timeout: Duration,
    /// How long a call may take, with all its attempts and the waits between them.
    pub timeout: Duration,
    /// How often a call is attempted again, at most.
    pub retries: u32,
}

impl Default for Settings {
    fn default() -> Self {
        Self {
            attempt_timeout: Duration::from_secs(2),
            timeout: Duration::from_secs(5),
            retries: 2,
        }
    }
}

/// Why a client cannot be created.
#[derive(Debug, Error)]
pub enum InvalidSettings {
    /// The URL is none, or not one of a service listener.
    #[error("the URL must be http://host[:port] or https://host[:port], and may have a path")]
    Url,
    /// The service key is none.
    #[error("the service key must be visible ASCII characters")]
    ServiceKey,
    /// TLS cannot be set up.
    #[error("TLS cannot be set up: {0}")]
    Tls(reqwest::Error),
}

/// Sends calls to a node.
#[derive(Debug)]
pub(crate) struct Transport {
    http: reqwest::Client,
    url: Url,
    authorization: SecretString,
    settings: Settings,
}

impl Transport {
    pub(crate) fn new(
        url: &str,
        service_key: &SecretString,
        settings: Settings,
    ) -> std::result::Result<Self, InvalidSettings> {
        let url = Url::parse(url).map_err(|_| InvalidSettings::Url)?;
        let has_user = !url.username().is_empty() || url.password().is_some();
        let is_plain = url.query().is_none() && url.fragment().is_none() && !has_user;
        if !["http", "https"].contains(&url.scheme()) || !is_plain {
            return Err(InvalidSettings::Url);
        }
        let key = service_key.expose_secret();
        if key.is_empty() || !key.bytes().all(|byte| byte.is_ascii_graphic()) {
            return Err(InvalidSettings::ServiceKey);
        }
        // A redirect or a proxy of the environment would take the service key elsewhere.
        let http = reqwest::Client::builder().redirect(Policy::none()).no_proxy().build();
        Ok(Self {
            http: http.map_err(InvalidSettings::Tls)?,
            url,
            authorization: format!("Bearer {key}").into(),
            settings,
        })
    }

    /// Returns a call of this path of the service listener, which may be repeated.
    pub(crate) fn call(&self, method: Method, path: &[&str]) -> Call {
        let mut url = self.url.clone();
        // Every http and https URL can be a base.
        if let Ok(mut segments) = url.path_segments_mut() {
            segments.pop_if_empty().extend(["service", "v1"]).extend(path);
        }
        Call { method, url, body: None, headers: HeaderMap::new(), may_repeat: true }
    }

    /// Attempts a call until one succeeds or is refused, or neither an attempt nor time is left.
    pub(crate) async fn send(&self, call: Call) -> Result<Reply> {
        let deadline = Instant::now() + self.settings.timeout;
        let mut retries = if call.may_repeat { self.settings.retries } else { 0 };
        let mut wait = FIRST_WAIT;
        loop {
            let unavailable = match self.attempt(&call, deadline).await {
                Ok(reply) => return Ok(reply),
                Err(Failure::Final(error)) => return Err(error),
                Err(Failure::Transient(unavailable)) => unavailable,
            };
            let asked_for = unavailable.retry_after.map(Duration::from_secs);
            let wait_now = asked_for.unwrap_or(wait.mul_f64(1.0 + fastrand::f64() / 2.0));
            let next = Instant::now() + wait_now.min(LONGEST_WAIT);
            if retries == 0 || next >= deadline {
                return Err(Error::Unavailable(unavailable));
            }
            sleep_until(next).await;
            retries -= 1;
            wait = wait.saturating_mul(2).min(LONGEST_WAIT);
        }
    }

    async fn attempt(&self, call: &Call, deadline: Instant) -> std::result::Result<Reply, Failure> {
        let mut request = self.http.request(call.method.clone(), call.url.clone());
        request = request.headers(call.headers.clone());
        request = request.header(header::AUTHORIZATION, self.authorization.expose_secret());
        if let Some(body) = &call.body {
            request = request.header(header::CONTENT_TYPE, "application/json").body(body.clone());
        }
        let exchange = async {
            let mut response = request.send().await?;
            let body = read_body(&mut response).await?;
            Ok((response, body))
        };
        let ends = deadline.min(Instant::now() + self.settings.attempt_timeout);
        match timeout_at(ends, exchange).await {
            Ok(Ok((response, body))) => read_reply(&response, body),
            Ok(Err(error)) => Err(Failure::transient(&error)),
            Err(_) => {
                let reason = "no response in time".to_owned();
                Err(Failure::Transient(Unavailable { retry_after: None, reason }))
            }
        }
    }
}

/// One call: every attempt sends the same request.
pub(crate) struct Call {
    method: Method,
    url: Url,
    headers: HeaderMap,
    body: Option<Vec<u8>>,
    may_repeat: bool,
}

impl Call {
    /// Adds a parameter to the query, if there is a value.
    pub(crate) fn add_query(&mut self, name: &str, value: Option<impl ToString>) {
        if let Some(value) = value {
            self.url.query_pairs_mut().append_pair(name, &value.to_string());
        }
    }

    /// Sets a header.
    ///
    /// # Errors
    /// [`Error::Refused`], as the node would: the value is not visible ASCII.
    pub(crate) fn set_header(&mut self, name: HeaderName, value: &str) -> Result<()> {
        let refused =
            || Error::Refused(Problem::invalid(name.as_str(), "visible ASCII characters"));
        let value = HeaderValue::from_str(value).map_err(|_| refused())?;
        self.headers.insert(name, value);
        Ok(())
    }

    /// Sets the body.
    ///
    /// # Errors
    /// [`Error::Refused`] if it has no JSON form.
    pub(crate) fn with_body(self, body: &impl Serialize) -> Result<Self> {
        let refused = |_| Error::Refused(Problem::invalid("body", "JSON"));
        Ok(Self { body: Some(serde_json::to_vec(body).map_err(refused)?), ..self })
    }

    /// Leaves it at one attempt.
    pub(crate) fn once(&mut self) {
        self.may_repeat = false;
    }
}

/// A response that reports success.
pub(crate) struct Reply {
    status: StatusCode,
    etag: Option<String>,
    body: Vec<u8>,
}

impl Reply {
    /// Reads the body.
    pub(crate) fn read<T: DeserializeOwned>(&self) -> Result<T> {
        serde_json::from_slice(&self.body).map_err(|error| {
            // Where it is, but not what is there: that may be a secret.
            let position = format!("line {}, column {}", error.line(), error.column());
            unavailable(format!("the response is not sessiond's: {position}"))
        })
    }

    /// Checks that the call was done, where there is nothing to read: a success of something else
    /// must not pass for a revocation.
    pub(crate) fn done(&self) -> Result<()> {
        match self.status {
            StatusCode::NO_CONTENT => Ok(()),
            status => {
                Err(unavailable(format!("status {}, which is not sessiond's", status.as_u16())))
            }
        }
    }

    /// Reads a session with its version.
    pub(crate) fn inspected(self) -> Result<InspectedSession> {
        let session: Session = self.read()?;
        let etag = self.etag.ok_or_else(|| unavailable("the response has no ETag".to_owned()))?;
        Ok(InspectedSession { session, etag })
    }

    /// Reads how many sessions were revoked.
    pub(crate) fn revoked_count(&self) -> Result<u64> {
        #[derive(Deserialize)]
        struct Revoked {
            revoked_count: u64,
        }
        self.read().map(|Revoked { revoked_count }| revoked_count)
    }
}

/// Why an attempt has failed.
enum Failure {
    /// The next one may succeed.
    Transient(Unavailable),
    /// No attempt will.
    Final(Error),
}

impl Failure {
    fn transient(error: &reqwest::Error) -> Self {
        // The text of the error itself has the URL, but none of its causes.
        let mut cause: &dyn std::error::Error = error;
        while let Some(deeper) = cause.source() {
            cause = deeper;
        }
        let kind = if error.is_connect() { "no connection" } else { "the connection broke" };
        let reason = match std::ptr::addr_eq(cause, error) {
            true => kind.to_owned(),
            false => format!("{kind}: {cause}"),
        };
        Self::Transient(Unavailable { retry_after: None, reason })
    }
}

fn unavailable(reason: String) -> Error {
    Error::Unavailable(Unavailable { retry_after: None, reason })
}

/// Reads a body, or as much of it as is too much: that is no JSON any more.
async fn read_body(response: &mut Response) -> reqwest::Result<Vec<u8>> {
    let mut body = Vec::new();
    while let Some(chunk) = response.chunk().await? {
        body.extend_from_slice(&chunk);
        if body.len() > RESPONSE_MAX_BYTES {
            body.truncate(RESPONSE_MAX_BYTES);
            break;
        }
    }
    Ok(body)
}

/// Reads a problem document of sessiond's.
fn read_problem(body: &[u8]) -> Option<Problem> {
    #[derive(Deserialize)]
    struct Document {
        r#type: String,
        #[serde(flatten)]
        problem: Problem,
    }
    let Document { r#type, problem } = serde_json::from_slice(body).ok()?;
    (r#type == format!("urn:sessiond:problem:{}", problem.code)).then_some(problem)
}

/// Returns what a response means.
fn read_reply(response: &Response, body: Vec<u8>) -> std::result::Result<Reply, Failure> {
    let status = response.status();
    let header = |name| response.headers().get(name).and_then(|value| value.to_str().ok());
    if status.is_success() {
        return Ok(Reply { status, etag: header(header::ETAG).map(str::to_owned), body });
    }
    let problem = read_problem(&body).filter(|problem| problem.status == status.as_u16());
    let says_nothing = [StatusCode::REQUEST_TIMEOUT, StatusCode::TOO_MANY_REQUESTS];
    match problem {
        Some(problem) if status.is_client_error() && !says_nothing.contains(&status) => {
            Err(Failure::Final(Error::Refused(problem)))
        }
        problem => {
            let reason = match problem {
                Some(problem) => problem.to_string(),
                None => format!("status {}, which is not sessiond's", status.as_u16()),
            };
            let retry_after = header(header::RETRY_AFTER).and_then(|value| value.parse().ok());
            let unavailable = Unavailable { retry_after, reason };
            Err(match status.as_u16() {
                429 | 502..=504 => Failure::Transient(unavailable),
                _ => Failure::Final(Error::Unavailable(unavailable)),
            })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "a-service-key-that-is-secret";

    fn transport(url: &str, key: &str) -> std::result::Result<Transport, InvalidSettings> {
        Transport::new(url, &key.to_owned().into(), Settings::default())
    }

    #[test]
    fn a_url_or_a_key_that_cannot_be_one_is_refused() {
        for url in [
            "",
            "localhost:8081",
            "ftp://node",
            "http://",
            "http://node?x=1",
            "http://a:b@node",
            "http://:b@node",
        ] {
            assert!(matches!(transport(url, KEY), Err(InvalidSettings::Url)), "{url}");
        }
        for key in ["", "two words", "line\n", "schl\u{fc}ssel"] {
            let refused = transport("http://node", key);
            assert!(matches!(refused, Err(InvalidSettings::ServiceKey)), "{key}");
        }
    }

    #[test]
    fn a_url_may_have_a_path_with_a_slash_or_without() {
        for url in ["https://node/sessions", "https://node/sessions/"] {
            let call = transport(url, KEY).unwrap().call(Method::GET, &["sessions", "a/b"]);
            assert_eq!(call.url.as_str(), "https://node/sessions/service/v1/sessions/a%2Fb");
        }
    }

    #[test]
    fn the_service_key_is_not_in_the_debug_text() {
        let debug = format!("{:?}", transport("http://node", KEY).unwrap());
        assert!(debug.contains("node") && !debug.contains(KEY), "{debug}");
    }

    #[test]
    fn a_token_in_a_response_that_is_not_understood_is_not_in_the_error() {
        let body = r#"{"token": "sds_secret", "set_cookie": 1, "sds_secret": }"#;
        let reply = Reply { status: StatusCode::OK, etag: None, body: body.as_bytes().to_vec() };
        let error = reply.read::<crate::RotatedToken>().unwrap_err();
        assert!(matches!(error, Error::Unavailable(_)));
        assert!(!format!("{error} {error:?}").contains("sds_"), "{error:?}");
    }
}
