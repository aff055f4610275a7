//! Runs the cases of `clients/conformance.json` with the Rust client and an axum application.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use axum::body::{Body, to_bytes};
use axum::http::Request;
use axum::{Extension, Json, Router};
use serde_json::{Map, Value, json};
use sessiond_client::{
    Change, Client, CreateSession, CreatedSession, EditSession, Error, ExposeSecret,
    InspectedSession, ListEvents, ListSessions, RequireSession, Session, Settings,
};
use tower::ServiceExt;
use uuid::Uuid;

/// What the values of a case are saved as.
type Saved = HashMap<String, Value>;

/// Runs a case by the client of the server at this URL.
#[expect(clippy::disallowed_methods, reason = "users of a case are random")]
pub(crate) async fn run(case: &Value, url: &str, key: &str) {
    let name = case["name"].as_str().unwrap();
    let client = Client::with_settings(url, key, settings(&case["options"])).unwrap();
    let application = guarded_application(client.clone(), &case["options"]);
    let mut saved = Saved::new();
    for user in ["user", "other_user"] {
        saved.insert(user.to_owned(), json!(Uuid::new_v4()));
    }
    let started = Instant::now();
    for (number, step) in case["steps"].as_array().unwrap().iter().enumerate() {
        let step = filled_in(step, &saved);
        let context = format!("{name}, step {number}");
        let outcome = match step["call"].as_str() {
            Some(call) => outcome(&step, run_call(&client, call, &step["args"]).await, &context),
            None => send(&application, &step["request"]).await,
        };
        for kind in ["expect", "refusal", "unavailable"] {
            for (path, expected) in step[kind].as_object().into_iter().flatten() {
                let found = at(&outcome, path);
                let matches = if expected == "*" { !found.is_null() } else { found == expected };
                assert!(matches, "{context}: {path} is {found}, and not {expected}, in {outcome}");
            }
        }
        for (variable, path) in step["save"].as_object().into_iter().flatten() {
            saved.insert(variable.clone(), at(&outcome, path.as_str().unwrap()).clone());
        }
    }
    let limit = case["within_ms"].as_u64().map_or(Duration::MAX, Duration::from_millis);
    assert!(started.elapsed() < limit, "{name}: took {:?}", started.elapsed());
}

fn settings(options: &Value) -> Settings {
    let default = Settings::default();
    let duration =
        |name: &str, default| options[name].as_u64().map_or(default, Duration::from_millis);
    Settings {
        attempt_timeout: duration("attempt_timeout_ms", default.attempt_timeout),
        timeout: duration("timeout_ms", default.timeout),
        retries: options["retries"].as_u64().map_or(default.retries, |it| it.try_into().unwrap()),
    }
}

fn guarded_application(client: Client, options: &Value) -> Router {
    let mut guard = RequireSession::new(client);
    if let Some(path) = options["sign_in_path"].as_str() {
        guard = guard.sign_in_path(path);
    }
    if let Some(name) = options["cookie_name"].as_str() {
        guard = guard.cookie_name(name);
    }
    if let Some(origins) = options["allowed_origins"].as_array() {
        guard = guard.allowed_origins(origins.iter().map(|it| it.as_str().unwrap().to_owned()));
    }
    let page = async |Extension(session): Extension<Session>| {
        Json(json!({ "user_id": session.user_id, "session_id": session.id }))
    };
    Router::new().fallback(page).layer(guard)
}

/// Sends a request to the guarded application; what it responds with.
async fn send(application: &Router, request: &Value) -> Value {
    let mut built = Request::builder().uri("/").method(request["method"].as_str().unwrap());
    for (name, value) in request["headers"].as_object().unwrap() {
        built = built.header(name, value.as_str().unwrap());
    }
    let request = built.body(Body::empty()).unwrap();
    let response = application.clone().oneshot(request).await.unwrap();
    let header = |value: &axum::http::HeaderValue| json!(value.to_str().unwrap());
    let headers = response.headers().iter();
    let headers: Map<_, _> = headers.map(|(name, it)| (name.to_string(), header(it))).collect();
    let status = response.status().as_u16();
    let body = to_bytes(response.into_body(), usize::MAX).await.unwrap();
    let body: Value = serde_json::from_slice(&body).unwrap_or_default();
    json!({ "status": status, "headers": headers, "body": body })
}

/// Returns the result of a call, or its error, whichever the step expects.
fn outcome(step: &Value, result: Result<Value, Error>, context: &str) -> Value {
    match result {
        Ok(value) => {
            let is_expected = step["refusal"].is_null() && step["unavailable"].is_null();
            assert!(is_expected, "{context}: succeeded with {value}");
            value
        }
        Err(Error::Refused(problem)) => {
            assert!(step["refusal"].is_object(), "{context}: refused: {problem}");
            let of = |it: &sessiond_client::FieldError| json!({ "field": it.field });
            let errors: Vec<_> = problem.errors.iter().map(of).collect();
            json!({
                "status": problem.status,
                "code": problem.code,
                "title": problem.title,
                "errors": errors,
            })
        }
        Err(Error::Unavailable(error)) => {
            assert!(step["unavailable"].is_object(), "{context}: unavailable: {error}");
            json!({ "retry_after": error.retry_after })
        }
    }
}

