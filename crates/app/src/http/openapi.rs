//! The API description (OpenAPI 3.1) of both listeners, made of the handlers and of the types that
//! they read and write.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::Path;
use axum::http::{HeaderValue, header};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use utoipa::OpenApi as _;
use utoipa::openapi::path::{Operation, PathItem};
use utoipa::openapi::schema::{Schema, SchemaType, Type};
use utoipa::openapi::security::{ApiKey, ApiKeyValue, Http, HttpAuthScheme, SecurityScheme};
use utoipa::openapi::server::ServerBuilder;
use utoipa::openapi::{
    ContentBuilder, InfoBuilder, License, LicenseBuilder, OpenApi, Ref, RefOr, ResponseBuilder,
    SecurityRequirement, Server,
};
use utoipa_swagger_ui::Config;

use crate::http::gateway::GatewayApi;
use crate::http::middleware::observe::{self, RequestIds};
use crate::http::public::PublicApi;
use crate::http::service::ServiceApi;
use crate::http::wire::problem::{Problem, ProblemBody};

/// Where the description is served, on the service listener.
const PATH: &str = "/openapi.json";

/// Where Swagger UI shows the description, on the service listener.
const VIEWER_PATH: &str = "/docs";

/// The viewer loads nothing from elsewhere, and calls nothing else than this listener.
const VIEWER_POLICY: &str = "default-src 'self'; style-src 'self' 'unsafe-inline'; \
    img-src 'self' data:; frame-ancestors 'none'; form-action 'none'; base-uri 'self'";

const DESCRIPTION: &str = "A session service: look up a session in microseconds, and revoke it on \
    every node before the call returns. End users call the public listener; backends, operators \
    and gateways the service listener.";

/// Returns the description of every route.
pub fn document() -> OpenApi {
    let mut document = PublicApi::openapi();
    document.merge(ServiceApi::openapi());
    document.merge(GatewayApi::openapi());
    document.merge(Shared::openapi());
    document.info = InfoBuilder::new()
        .title("sessiond")
        .version(env!("CARGO_PKG_VERSION"))
        .description(Some(DESCRIPTION))
        .license(Some(license()))
        .build();
    document.servers = Some(vec![server(PUBLIC), server(SERVICE)]);
    let components = document.components.get_or_insert_default();
    for (name, scheme) in security_schemes() {
        components.add_security_scheme(name, scheme);
    }
    for (path, item) in &mut document.paths.paths {
        complete(path, item);
    }
    document
}

/// A listener: its default address, and who calls it.
type Listener = (&'static str, &'static str);
const PUBLIC: Listener = ("http://127.0.0.1:8080", "the public listener: end users");
const SERVICE: Listener =
    ("http://127.0.0.1:8081", "the service listener: backends, operators, gateways");

fn server((address, description): Listener) -> Server {
    ServerBuilder::new().url(address).description(Some(description)).build()
}

fn license() -> License {
    let name = "MIT OR Apache-2.0";
    LicenseBuilder::new().name(name).identifier(Some(name)).build()
}

/// Returns the description as JSON.
///
/// # Errors
/// Never: every part of it can be written.
pub fn json() -> Result<String, serde_json::Error> {
    serde_json::to_string_pretty(&document())
}

/// Returns the router that serves the description and its viewer, to be merged into that of the
/// service listener.
pub fn router() -> Router {
    let routes = Router::new()
        .route(PATH, get(get_openapi))
        .route(VIEWER_PATH, get(get_docs))
        .route("/docs/{*file}", get(viewer_file));
    observe::layer(routes, "service", RequestIds::OfCallers)
}

/// Returns the paths of this router.
pub fn paths() -> Vec<&'static str> {
    vec![PATH, VIEWER_PATH]
}

/// Shows this description in a browser (Swagger UI).
#[utoipa::path(
    get,
    path = "/docs",
    operation_id = "get_docs",
    tag = "description",
    responses((status = 200, description = "The viewer", body = String, content_type = "text/html"))
)]
async fn get_docs() -> Response {
    match utoipa_swagger_ui::serve("index.html", viewer_config()) {
        // Its files have relative paths, and this one is a floor above them.
        Ok(Some(page)) => {
            let page = String::from_utf8_lossy(&page.bytes);
            let page = page.replacen("<head>", "<head><base href=\"/docs/\">", 1);
            viewer_response(HeaderValue::from_static("text/html"), page.into())
        }
        _ => Problem::internal_error().into_response(),
    }
}

/// Serves a file of Swagger UI, which is part of the binary.
async fn viewer_file(Path(file): Path<String>) -> Response {
    match utoipa_swagger_ui::serve(&file, viewer_config()) {
        Ok(Some(file)) => match HeaderValue::from_str(&file.content_type) {
            Ok(content_type) => viewer_response(content_type, file.bytes.into()),
            Err(_) => Problem::internal_error().into_response(),
        },
        Ok(None) => Problem::not_found().into_response(),
        Err(_) => Problem::internal_error().into_response(),
    }
}

fn viewer_config() -> Arc<Config<'static>> {
    // Else Swagger UI would have a validator on the Internet check the document.
    Arc::new(Config::from(PATH).validator_url("none"))
}

fn viewer_response(content_type: HeaderValue, body: Body) -> Response {
    let policy = HeaderValue::from_static(VIEWER_POLICY);
    let headers = [(header::CONTENT_SECURITY_POLICY, policy), (header::CONTENT_TYPE, content_type)];
    (headers, body).into_response()
}

/// Returns this description, as JSON.
#[utoipa::path(
    get,
    path = "/openapi.json",
    operation_id = "get_openapi",
    tag = "description",
    responses((status = 200, description = "OpenAPI 3.1", body = Object))
)]
async fn get_openapi() -> Response {
    match json() {
        Ok(json) => {
            let content_type = HeaderValue::from_static("application/json");
            ([(header::CONTENT_TYPE, content_type)], json).into_response()
        }
        Err(_) => Problem::internal_error().into_response(),
    }
}

