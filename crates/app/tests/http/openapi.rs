//! The API description has every route, and what it says of a route is so.

use std::collections::BTreeSet;

use axum::body::Body;
use axum::http::Request;
use serde_json::{Value, json};
use sessiond::http::gateway::paths as gateway_paths;
use sessiond::http::openapi;
use sessiond::http::public::paths as public_paths;
use sessiond::http::service::{open_paths, paths as service_paths};
use testkit::fixtures;

use crate::fixture::{Fixture, Reply};
use crate::routes::{Listener, methods};

fn document() -> Value {
    serde_json::from_str(&openapi::json().unwrap()).unwrap()
}

/// Every operation, with its method and path.
fn operations(document: &Value) -> Vec<(String, &Value)> {
    let mut all = Vec::new();
    for (path, item) in document["paths"].as_object().unwrap() {
        for (method, operation) in item.as_object().unwrap() {
            if method != "servers" {
                all.push((format!("{} {path}", method.to_uppercase()), operation));
            }
        }
    }
    all
}

#[tokio::test]
async fn routes_and_description_agree() {
    let fixture = Fixture::new();
    let public = public_paths().into_iter().map(|path| (Listener::Public, path));
    let service = service_paths().into_iter().chain(open_paths()).chain(gateway_paths());
    let service = service.chain(openapi::paths());
    let service = service.map(|path| (Listener::Service, path));
    let mut routes = BTreeSet::new();
    for (to, path) in public.chain(service) {
        let methods = methods(&fixture, to, path).await;
        let without_head = methods.iter().filter(|method| *method != "HEAD");
        routes.extend(without_head.map(|method| format!("{method} {path}")));
    }
    let document = document();
    let described: BTreeSet<_> = operations(&document).into_iter().map(|(name, _)| name).collect();
    assert_eq!(described, routes);
}

#[test]
fn every_operation_says_what_it_does_who_may_call_and_how_it_fails() {
    let document = document();
    assert_eq!(document["openapi"], "3.1.0");
    let mut ids = BTreeSet::new();
    for (name, operation) in operations(&document) {
        assert!(ids.insert(operation["operationId"].as_str().unwrap()), "{name}");
        assert!(operation["summary"].as_str().unwrap().len() > 10, "{name}");
        assert!(!operation["tags"].as_array().unwrap().is_empty(), "{name}");
        assert!(!operation["security"].as_array().unwrap().is_empty(), "{name}");
        let is_open = ["/livez", "/readyz", "/metrics", "/openapi.json", "/docs"]
            .iter()
            .any(|path| name == format!("GET {path}"));
        for (status, response) in operation["responses"].as_object().unwrap() {
            assert!(!response["description"].as_str().unwrap().is_empty(), "{name} {status}");
            // `/readyz` says itself why it is 503.
            if status.as_str() >= "400" && !(is_open && status == "503") {
                let schema = &response["content"]["application/problem+json"]["schema"];
                assert_eq!(schema["$ref"], "#/components/schemas/ProblemBody", "{name} {status}");
            }
        }
        let mandatory: &[&str] =
            if is_open { &["200", "400"] } else { &["400", "401", "429", "503"] };
        for status in mandatory {
            assert!(
                operation["responses"].get(status).is_some(),
                "{name} does not document {status}"
            );
        }
    }
}

/// References lead somewhere, and no schema is left over.
#[test]
fn schemas_are_used_and_there() {
    let document = document();
    let text = document.to_string();
    let used: BTreeSet<_> = text
        .split("\"#/components/schemas/")
        .skip(1)
        .map(|rest| rest.split('"').next().unwrap())
        .collect();
    let schemas = document["components"]["schemas"].as_object().unwrap();
    let there: BTreeSet<_> = schemas.keys().map(String::as_str).collect();
    assert_eq!(used, there);
}

