//! The client libraries against a real node: `clients/conformance.json` with each of them, and the
//! applications of `examples/apps`.

#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot go on says so by panicking"
)]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use serde_json::Value;
use sessiond_tests::node::{Node, example};
use sessiond_tests::npm::{self, run};
use sessiond_tests::repository::{read, root};
use testkit::TemporaryDir;

use crate::scripted_server::ScriptedServer;

mod apps;
mod conformance;
mod description;
mod scripted_server;

fn cases() -> Vec<Value> {
    let document: Value = serde_json::from_str(&read("clients/conformance.json")).unwrap();
    document["cases"].as_array().unwrap().clone()
}

#[tokio::test]
async fn the_rust_client_conforms() {
    let cases = cases();
    let node = Node::start(&[]).await;
    let scripted = ScriptedServer::start(&cases);
    for (index, case) in cases.iter().enumerate() {
        let url = match case.get("responses") {
            Some(_) => format!("{}/axum/{index}", scripted.url),
            None => node.service.clone(),
        };
        conformance::run(case, &url, node.service_key()).await;
        scripted.check("axum", index, case);
    }
}

#[tokio::test]
async fn the_typescript_client_conforms() {
    let client = npm_packages().join("clients/typescript");
    let mut test = Command::new("npm");
    test.arg("test").current_dir(client);
    check_conformance(&mut test, ["express", "hono"]).await;
}

#[test]
fn the_typescript_client_has_the_types_of_the_description() {
    let client = npm_packages().join("clients/typescript");
    let dir = TemporaryDir::new();
    let description = dir.path().join("openapi.json");
    let types = dir.path().join("api.ts");
    std::fs::write(&description, description::document().to_string()).unwrap();
    // The tool reads a file only where its input is a terminal.
    let mut generate = Command::new("sh");
    generate.args(["-c", "npm run generate -- --output \"$1\" < \"$0\""]);
    run(generate.arg(&description).arg(&types).current_dir(&client));
    let generated = std::fs::read_to_string(types).unwrap();
    let committed = read("clients/typescript/src/api.ts");
    assert!(
        generated == committed,
        "src/api.ts is stale: `npm run generate -- -o src/api.ts < openapi.json`"
    );

    // Redocly's recommended rules.
    let mut lint = Command::new("npm");
    run(lint.args(["run", "lint-api", "--"]).arg(&description).current_dir(&client));
}

#[tokio::test]
async fn the_python_client_conforms() {
    let dir = TemporaryDir::new();
    let description = dir.path().join("openapi.json");
    std::fs::write(&description, description::document().to_string()).unwrap();
    let mut test = python();
    test.args(["-m", "unittest", "discover", "--start-directory", "clients/python/tests"]);
    test.args(["--top-level-directory", "clients/python"]).env("OPENAPI", description);
    check_conformance(&mut test, ["django", "starlette"]).await;
}

#[tokio::test]
async fn the_axum_application_works() {
    apps::walk_through(&mut Command::new(example("axum-app"))).await;
}

#[tokio::test]
async fn the_express_application_works() {
    let mut node = Command::new("node");
    node.arg("app.mjs").current_dir(npm_packages().join("examples/apps/express"));
    apps::walk_through(&mut node).await;
}

#[tokio::test]
async fn the_django_application_works() {
    apps::walk_through(python().arg("examples/apps/django/app.py")).await;
}

/// The samples of the README, in each of its languages.
#[tokio::test]
async fn the_samples_of_the_readme_work() {
    let node = Node::start(&[]).await;
    let mut javascript = Command::new("node");
    javascript.arg("sign_in.mjs").current_dir(npm_packages().join("examples/apps/express"));
    let mut in_python = python();
    in_python.arg("examples/apps/django/sign_in.py");
    for mut command in [Command::new(example("sign-in")), javascript, in_python] {
        command.env("SESSIOND_URL", &node.service).env("SESSIOND_KEY", node.service_key());
        let output = command.output().unwrap();
        let printed = String::from_utf8(output.stdout).unwrap().to_lowercase();
        let errors = String::from_utf8_lossy(&output.stderr);
        assert_eq!(printed, "live\nrevoked\n", "{command:?}: {errors}");
    }
}

/// Returns Python with the client. The libraries are Debian's, whose Python it has to be.
fn python() -> Command {
    let mut command = Command::new("/usr/bin/python3");
    command.current_dir(root()).env("PYTHONPATH", root().join("clients/python"));
    command.env("PYTHONDONTWRITEBYTECODE", "1");
    command
}

/// Returns where the packages of npm are installed, in the folders that they have here.
fn npm_packages() -> &'static Path {
    static FOLDER: OnceLock<PathBuf> = OnceLock::new();
    FOLDER.get_or_init(|| {
        let folder = npm::install("npm", &["clients/typescript", "examples/apps/express"]);
        let mut build = Command::new("npm");
        run(build.args(["run", "build"]).current_dir(folder.join("clients/typescript")));
        folder
    })
}

/// Runs a command that tests a client against a node, and checks the requests that its frameworks
/// have sent.
async fn check_conformance(command: &mut Command, frameworks: [&str; 2]) {
    let cases = cases();
    let node = Node::start(&[]).await;
    let scripted = ScriptedServer::start(&cases);
    command.env("SESSIOND_URL", &node.service).env("SESSIOND_KEY", node.service_key());
    command.env("SCRIPTED_URL", &scripted.url);
    command.env("CONFORMANCE", root().join("clients/conformance.json"));
    run(command);
    for framework in frameworks {
        for (index, case) in cases.iter().enumerate() {
            scripted.check(framework, index, case);
        }
    }
}