async fn run_call(client: &Client, call: &str, args: &Value) -> Result<Value, Error> {
    let text = |name: &str| args[name].as_str();
    let id = |name: &str| text(name).map(|it| it.parse::<Uuid>().unwrap());
    let number = |name: &str| args[name].as_u64().map(|it| u32::try_from(it).unwrap());
    let session_id = || id("session_id").unwrap();
    let user_id = || id("user_id").unwrap();
    match call {
        "create_session" => {
            let sign_in = CreateSession {
                user_id: id("user_id"),
                issuer: text("issuer").map(str::to_owned),
                subject: text("subject").map(str::to_owned),
                ip_address: text("ip_address").map(str::to_owned),
                user_agent: text("user_agent").map(str::to_owned),
                max_sessions: number("max_sessions"),
                metadata: args["metadata"].as_object().cloned(),
                issue_token: args["issue_token"] == true,
                idempotency_key: text("idempotency_key").map(str::to_owned),
                expires_at: None,
            };
            client.create_session(&sign_in).await.map(|created| shown(&created))
        }
        "get_session" => client.get_session(session_id(), user_id()).await.map(|it| json!(it)),
        "inspect_session" => client.inspect_session(session_id()).await.map(inspected),
        "verify_token" => {
            let token = text("token").unwrap();
            client.verify_token(token, text("ip_address")).await.map(|it| json!(it))
        }
        "edit_session" => {
            let edit = EditSession {
                name: change(args, "name", |it| it.as_str().unwrap().to_owned()),
                metadata: change(args, "metadata", |it| it.as_object().unwrap().clone()),
                if_match: text("if_match").map(str::to_owned),
            };
            client.edit_session(session_id(), &edit).await.map(inspected)
        }
        "record_activity" => {
            client.record_activity(session_id(), text("ip_address")).await.map(|()| Value::Null)
        }
        "rotate_token" => client.rotate_token(session_id()).await.map(|rotated| {
            let token = rotated.token.expose_secret();
            json!({ "token": token, "set_cookie": rotated.set_cookie.expose_secret() })
        }),
        "list_user_sessions" => {
            let list = ListSessions {
                active_only: args["active_only"] == true,
                limit: number("limit"),
                cursor: text("cursor").map(str::to_owned),
            };
            client.list_user_sessions(user_id(), &list).await.map(|it| json!(it))
        }
        "revoke_session" => {
            client.revoke_session(session_id(), text("reason")).await.map(|()| Value::Null)
        }
        "revoke_all_user_sessions" => {
            let except = id("except_session_id");
            let revoked = client.revoke_all_user_sessions(user_id(), text("reason"), except);
            revoked.await.map(|it| json!({ "revoked_count": it }))
        }
        "revoke_sessions" => {
            let ids = args["ids"].as_array().unwrap().iter();
            let ids: Vec<Uuid> = ids.map(|it| it.as_str().unwrap().parse().unwrap()).collect();
            let revoked = client.revoke_sessions(&ids, text("reason")).await;
            revoked.map(|it| json!({ "revoked_count": it }))
        }
        "list_events" => {
            let list = ListEvents {
                after: args["after"].as_u64(),
                limit: number("limit"),
                session_id: id("session_id"),
                user_id: id("user_id"),
            };
            client.list_events(&list).await.map(|it| json!(it))
        }
        call => panic!("there is no call {call}"),
    }
}

fn change<T>(args: &Value, name: &str, of: impl Fn(&Value) -> T) -> Change<T> {
    match args.get(name) {
        None => Change::Keep,
        Some(Value::Null) => Change::Remove,
        Some(value) => Change::Set(of(value)),
    }
}

fn inspected(inspected: InspectedSession) -> Value {
    json!({ "session": inspected.session, "etag": inspected.etag })
}

fn shown(created: &CreatedSession) -> Value {
    let mut shown = json!(created.session);
    shown["evicted"] = json!(created.evicted);
    shown["token"] = json!(created.token.as_ref().map(ExposeSecret::expose_secret));
    shown["set_cookie"] = json!(created.set_cookie.as_ref().map(ExposeSecret::expose_secret));
    shown
}

/// Returns the value at a path such as `sessions.0.id`.
fn at<'a>(value: &'a Value, path: &str) -> &'a Value {
    path.split('.').fold(value, |value, part| match part.parse::<usize>() {
        Ok(index) if value.is_array() => &value[index],
        _ => &value[part],
    })
}

/// Returns a step with saved values in the place of their names.
fn filled_in(value: &Value, saved: &Saved) -> Value {
    match value {
        Value::String(text) => {
            let replaced = |text: String, (name, value): (&String, &Value)| {
                text.replace(&format!("{{{name}}}"), value.as_str().unwrap_or_default())
            };
            Value::String(saved.iter().fold(text.clone(), replaced))
        }
        Value::Array(items) => items.iter().map(|item| filled_in(item, saved)).collect(),
        Value::Object(fields) => {
            let filled = fields.iter().map(|(name, it)| (name.clone(), filled_in(it, saved)));
            Value::Object(filled.collect())
        }
        other => other.clone(),
    }
}
