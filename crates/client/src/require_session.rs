//! A tower layer that guards an application's pages.

use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::header::{AUTHORIZATION, CONTENT_TYPE, COOKIE, LOCATION, RETRY_AFTER, WWW_AUTHENTICATE};
use http::request::Parts;
use http::{HeaderMap, HeaderValue, Method, Request, Response, StatusCode};
use tower::{Layer, Service};

use crate::client::Client;
use crate::error::Error;
use crate::types::{Session, TokenStatus};

/// The name of the cookie where none is configured.
const COOKIE_NAME: &str = "__Host-session";

/// How long a token may be that sessiond is asked about: a request of the service listener has
/// 16 KiB.
const TOKEN_MAX_BYTES: usize = 16_000;

/// Returns the end user's address of a request.
type IpAddressOf = Arc<dyn Fn(&Parts) -> Option<IpAddr> + Send + Sync>;

/// Lets only requests through that have the token of a live session, and puts its [`Session`] into
/// the request's extensions.
///
/// It asks the node about each request and caches nothing: a revoked session is refused as soon as
/// its revocation is acknowledged. What it responds with otherwise is in the table "Guarding pages"
/// of `clients/README.md`: 401 or a redirect without a live session, 403 for other sites' changes
/// by the cookie, and 503 while sessiond cannot say. An outage is never a logout.
///
/// ```no_run
/// use axum::{Extension, Router, routing::get};
/// use sessiond_client::{Client, RequireSession, Session};
///
/// # async fn example() -> Result<(), Box<dyn std::error::Error>> {
/// let client = Client::new("http://127.0.0.1:8081", std::env::var("SESSIOND_KEY")?)?;
/// let page = async |Extension(session): Extension<Session>| session.user_id.to_string();
/// let app: Router = Router::new().route("/", get(page)).layer(RequireSession::new(client));
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct RequireSession {
    client: Client,
    cookie_name: String,
    allowed_origins: Vec<String>,
    sign_in_path: Option<String>,
    ip_address: IpAddressOf,
}

impl RequireSession {
    /// Creates a layer that asks this client.
    pub fn new(client: Client) -> Self {
        Self {
            client,
            cookie_name: COOKIE_NAME.to_owned(),
            allowed_origins: Vec::new(),
            sign_in_path: None,
            ip_address: Arc::new(|_| None),
        }
    }

    /// Redirects pages (`GET`, `HEAD`) without a live session to this path, in the place of 401.
    pub fn sign_in_path(mut self, path: impl Into<String>) -> Self {
        self.sign_in_path = Some(path.into());
        self
    }

    /// Takes the cookie of this name; the default is `__Host-session`.
    pub fn cookie_name(mut self, name: impl Into<String>) -> Self {
        self.cookie_name = name.into();
        self
    }

    /// Lets pages of these origins, such as `https://app.example`, change something by the cookie.
    pub fn allowed_origins(mut self, origins: impl IntoIterator<Item = String>) -> Self {
        self.allowed_origins = origins.into_iter().collect();
        self
    }

    /// Sends sessiond the end user's address, for the session's `last_ip_address`.
    pub fn ip_address(
        mut self,
        address_of: impl Fn(&Parts) -> Option<IpAddr> + Send + Sync + 'static,
    ) -> Self {
        self.ip_address = Arc::new(address_of);
        self
    }

