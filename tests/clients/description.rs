//! The API description has the calls of the clients, and their types.

use std::collections::BTreeSet;
use std::process::Command;

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::Value;
use sessiond_client::{EventPage, Session, SessionList, Verification};
use sessiond_tests::node::binary;
use sessiond_tests::npm::run;
use sessiond_tests::repository::{read, root};

/// Calls of backends that clients leave out: they are for gateways, or a connection without end.
const LEFT_OUT: [&str; 2] = ["introspect", "stream_events"];

/// Returns the API description.
pub(crate) fn document() -> Value {
    let printed = Command::new(binary()).arg("openapi").output().unwrap();
    serde_json::from_slice(&printed.stdout).unwrap()
}

#[test]
fn every_call_of_backends_is_in_the_conformance_suite_and_on_the_page() {
    let document = document();
    let paths = document["paths"].as_object().unwrap().values();
    let operations = paths.flat_map(|item| item.as_object().unwrap().values());
    let of_backends = operations.filter(|operation| operation["tags"][0] == "backends");
    let described = of_backends.map(|operation| operation["operationId"].as_str().unwrap());
    let mut expected: BTreeSet<_> = described.filter(|id| !LEFT_OUT.contains(id)).collect();
    // One operation without its parameter, and with another result.
    expected.insert("inspect_session");

    let cases = crate::cases();
    let steps = cases.iter().flat_map(|case| case["steps"].as_array().unwrap());
    let called: BTreeSet<_> = steps.filter_map(|step| step["call"].as_str()).collect();
    assert_eq!(called, expected);

    let page = read("clients/README.md");
    let rows = page.lines().filter_map(|line| line.strip_prefix("| `"));
    let rows = rows.filter_map(|row| row.split(['(', '`']).next());
    let listed: BTreeSet<_> = rows.filter(|name| expected.contains(name)).collect();
    assert_eq!(listed, expected);
}

/// Returns the fields of a type that reads the example of a schema.
fn fields<T: DeserializeOwned + Serialize>(example: &Value) -> BTreeSet<String> {
    let read: T = serde_json::from_value(example.clone()).unwrap();
    let written = serde_json::to_value(read).unwrap();
    written.as_object().unwrap().keys().cloned().collect()
}

#[test]
fn types_of_the_rust_client_have_the_described_fields() {
    let document = document();
    let schemas = &document["components"]["schemas"];
    let properties = |schema: &str| -> BTreeSet<String> {
        schemas[schema]["properties"].as_object().unwrap().keys().cloned().collect()
    };
    let session = &schemas["SessionBody"]["example"];
    let mut whole = properties("SessionBody");
    whole.extend(["user_agent".to_owned(), "metadata".to_owned()]);
    assert_eq!(fields::<Session>(session), whole);

    let event =
        serde_json::json!({ "events": [&schemas["EventBody"]["example"]], "next_after": 1 });
    assert_eq!(fields::<EventPage>(&event), properties("EventsBody"));
    let page: EventPage = serde_json::from_value(event).unwrap();
    let event = serde_json::to_value(&page.events[0]).unwrap();
    let keys: BTreeSet<_> = event.as_object().unwrap().keys().cloned().collect();
    assert_eq!(keys, properties("EventBody"));

    let list = serde_json::json!({
        "sessions": [session], "total_count": 1, "active_count": 1, "next_cursor": null,
    });
    assert_eq!(fields::<SessionList>(&list), properties("ListBody"));
    let verified = serde_json::json!({ "status": "live", "session": session });
    assert_eq!(fields::<Verification>(&verified), properties("VerifiedBody"));
}

/// Requests that are generated find violations of the description; `scripts/schemathesis.sh` sends
/// more of them.
#[test]
fn a_short_run_of_schemathesis_finds_no_violation() {
    let mut script = Command::new(root().join("scripts/schemathesis.sh"));
    run(script.env("SESSIOND", binary()).env("EXAMPLES", "5"));
}