fn security_schemes() -> [(&'static str, SecurityScheme); 4] {
    let bearer = || SecurityScheme::Http(Http::new(HttpAuthScheme::Bearer));
    let cookie = ApiKeyValue::new("__Host-session");
    [
        // A session token or a JWT.
        ("end_user", bearer()),
        ("session_cookie", SecurityScheme::ApiKey(ApiKey::Cookie(cookie))),
        ("service_key", bearer()),
        ("service_key_as_password", SecurityScheme::Http(Http::new(HttpAuthScheme::Basic))),
    ]
}

/// Who calls a path.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Caller {
    EndUser,
    Gateway,
    ServiceKey,
    Anyone,
}

impl Caller {
    fn of(path: &str) -> Self {
        match path {
            "/service/v1/forward-auth" => Self::Gateway,
            _ if path.starts_with("/api/") => Self::EndUser,
            _ if path.starts_with("/service/") => Self::ServiceKey,
            _ => Self::Anyone,
        }
    }

    fn security(self, path: &str) -> Vec<SecurityRequirement> {
        let names: &[&str] = match self {
            Self::EndUser | Self::Gateway => &["end_user", "session_cookie"],
            Self::ServiceKey if path.ends_with("/introspect") => {
                &["service_key", "service_key_as_password"]
            }
            Self::ServiceKey => &["service_key"],
            Self::Anyone => return vec![SecurityRequirement::default()],
        };
        names.iter().map(|name| SecurityRequirement::new(*name, [""; 0])).collect()
    }
}

/// Adds what is the same for many routes: the listener, who may call, and errors.
fn complete(path: &str, item: &mut PathItem) {
    let caller = Caller::of(path);
    item.servers = Some(vec![server(if caller == Caller::EndUser { PUBLIC } else { SERVICE })]);
    let changes = [&mut item.post, &mut item.patch, &mut item.delete];
    for operation in changes.into_iter().filter_map(Option::as_mut) {
        complete_operation(path, caller, operation, true);
    }
    for operation in item.get.iter_mut() {
        complete_operation(path, caller, operation, false);
    }
}

/// Says of what may be left out that it may be, and not that it may be null.
fn without_null(schema: &mut RefOr<Schema>) {
    match schema {
        RefOr::T(Schema::Object(object)) => {
            if let SchemaType::Array(types) = &mut object.schema_type {
                types.retain(|kind| *kind != Type::Null);
            }
        }
        RefOr::T(Schema::OneOf(either)) => {
            let is_reference = |item: &&RefOr<Schema>| matches!(item, RefOr::Ref(_));
            if let Some(reference) = either.items.iter().find(is_reference).cloned() {
                *schema = reference;
            }
        }
        _ => {}
    }
}

/// Returns what is described in place, and not by a reference.
fn inline<T>(part: &mut RefOr<T>) -> Option<&mut T> {
    match part {
        RefOr::T(part) => Some(part),
        RefOr::Ref(_) => None,
    }
}

fn complete_operation(path: &str, caller: Caller, operation: &mut Operation, is_change: bool) {
    let parameters = operation.parameters.iter_mut().flatten().filter_map(inline);
    parameters.filter_map(|parameter| parameter.schema.as_mut()).for_each(without_null);
    let bodies = operation.request_body.iter_mut().filter_map(inline);
    let bodies = bodies.flat_map(|body| body.content.values_mut()).filter_map(inline);
    bodies.filter_map(|body| body.schema.as_mut()).for_each(without_null);
    operation.security = Some(caller.security(path));
    let is_open = caller == Caller::Anyone;
    let has_id = path.contains('{');
    let is_terminable = ["/activity", "/rotate"].iter().any(|end| path.ends_with(end));
    let errors = [
        ("400", "The request is malformed", true),
        ("401", "No valid credentials, or the session has ended", !is_open),
        (
            "403",
            "The credentials do not allow this",
            !is_open && (caller != Caller::EndUser || is_change),
        ),
        ("404", "There is no such session", has_id),
        ("408", "The body did not arrive in time", is_change),
        (
            "409",
            "The state of the session does not allow this",
            is_terminable || is_sign_in(path, is_change),
        ),
        (
            "412",
            "The session is not what `If-Match` says",
            path.starts_with("/service/") && is_edit(operation),
        ),
        ("413", "The body is too large", is_change),
        ("415", "The media type of the body is not supported", is_change),
        ("422", "A value is not acceptable", is_change),
        ("429", "Too many requests", !is_open),
        ("500", "Internal server error", !is_open),
        ("503", "A dependency is unavailable, or the outcome is unknown", !is_open),
    ];
    for (status, description, _) in errors.iter().filter(|(_, _, applies)| *applies) {
        let content =
            ContentBuilder::new().schema(Some(RefOr::Ref(Ref::from_schema_name(PROBLEM)))).build();
        let response = ResponseBuilder::new()
            .description(*description)
            .content("application/problem+json", content);
        operation.responses.responses.insert((*status).to_owned(), response.build().into());
    }
}

fn is_sign_in(path: &str, is_change: bool) -> bool {
    path == "/service/v1/sessions" && is_change
}

fn is_edit(operation: &Operation) -> bool {
    operation.operation_id.as_deref() == Some("edit_session")
}

/// The schema of every error.
const PROBLEM: &str = "ProblemBody";

/// What no handler names.
#[derive(utoipa::OpenApi)]
#[openapi(paths(get_openapi, get_docs), components(schemas(ProblemBody)))]
struct Shared;