    /// Returns the session that the request has the token of.
    async fn admit(&self, parts: &Parts) -> Result<Session, Refusal> {
        let is_read = matches!(parts.method, Method::GET | Method::HEAD);
        let token = match parts.headers.get(AUTHORIZATION) {
            Some(value) => Some(bearer(value).ok_or(Refusal::InvalidToken)?),
            None => cookie(&parts.headers, &self.cookie_name),
        };
        let token = token.ok_or(Refusal::NoToken)?;
        let is_by_cookie = !parts.headers.contains_key(AUTHORIZATION);
        if is_by_cookie && !is_read && !self.is_same_site(&parts.headers) {
            return Err(Refusal::CrossSite);
        }
        if !is_token(token) {
            return Err(Refusal::InvalidToken);
        }
        let ip_address = (self.ip_address)(parts).map(|address| address.to_string());
        match self.client.verify_token(token, ip_address.as_deref()).await {
            Ok(verification) => match (verification.status, verification.session) {
                (TokenStatus::Live, Some(session)) => Ok(session),
                (TokenStatus::Revoked | TokenStatus::Expired | TokenStatus::Idle, _) => {
                    Err(Refusal::SessionEnded)
                }
                (TokenStatus::Invalid, _) => Err(Refusal::InvalidToken),
                (TokenStatus::Live, None) => Err(Refusal::Unavailable { retry_after: None }),
            },
            Err(Error::Unavailable(error)) => {
                Err(Refusal::Unavailable { retry_after: error.retry_after })
            }
            // The application's own credentials are refused, not the end user's.
            Err(Error::Refused(_)) => Err(Refusal::Unavailable { retry_after: None }),
        }
    }

    /// Returns whether a browser says that the request comes from this origin (Fetch Metadata), or
    /// from one that is allowed. Browsers send the cookie by themselves.
    fn is_same_site(&self, headers: &HeaderMap) -> bool {
        let header = |name| headers.get(name).and_then(|value: &HeaderValue| value.to_str().ok());
        let is_allowed = |origin| self.allowed_origins.iter().any(|allowed| allowed == origin);
        header("sec-fetch-site") == Some("same-origin") || header("origin").is_some_and(is_allowed)
    }

    fn refuse<B: From<String>>(&self, method: &Method, refusal: Refusal) -> Response<B> {
        let has_no_session = !matches!(refusal, Refusal::CrossSite | Refusal::Unavailable { .. });
        let path = self.sign_in_path.as_ref().filter(|_| has_no_session);
        let location = path.and_then(|path| HeaderValue::from_str(path).ok());
        match location {
            Some(location) if matches!(*method, Method::GET | Method::HEAD) => {
                let mut response = Response::new(String::new().into());
                *response.status_mut() = StatusCode::SEE_OTHER;
                response.headers_mut().insert(LOCATION, location);
                response
            }
            _ => refusal.into_response(),
        }
    }
}

impl<S> Layer<S> for RequireSession {
    type Service = GuardedService<S>;

    fn layer(&self, inner: S) -> Self::Service {
        GuardedService { inner, guard: Arc::new(self.clone()) }
    }
}

/// A service behind [`RequireSession`].
#[derive(Clone)]
pub struct GuardedService<S> {
    inner: S,
    guard: Arc<RequireSession>,
}

impl<S, RequestBody, ResponseBody> Service<Request<RequestBody>> for GuardedService<S>
where
    S: Service<Request<RequestBody>, Response = Response<ResponseBody>> + Clone + Send + 'static,
    S::Future: Send,
    RequestBody: Send + 'static,
    ResponseBody: From<String>,
{
    type Response = S::Response;
    type Error = S::Error;
    type Future = Pin<Box<dyn Future<Output = Result<S::Response, S::Error>> + Send>>;

    fn poll_ready(&mut self, context: &mut Context<'_>) -> Poll<Result<(), S::Error>> {
        self.inner.poll_ready(context)
    }

    fn call(&mut self, request: Request<RequestBody>) -> Self::Future {
        // The one that is ready serves this request, and its clone gets ready for the next.
        let next = self.inner.clone();
        let mut inner = std::mem::replace(&mut self.inner, next);
        let guard = self.guard.clone();
        Box::pin(async move {
            let (mut parts, body) = request.into_parts();
            match guard.admit(&parts).await {
                Ok(session) => {
                    parts.extensions.insert(session);
                    inner.call(Request::from_parts(parts, body)).await
                }
                Err(refusal) => Ok(guard.refuse(&parts.method, refusal)),
            }
        })
    }
}

