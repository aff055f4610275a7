//! What the documents say is so.

#![expect(clippy::unwrap_used, reason = "a test that cannot go on says so by panicking")]

mod commands;

use std::collections::BTreeSet;

use sessiond::config::KEYS;
use sessiond_tests::repository::{Block, blocks, documents, files, read, root};

use crate::commands::{CODE, is_not_run};

#[test]
fn the_table_of_keys_is_the_one_in_the_code() {
    let text = read("docs/operating.md");
    let section = text.split("## Configuration").nth(1).unwrap().split("\n## ").next().unwrap();
    let rows: Vec<_> = section.lines().filter(|line| line.starts_with("| `")).collect();
    let expected = KEYS.iter().map(|key| {
        let default = key.default.map_or("none".to_owned(), |default| format!("`{default}`"));
        format!("| `{}` | {default} | {} |", key.name, key.about)
    });
    assert_eq!(rows, expected.collect::<Vec<_>>());
}

#[test]
fn the_table_of_metrics_has_every_metric_that_is_counted() {
    let documented = read("docs/operating.md");
    let mut folders = vec![root().join("crates")];
    let mut counted = 0;
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).unwrap() {
            let path = entry.unwrap().path();
            if path.is_dir() {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "rs") {
                let source = std::fs::read_to_string(&path).unwrap();
                let source: String = source.chars().filter(|c| !c.is_whitespace()).collect();
                for kind in ["counter!(\"", "gauge!(\"", "histogram!(\""] {
                    for name in
                        source.split(kind).skip(1).map(|rest| rest.split('"').next().unwrap())
                    {
                        counted += 1;
                        assert!(
                            documented.contains(&format!("`{name}")),
                            "{name} is not in docs/operating.md"
                        );
                    }
                }
            }
        }
    }
    assert!(counted >= 8, "found {counted} metrics only");
}

/// A block begins with a comment that is a path, and is found in that file, as it is, whatever its
/// indentation.
#[test]
fn code_on_the_pages_is_the_code_in_the_files() {
    let is_code = |block: &Block| CODE.contains(&block.language.as_str()) && !is_not_run(block);
    let blocks: Vec<_> = blocks().into_iter().filter(is_code).collect();
    for block in &blocks {
        let document = block.document.display();
        let (first, code) = block.text.split_once('\n').unwrap();
        let path = ["// ", "# ", "<!-- "].iter().find_map(|start| first.strip_prefix(start));
        let Some(path) = path.map(|path| path.trim_end_matches(" -->")) else {
            panic!("{document}: which file is this? {code}")
        };
        let trimmed =
            |text: &str| text.lines().map(|line| line.trim().to_owned() + "\n").collect::<String>();
        let code = trimmed(code.trim());
        let source = trimmed(&read(path));
        assert!(source.contains(&code), "{document}: not in {path}:\n{code}");
    }
    assert!(blocks.len() >= 8, "found {} blocks only", blocks.len());
}

/// Code, comments, SQL and Markdown have 100 columns. Only rows of tables cannot be wrapped.
#[test]
fn lines_have_a_hundred_columns_at_most() {
    let mut checked = 0;
    for path in files() {
        let extension =
            path.extension().and_then(|extension| extension.to_str()).unwrap_or_default();
        if !["rs", "md", "sql"].contains(&extension) {
            continue;
        }
        checked += 1;
        for (number, line) in read(&path).lines().enumerate() {
            let is_row = extension == "md" && line.trim_start().starts_with('|');
            let is_short = line.chars().count() <= 100 || is_row;
            assert!(is_short, "{}:{}: {line}", path.display(), number + 1);
        }
    }
    assert!(checked > 200, "checked {checked} files only");
}

/// Values that have nothing to do with one another are bound one by one.
#[test]
fn no_tuple_is_made_only_to_be_taken_apart() {
    for path in files() {
        if path.extension().is_some_and(|extension| extension == "rs") {
            for (number, line) in read(&path).lines().enumerate() {
                let line = line.trim_start().trim_start_matches("//! ");
                let names = line.strip_prefix("let (").and_then(|line| line.split_once(") = ("));
                let is_tuple = names.is_some_and(|(names, _)| !names.contains('('));
                assert!(!is_tuple, "{}:{}: {line}", path.display(), number + 1);
            }
        }
    }
}

#[test]
fn every_source_file_begins_with_what_is_in_it() {
    let mut checked = 0;
    for path in files() {
        if path.extension().is_some_and(|extension| extension == "rs") {
            checked += 1;
            assert!(read(&path).starts_with("//! "), "{} has no //! line", path.display());
        }
    }
    assert!(checked > 150, "checked {checked} files only");
}

