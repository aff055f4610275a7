//! Who may import whom, as a test. The table is the rule; `docs/architecture.md` explains it.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::process::Command;

use serde_json::Value;

/// A crate, the crates of this workspace that it may use, and the libraries it may use.
struct Rule(&'static str, &'static [&'static str], &'static [&'static str]);

const ADAPTERS: [&str; 6] = [
    "adapters-maxmind",
    "adapters-memory",
    "adapters-postgres",
    "adapters-redis",
    "adapters-sqlite",
    "adapters-ua-parser",
];

const RULES: [Rule; 14] = [
    Rule(
        "domain",
        &[],
        &[
            "async-trait",
            "chrono",
            "serde_json",
            "subtle",
            "thiserror",
            "unicode-properties",
            "uuid",
        ],
    ),
    Rule(
        "application",
        &["domain"],
        &[
            "async-trait",
            "chrono",
            "fail",
            "futures-util",
            "metrics",
            "thiserror",
            "tracing",
            "uuid",
        ],
    ),
    Rule("batching", &[], &["thiserror", "tokio"]),
    Rule("adapters-maxmind", &["domain"], &["maxminddb", "thiserror"]),
    Rule("adapters-ua-parser", &["domain"], &["serde_json", "thiserror", "ua-parser"]),
    Rule("adapters-memory", &["domain"], &["async-trait", "chrono", "quick_cache"]),
    Rule(
        "adapters-postgres",
        &["domain", "batching"],
        &[
            "async-trait",
            "chrono",
            "fail",
            "sea-orm",
            "sea-orm-migration",
            "sqlx",
            "thiserror",
            "tokio",
            "tracing",
            "uuid",
        ],
    ),
    Rule(
        "adapters-sqlite",
        &["domain"],
        &[
            "async-trait",
            "chrono",
            "sea-orm",
            "sea-orm-migration",
            "thiserror",
            "tokio",
            "tracing",
            "uuid",
        ],
    ),
    Rule(
        "adapters-redis",
        &["domain", "batching"],
        &[
            "arc-swap",
            "async-trait",
            "aws-lc-rs",
            "chrono",
            "fred",
            "metrics",
            "postcard",
            "serde",
            "thiserror",
            "tokio",
            "tracing",
            "uuid",
        ],
    ),
    Rule(
        "testkit",
        &["domain"],
        &["async-trait", "chrono", "futures-util", "proptest", "serde_json", "tokio", "uuid"],
    ),
    Rule(
        "sessiond-client",
        &[],
        &[
            "chrono",
            "fastrand",
            "http",
            "reqwest",
            "secrecy",
            "serde",
            "serde_json",
            "thiserror",
            "tokio",
            "tower",
            "uuid",
        ],
    ),
    Rule(
        "sessiond",
        &[
            "domain",
            "application",
            "adapters-maxmind",
            "adapters-memory",
            "adapters-postgres",
            "adapters-redis",
            "adapters-sqlite",
            "adapters-ua-parser",
        ],
        &[
            "anyhow",
            "arc-swap",
            "async-trait",
            "aws-lc-rs",
            "axum",
            "base64",
            "chrono",
            "clap",
            "cookie",
            "fail",
            "fastrand",
            "form_urlencoded",
            "futures-util",
            "governor",
            "hex",
            "http-body-util",
            "humantime",
            "hyper",
            "hyper-util",
            "indicatif",
            "ipnetwork",
            "jsonwebtoken",
            "metrics",
            "metrics-exporter-prometheus",
            "open",
            "quick_cache",
            "reqwest",
            "rlimit",
            "rustix",
            "secrecy",
            "serde",
            "serde_json",
            "serde_path_to_error",
            "serde_urlencoded",
            "strsim",
            "tempfile",
            "thiserror",
            "tokio",
            "tokio-util",
            "toml",
            "tower",
            "tower-http",
            "tracing",
            "tracing-appender",
            "tracing-subscriber",
            "url",
            "utoipa",
            "utoipa-swagger-ui",
            "uuid",
        ],
    ),
    Rule("sessiond-tests", &["testkit"], &["jsonwebtoken", "reqwest", "serde_json", "tokio"]),
    Rule("sessiond-bench", &["domain", "testkit"], &[]),
];

fn workspace() -> Vec<Value> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    metadata["packages"].as_array().unwrap().clone()
}

/// The names of a package's dependencies; `dev`: those of its tests.
fn dependencies(package: &Value, dev: bool) -> BTreeSet<String> {
    let all = package["dependencies"].as_array().unwrap().iter();
    let wanted = all.filter(|dependency| (dependency["kind"] == "dev") == dev);
    wanted.map(|dependency| dependency["name"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn every_crate_uses_exactly_what_the_table_says() {
    let packages = workspace();
    let names: BTreeSet<_> =
        packages.iter().map(|package| package["name"].as_str().unwrap()).collect();
    let ruled: BTreeSet<_> = RULES.iter().map(|rule| rule.0).collect();
    assert_eq!(names, ruled, "every crate of the workspace has a row, and every row a crate");

    for package in &packages {
        let name = package["name"].as_str().unwrap();
        let Rule(_, crates, libraries) = RULES.iter().find(|rule| rule.0 == name).unwrap();
        let allowed: BTreeSet<_> =
            crates.iter().chain(*libraries).map(|name| (*name).to_owned()).collect();
        let used = dependencies(package, false);
        let forbidden: Vec<_> = used.difference(&allowed).collect();
        assert!(
            forbidden.is_empty(),
            "{name} must not use {forbidden:?}: see docs/architecture.md"
        );
        let unused: Vec<_> = allowed.difference(&used).collect();
        assert!(
            unused.is_empty(),
            "the table lets {name} use {unused:?}, which it does not: remove the entry"
        );
    }
}

#[test]
fn adapters_see_neither_each_other_nor_the_application_not_even_in_tests() {
    for package in workspace() {
        let name = package["name"].as_str().unwrap();
        if !ADAPTERS.contains(&name) && name != "testkit" && name != "domain" {
            continue;
        }
        let used: BTreeSet<_> =
            dependencies(&package, false).union(&dependencies(&package, true)).cloned().collect();
        for other in ADAPTERS.iter().chain(&["application", "sessiond"]) {
            assert!(!used.contains(*other), "{name} must not use {other}");
        }
    }
}

#[test]
fn the_domain_has_no_tests_that_would_compile_it_twice() {
    let packages = workspace();
    let domain = packages.iter().find(|package| package["name"] == "domain").unwrap();
    assert_eq!(dependencies(domain, true), BTreeSet::new());
}

/// The `.rs` files under a folder, with their paths inside it.
fn sources(folder: &str) -> Vec<(String, String)> {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("..").join(folder);
    let mut folders = vec![root.clone()];
    let mut found = Vec::new();
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let name = path.strip_prefix(&root).unwrap().display().to_string();
                found.push((name, std::fs::read_to_string(&path).unwrap()));
            }
        }
    }
    assert!(!found.is_empty(), "there is no source in {folder}");
    found
}

/// A source without its unit tests, which may use everything they need.
fn product(source: &str) -> &str {
    source.split("#[cfg(test)]\nmod tests {").next().unwrap()
}

#[test]
fn only_the_composition_root_names_concrete_adapters() {
    let sources = sources("crates/app/src");
    let others: Vec<_> =
        sources.iter().filter(|(path, _)| !path.starts_with("composition/")).collect();
    assert!(others.len() > 40, "found {} files only", others.len());
    for (path, source) in others {
        assert!(!product(source).contains("adapters_"), "{path}");
    }
}

/// The rooms of a folder, from top to bottom; those of one row are on one floor, and do not see
/// each other.
struct Floors(&'static str, &'static str, &'static [&'static [&'static str]]);

const FLOORS: [Floors; 8] = [
    Floors(
        "crates/app/src",
        "crate::",
        &[
            &["cli"],
            &["composition"],
            &["file_descriptors"],
            &["http"],
            &["auth"],
            &["telemetry"],
            &["config"],
            &["system", "loopback"],
        ],
    ),
    Floors(
        "crates/app/src/http",
        "crate::http::",
        &[&["openapi"], &["gateway"], &["public", "service"], &["middleware", "server"], &["wire"]],
    ),
    Floors(
        "crates/application/src",
        "crate::",
        &[
            &["application"],
            &["background_tasks"],
            &["commands", "queries"],
            &["coherence"],
            &["activity"],
        ],
    ),
    Floors(
        "crates/domain/src",
        "crate::",
        &[
            &["ports"],
            &["session_event", "coherence"],
            &["session"],
            &["session_token", "policy", "activity", "device", "metadata", "name"],
            &["ids", "address"],
        ],
    ),
    Floors(
        "crates/adapters-postgres/src",
        "crate::",
        &[
            &["sessions", "event_outbox", "node_directory", "dashtam_sessions"],
            &["revocation_feed"],
            &["database"],
            &["migrations"],
        ],
    ),
    Floors(
        "crates/adapters-sqlite/src",
        "crate::",
        &[
            &["sessions", "event_outbox", "node_directory", "revocation_feed"],
            &["database"],
            &["migrations"],
        ],
    ),
    Floors(
        "crates/adapters-redis/src",
        "crate::",
        &[
            &["session_cache"],
            &["batched_gets"],
            &["commands"],
            &["connection", "circuit_breaker", "cached_value"],
        ],
    ),
    Floors(
        "crates/client/src",
        "crate::",
        &[&["require_session"], &["client"], &["transport"], &["error", "types"]],
    ),
];

/// Returns the room of a path such as `http/wire/body.rs` or `wiring.rs`, and of
/// `http::wire::body`.
fn room(path: &str) -> &str {
    path.split(['/', ':', '.', ';', ' ', ',']).next().unwrap()
}

/// Returns the arrows between rooms: who imports whom, with the file that does.
fn arrows(folder: &str, prefix: &str) -> Vec<(String, String, String)> {
    let mut arrows = Vec::new();
    for (path, source) in sources(folder) {
        for line in product(&source).lines().filter(|line| !line.trim_start().starts_with("//")) {
            for (at, _) in line.match_indices(prefix) {
                let used = room(&line[at + prefix.len()..]).to_owned();
                arrows.push((room(&path).to_owned(), used, path.clone()));
            }
        }
    }
    arrows
}

#[test]
fn rooms_import_downward_only_and_by_module() {
    for Floors(folder, prefix, floors) in FLOORS {
        let floor = |room: &str| floors.iter().position(|floor| floor.contains(&room));
        let mut downward = 0;
        for (importer, used, path) in arrows(folder, prefix) {
            if ["lib", "main", "mod", "two_nodes", "test_support"].contains(&importer.as_str()) {
                continue;
            }
            let from = floor(&importer)
                .unwrap_or_else(|| panic!("{folder}/{path}: {importer} has no floor"));
            let is_root =
                used.starts_with(|first: char| first.is_ascii_uppercase() || first == '{');
            assert!(!is_root, "{folder}/{path} imports {prefix}{used}: import by module");
            if importer != used {
                let to =
                    floor(&used).unwrap_or_else(|| panic!("{folder}/{path}: {used} has no floor"));
                assert!(
                    from < to,
                    "{folder}/{path} imports {prefix}{used}, which is not below {importer}"
                );
                downward += 1;
            }
        }
        assert!(downward > 0, "{folder}: no import was found");
    }
}

/// The order of rooms in `docs/architecture.md` is the one that is held here.
#[test]
fn the_table_of_rooms_is_the_one_in_the_document() {
    let path = format!("{}/../docs/architecture.md", env!("CARGO_MANIFEST_DIR"));
    let document = std::fs::read_to_string(path).unwrap();
    for Floors(folder, _, floors) in FLOORS {
        let of = |floor: &&[&str]| {
            floor.iter().map(|room| format!("`{room}`")).collect::<Vec<_>>().join(", ")
        };
        let floors = floors.iter().map(of).collect::<Vec<_>>().join(" > ");
        let row = format!("| `{}` | {floors} |", folder.trim_start_matches("crates/"));
        assert!(document.lines().any(|line| line == row), "docs/architecture.md has no row {row}");
    }
}

/// A test target that no phase names would silently not be run.
#[test]
fn every_test_target_is_run_by_a_phase_of_the_test_script() {
    let script =
        std::fs::read_to_string(format!("{}/../scripts/test.sh", env!("CARGO_MANIFEST_DIR")))
            .unwrap();
    let mut targets = 0;
    for package in workspace() {
        // Those of adapters, and of their template in testkit, are found by their files.
        let package_name = package["name"].as_str().unwrap();
        let is_adapter = package_name.starts_with("adapters-") || package_name == "testkit";
        for target in package["targets"]
            .as_array()
            .unwrap()
            .iter()
            .filter(|target| target["kind"][0] == "test")
        {
            let (name, path) =
                (target["name"].as_str().unwrap(), target["src_path"].as_str().unwrap());
            let is_found = is_adapter && path.ends_with(&format!("/tests/{name}.rs"));
            let is_named = script
                .split_whitespace()
                .collect::<Vec<_>>()
                .windows(2)
                .any(|pair| pair == ["--test", name]);
            assert!(
                is_found || is_named,
                "scripts/test.sh does not run the test target {name} ({path})"
            );
            targets += 1;
        }
    }
    assert!(targets > 10, "found {targets} targets only");
}
