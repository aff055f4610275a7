//! Signing in: the application reports that a user has signed in, and from where.

use application::commands::CreateSession;
use application::commands::handlers::CreatedSession;
use aws_lc_rs::digest::{SHA256, digest};
use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use chrono::{DateTime, Utc};
use domain::{IdempotencyKey, UserId};
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use super::ServiceState;
use super::errors::ServiceProblem;
use super::tokens::ShownToken;
use crate::http::wire::body::JsonBody;
use crate::http::wire::fields::{
    AnyObject, Count, Text, acceptable_metadata, acceptable_text, address,
};
use crate::http::wire::parameters::idempotency_key;
use crate::http::wire::problem::Problem;
use crate::http::wire::session_body::{WholeSessionBody, etag};
use utoipa::ToSchema;

/// The longest `issuer` and `subject` of a sign-in, in bytes.
const MAX_SUBJECT_BYTES: usize = 1024;

#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
#[schema(example = json!({
    "user_id": "00000000-0000-4000-8000-00000000000a",
    "ip_address": "192.0.2.7",
    "user_agent": "Mozilla/5.0 (Macintosh; Intel Mac OS X 10_15_7) Chrome/140.0 Safari/537.36",
    "issue_token": true
}))]
pub(super) struct CreateSessionBody {
    /// Who has signed in.
    #[schema(value_type = Option<Uuid>)]
    user_id: Option<Text<UserId>>,
    /// With `subject` and without `user_id`: who has signed in, as a token issuer names the user.
    #[schema(max_length = 1024)]
    issuer: Option<String>,
    /// See `issuer`.
    #[schema(max_length = 1024)]
    subject: Option<String>,
    /// The client's address.
    ip_address: Option<String>,
    /// The client's user agent.
    user_agent: Option<String>,
    /// An earlier expiry than the configured lifetime.
    #[schema(value_type = Option<DateTime<Utc>>)]
    expires_at: Option<Text<DateTime<Utc>>>,
    /// Live sessions that the user may have, the new one included.
    #[schema(value_type = Option<u32>, minimum = 1)]
    max_sessions: Option<Count>,
    /// What the backend keeps with the session.
    #[schema(value_type = Option<Object>)]
    metadata: Option<AnyObject>,
    /// Whether to issue a session token.
    #[serde(default)]
    issue_token: bool,
}

impl CreateSessionBody {
    /// Returns who has signed in: by their id, or by what a token issuer calls them.
    fn user_id(&self) -> Result<UserId, Problem> {
        let bounded = |field, text: &str| match text.len() {
            1..=MAX_SUBJECT_BYTES => Ok(()),
            _ => Err(Problem::unprocessable(
                field,
                format!("must have 1 to {MAX_SUBJECT_BYTES} bytes"),
            )),
        };
        match (self.user_id, &self.issuer, &self.subject) {
            (Some(Text(user_id)), None, None) => Ok(user_id),
            (None, Some(issuer), Some(subject)) => {
                bounded("issuer", issuer)?;
                bounded("subject", subject)?;
                Ok(UserId::of_subject(issuer, subject))
            }
            (None, Some(_), None) => {
                Err(Problem::invalid_request("subject", "is missing beside issuer"))
            }
            (None, None, Some(_)) => {
                Err(Problem::invalid_request("issuer", "is missing beside subject"))
            }
            (None, None, None) => {
                Err(Problem::invalid_request("user_id", "is missing; or name issuer and subject"))
            }
            (Some(_), _, _) => Err(Problem::invalid_request(
                "user_id",
                "must not stand beside issuer or subject: they name the user too",
            )),
        }
    }
}

#[derive(Serialize, ToSchema)]
struct CreatedSessionBody<'a> {
    #[serde(flatten)]
    session: WholeSessionBody<'a>,
    /// Sessions that were evicted by the limit.
    evicted: Vec<Uuid>,
    /// The session token, where one was asked for; shown this once.
    #[serde(skip_serializing_if = "Option::is_none")]
    token: Option<&'a str>,
    /// The value of a `Set-Cookie` header, for the application to pass on.
    #[serde(skip_serializing_if = "Option::is_none")]
    set_cookie: Option<&'a str>,
}

/// Creates a session: a user has signed in. With `Idempotency-Key`, a repetition creates no other.
#[utoipa::path(
    post,
    path = "/service/v1/sessions",
    operation_id = "create_session",
    tag = "backends",
    params(("Idempotency-Key" = Option<String>, Header, description = "Makes a repetition safe")),
    request_body = CreateSessionBody,
    responses(
        (
            status = 201,
            description = "The session, and its token where one was asked for",
            body = CreatedSessionBody,
        ),
    )
)]
pub(super) async fn create_session(
    State(state): State<ServiceState>,
    headers: HeaderMap,
    JsonBody { value: body, text }: JsonBody<CreateSessionBody>,
) -> Result<Response, ServiceProblem> {
    let request_hash = || {
        let mut hash = [0; 32];
        hash.copy_from_slice(digest(&SHA256, &text).as_ref());
        hash
    };
    let key = idempotency_key(&headers)?;
    let command = CreateSession {
        user_id: body.user_id()?,
        ip_address: address(body.ip_address.as_deref()),
        user_agent: acceptable_text("user_agent", body.user_agent)?,
        expires_at: body.expires_at.map(|Text(at)| at),
        max_sessions: body.max_sessions.map(|Count(count)| count),
        metadata: acceptable_metadata(body.metadata)?,
        idempotency_key: key
            .map(|key| IdempotencyKey { text: key.into(), request_hash: request_hash() }),
        issue_token: body.issue_token,
    };
    let created = state.application.create_session.handle(command).await?;
    let CreatedSession { session, evicted, token } = &created;
    let shown = token.as_ref().map(|issued| ShownToken::new(&state, issued));
    let body = CreatedSessionBody {
        session: WholeSessionBody::new(session, state.clock.now()),
        evicted: evicted.iter().map(|evicted| evicted.id.0).collect(),
        token: shown.as_ref().map(ShownToken::text),
        set_cookie: shown.as_ref().map(ShownToken::set_cookie),
    };
    let location = [(header::LOCATION, format!("/service/v1/sessions/{}", session.id))];
    Ok((StatusCode::CREATED, location, etag(session), Json(body)).into_response())
}