/// Words that stood where the field has a term: see `docs/glossary.md`.
const AVOIDED: [&str; 47] = [
    "anew",
    "answer",
    "answered",
    "answering",
    "answers",
    "anybody",
    "anybodys",
    "believe",
    "believed",
    "believes",
    "everybody",
    "everybodys",
    "forget",
    "forgets",
    "forgotten",
    "gather",
    "gathered",
    "gathering",
    "hear",
    "heard",
    "hears",
    "looked",
    "looks",
    "mistake",
    "mistaken",
    "mistakes",
    "moment",
    "moments",
    "nobody",
    "patience",
    "remember",
    "remembered",
    "remembers",
    "rests",
    "somebody",
    "somebodys",
    "stamp",
    "stamped",
    "stamps",
    "stood",
    "tell",
    "tells",
    "told",
    "unanswered",
    "unwritten",
    "whatever",
    "whoever",
];
/// The same, of several words.
const AVOIDED_PHRASES: [&str; 17] = [
    "asked at once",
    "asked together",
    "at birth",
    "bring over",
    "brought over",
    "by hand",
    "clear away",
    "cleared away",
    "put off",
    "puts off",
    "stood still",
    "take note",
    "taken down",
    "takes note",
    "took down",
    "under way",
    "what is told",
];

/// What is meant otherwise: a function of the standard library, and a user of Unix. "To look up" is
/// the field's term.
const MEANT_OTHERWISE: [(&str, &str); 2] = [
    ("crates/testkit/src/temporary_dir.rs", "forget"),
    ("crates/testkit/src/servers/postgres.rs", "nobody"),
];

#[test]
fn words_are_those_of_the_field() {
    let mut found = BTreeSet::new();
    for path in files() {
        let extension = path.extension().and_then(|it| it.to_str()).unwrap_or_default();
        let name = path.display().to_string();
        let is_exempt = ["CHANGELOG.md", "tests/documents/main.rs"].contains(&name.as_str());
        if is_exempt || !["rs", "md", "sql", "sh"].contains(&extension) {
            continue;
        }
        // Names are taken apart too. Comments and paragraphs are joined across lines.
        let text = read(&path).to_lowercase().replace("looked up", "").replace("looks up", "");
        let words: Vec<_> =
            text.split(|it: char| !it.is_alphabetic()).filter(|word| !word.is_empty()).collect();
        for word in AVOIDED.iter().filter(|word| words.contains(word)) {
            found.insert((name.clone(), *word));
        }
        let text = words.join(" ");
        for phrase in AVOIDED_PHRASES.iter().filter(|phrase| text.contains(**phrase)) {
            found.insert((name.clone(), *phrase));
        }
    }
    let expected: BTreeSet<_> =
        MEANT_OTHERWISE.into_iter().map(|(name, word)| (name.to_owned(), word)).collect();
    assert_eq!(found, expected);
}

#[test]
fn links_and_named_files_exist() {
    for document in documents() {
        let text = read(&document);
        let folder = document.parent().unwrap();
        for target in text.split("](").skip(1).map(|rest| rest.split(')').next().unwrap()) {
            if !target.starts_with("https://") {
                assert!(
                    root().join(folder).join(target).exists(),
                    "{}: {target}",
                    document.display()
                );
            }
        }
        for name in
            text.split('`').filter(|text| text.starts_with("crates/") && !text.contains([' ', '*']))
        {
            assert!(root().join(name).exists(), "{}: {name}", document.display());
        }
    }
}

/// Every code of a problem document has its row, and every row a code.
#[test]
fn the_table_of_errors_is_the_one_in_the_code() {
    let documented = read("docs/http.md");
    let table = documented.split("## Errors").nth(1).unwrap();
    let rows = table
        .lines()
        .filter_map(|line| line.strip_prefix("| "))
        .filter_map(|row| row.split(" | ").nth(1));
    let documented: BTreeSet<_> =
        rows.flat_map(|codes| codes.split('`').skip(1).step_by(2)).collect();
    let source = read("crates/app/src/http/wire/problem.rs");
    let codes = source.split("StatusCode::").skip(1).filter_map(|rest| rest.split('"').nth(1));
    let codes: BTreeSet<_> =
        codes.filter(|code| code.chars().all(|c| c.is_ascii_lowercase() || c == '_')).collect();
    assert!(codes.len() >= 12, "{codes:?}");
    assert_eq!(documented, codes);
}

/// The words are taken from the source, so that a new kind is missed by no list of kinds.
#[test]
fn every_kind_of_event_is_documented() {
    let documented = read("docs/http.md");
    let section = documented.split("### Events").nth(1).unwrap().split("## Errors").next().unwrap();
    let source = read("crates/domain/src/session_event.rs");
    let kinds: Vec<_> =
        source.split("=> \"").skip(1).map(|rest| rest.split('"').next().unwrap()).collect();
    assert!(kinds.len() >= 5, "{kinds:?}");
    for kind in kinds {
        assert!(section.contains(&format!("`{kind}`")), "docs/http.md has no event {kind}");
    }
}

/// The tests that the page on security names are there.
#[test]
fn tests_that_show_what_the_page_on_security_says_exist() {
    let page = read("docs/security.md");
    let rows =
        page.split("## OWASP ASVS").nth(1).unwrap().lines().filter(|line| line.starts_with("| 7."));
    let named: Vec<_> = rows
        .flat_map(|row| {
            row.rsplit(" | ").next().unwrap().split('`').skip(1).step_by(2).map(str::to_owned)
        })
        .collect();
    assert!(named.len() >= 15, "{named:?}");
    let mut sources = String::new();
    for path in files()
        .into_iter()
        .filter(|path| path.extension().is_some_and(|extension| extension == "rs"))
    {
        sources.push_str(&read(&path));
    }
    for test in named {
        assert!(sources.contains(&format!("fn {test}(")), "there is no test {test}");
    }
}