/// The fields of real responses are those of their schemas, and those that are always there are
/// required.
#[tokio::test]
async fn responses_have_the_described_fields() {
    let fixture = Fixture::new();
    let document = document();
    let body = json!({ "user_id": fixtures::session().user_id.to_string(), "issue_token": true });
    let created = fixture.service_post("/service/v1/sessions", body.to_string()).await.json();
    let verify = json!({ "token": created["token"] }).to_string();
    let verified = fixture.service_post("/service/v1/sessions/verify", verify).await.json();
    let events = fixture.service_get("/service/v1/events").await.json();
    let problem = fixture.service_get("/service/v1/sessions/x").await.json();
    for (schema, value) in [
        ("SessionBody", &verified["session"]),
        ("VerifiedBody", &verified),
        ("EventsBody", &events),
        ("EventBody", &events["events"][0]),
        ("ProblemBody", &problem),
        ("FieldError", &problem["errors"][0]),
    ] {
        let described = &document["components"]["schemas"][schema];
        let fields: BTreeSet<_> = value.as_object().unwrap().keys().collect();
        let properties: BTreeSet<_> = described["properties"].as_object().unwrap().keys().collect();
        assert_eq!(fields, properties, "{schema}");
        let required = described["required"].as_array().unwrap().len();
        let optional = usize::from(schema == "ProblemBody");
        assert_eq!(required + optional, fields.len(), "{schema}: {described}");
    }
}

async fn get(fixture: &Fixture, path: &str) -> Reply {
    fixture.service(Request::get(path).body(Body::empty()).unwrap()).await
}

/// The viewer works without the Internet: every file that its page names is part of the binary, and
/// its policy lets it load nothing from elsewhere.
#[tokio::test]
async fn viewer_is_served_from_the_binary_and_shows_the_description() {
    let fixture = Fixture::new();
    let page = get(&fixture, "/docs").await;
    assert_eq!((page.status.as_u16(), page.header("content-type")), (200, "text/html"));
    assert!(page.header("content-security-policy").starts_with("default-src 'self'; "));
    let text = page.text();
    assert!(text.contains("<base href=\"/docs/\">"), "{text}");
    let named = ["src=\"", "href=\""].into_iter().flat_map(|name| text.split(name).skip(1));
    let files: Vec<_> = named.map(|rest| rest.split('"').next().unwrap()).collect();
    assert!(files.len() >= 5, "{files:?}");
    for file in files.into_iter().filter(|file| *file != "/docs/") {
        let path = format!("/docs/{}", file.trim_start_matches("./"));
        assert_eq!(get(&fixture, &path).await.status, 200, "{path}");
    }
    let settings = get(&fixture, "/docs/swagger-initializer.js").await;
    let settings = settings.text();
    assert!(settings.contains(r#""url": "/openapi.json""#), "{settings}");
    assert!(settings.contains(r#""validatorUrl": "none""#), "{settings}");
    for unknown in ["/docs/x", "/docs/../Cargo.toml", "/docs/%2e%2e%2fCargo.toml"] {
        assert_eq!(get(&fixture, unknown).await.status, 404, "{unknown}");
    }
}

#[tokio::test]
async fn description_is_served_without_a_key() {
    let fixture = Fixture::new();
    let served = get(&fixture, "/openapi.json").await;
    assert_eq!((served.status.as_u16(), served.header("content-type")), (200, "application/json"));
    assert_eq!(served.json(), document());
}

/// The codes of problems are those that `docs/http.md` explains.
#[test]
fn codes_of_problems_are_those_that_are_documented() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/http.md");
    let text = std::fs::read_to_string(path).unwrap();
    let rows =
        text.split("## Errors").nth(1).unwrap().lines().filter(|line| line.starts_with("| "));
    let codes = rows.filter_map(|row| row.split(" | ").nth(1));
    let documented: BTreeSet<_> =
        codes.flat_map(|codes| codes.split('`').skip(1).step_by(2)).map(str::to_owned).collect();
    let document = document();
    let code = &document["components"]["schemas"]["ProblemBody"]["properties"]["code"]["enum"];
    let described: BTreeSet<_> =
        code.as_array().unwrap().iter().map(|code| code.as_str().unwrap().to_owned()).collect();
    assert_eq!(described, documented);
}