/// Why a request is not let through.
enum Refusal {
    NoToken,
    InvalidToken,
    SessionEnded,
    CrossSite,
    Unavailable { retry_after: Option<u64> },
}

impl Refusal {
    fn into_response<B: From<String>>(self) -> Response<B> {
        let (status, code, title) = match self {
            Self::NoToken | Self::InvalidToken => {
                (StatusCode::UNAUTHORIZED, "unauthenticated", "Authentication is required")
            }
            Self::SessionEnded => {
                (StatusCode::UNAUTHORIZED, "session_ended", "The session has ended")
            }
            Self::CrossSite => {
                (StatusCode::FORBIDDEN, "cross_site_request", "The request is another site's")
            }
            Self::Unavailable { .. } => (
                StatusCode::SERVICE_UNAVAILABLE,
                "dependency_unavailable",
                "Sessions cannot be verified at present",
            ),
        };
        let problem = serde_json::json!({
            "type": format!("urn:sessiond:problem:{code}"),
            "title": title,
            "status": status.as_u16(),
            "code": code,
        });
        let mut response = Response::new(problem.to_string().into());
        *response.status_mut() = status;
        let headers = response.headers_mut();
        headers.insert(CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        match self {
            Self::NoToken => {
                headers.insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
            }
            Self::InvalidToken | Self::SessionEnded => {
                let challenge = HeaderValue::from_static("Bearer error=\"invalid_token\"");
                headers.insert(WWW_AUTHENTICATE, challenge);
            }
            Self::Unavailable { retry_after } => {
                headers.insert(RETRY_AFTER, HeaderValue::from(retry_after.unwrap_or(1)));
            }
            Self::CrossSite => {}
        }
        response
    }
}

/// Returns the token of an `Authorization` header with the scheme `Bearer`.
fn bearer(value: &HeaderValue) -> Option<&str> {
    let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(token.trim())
}

/// Returns whether this may be a token (RFC 6750 section 2.1), and a request has room for it.
fn is_token(text: &str) -> bool {
    let is_allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"-._~+/=".contains(&byte);
    !text.is_empty() && text.len() <= TOKEN_MAX_BYTES && text.bytes().all(is_allowed)
}

/// Returns the value of the cookie of this name.
fn cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let values = headers.get_all(COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs = values.flat_map(|value| value.split(';')).filter_map(|it| it.split_once('='));
    pairs.find(|(found, _)| found.trim() == name).map(|(_, value)| value.trim())
}

/// Returns the `Set-Cookie` value that removes the session cookie of this name, for a response to
/// a sign-out.
pub fn clear_cookie(name: &str) -> String {
    format!("{name}=; HttpOnly; SameSite=Lax; Secure; Path=/; Max-Age=0")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_cannot_be_a_token_or_has_no_room_in_a_request_is_refused_unasked() {
        let client = Client::new("http://192.0.2.1", "key".to_owned()).unwrap();
        let guard = RequireSession::new(client);
        for token in ["x".repeat(TOKEN_MAX_BYTES + 1), "\"".repeat(9000), "a b".to_owned()] {
            let bearer = format!("Bearer {token}");
            let request = Request::builder().header(AUTHORIZATION, bearer).body(()).unwrap();
            let (parts, ()) = request.into_parts();
            assert!(matches!(guard.admit(&parts).await, Err(Refusal::InvalidToken)));
        }
    }

    #[test]
    fn a_cookie_is_found_among_others_by_its_whole_name() {
        let mut headers = HeaderMap::new();
        for value in ["a=1; x__Host-session=no;__Host-session = sds_a=b ; c", "__Host-session=2"] {
            headers.append(COOKIE, HeaderValue::from_static(value));
        }
        assert_eq!(cookie(&headers, COOKIE_NAME), Some("sds_a=b"));
        assert_eq!(cookie(&headers, "session"), None);
    }
}
