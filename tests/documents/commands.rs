//! The command blocks of the documents are run as they are printed, and the commands within the
//! text exist.

use std::collections::BTreeMap;
use std::os::unix::fs::{PermissionsExt, symlink};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use sessiond::config::KEYS;
use sessiond_tests::node::{ALICE, Node, binary, profile_dir, run, use_free_ports};
use sessiond_tests::repository::{Block, blocks, copy_into, documents, read, root};
use testkit::TemporaryDir;
use testkit::servers::{PostgresServer, RedisServer};

/// Every command block, and what runs it: a test of this file, or something that no test can run
/// within itself.
const COMMAND_BLOCKS: [(&str, &str, &str); 5] = [
    ("README.md", "cargo run", "cargo_run_and_just_run_serve_and_the_printed_lines_work"),
    // The run that this test is a part of, and what `.ci/run` calls in a fresh clone.
    ("README.md", "scripts/test.sh", "the_readmes_test_command_is_the_one_that_ci_runs"),
    // An hour.
    ("bench/README.md", "just bench", "commands_within_the_text_exist"),
    ("docs/operating.md", "export SESSIOND_STORE__URL", "the_production_settings_start_a_node"),
    ("docs/operating.md", "sessiond import dashtam", "the_import_command_reads_the_original"),
];

/// How long compiling the shipped binary may take.
const COMPILED_WITHIN: Duration = Duration::from_secs(600);

/// The one block of a document that begins with this.
fn block(document: &str, start: &str) -> String {
    let mut found = blocks();
    found.retain(|block| block.document == Path::new(document) && block.text.starts_with(start));
    assert_eq!(found.len(), 1, "blocks of {document} that begin with {start}");
    found.remove(0).text
}

/// What a block may be marked as, beside code: commands, a configuration, a picture, or nothing.
const LANGUAGES: [&str; 4] = ["sh", "toml", "mermaid", ""];

/// What a block of code of this repository is marked as.
pub(crate) const CODE: [&str; 5] = ["rust", "js", "ts", "python", "html"];

/// Blocks that no test runs, for they need more than Debian has: this one writes a file that is
/// here already.
const NOT_RUN: [(&str, &str); 1] = [("crates/adapters-maxmind/tests/README.md", "python")];

pub(crate) fn is_not_run(block: &Block) -> bool {
    NOT_RUN.iter().any(|(document, language)| {
        block.document == Path::new(document) && block.language == *language
    })
}

#[test]
fn every_command_block_is_run_by_a_test() {
    let tests = include_str!("commands.rs");
    for block in blocks() {
        let is_known = LANGUAGES.iter().chain(&CODE).any(|known| *known == block.language);
        assert!(
            is_known,
            "{}: what runs a block of `{}`?",
            block.document.display(),
            block.language
        );
        let commands = ["cargo ", "curl ", "docker ", "just ", "sessiond ", "$ "];
        let is_command = |line: &str| commands.iter().any(|command| line.starts_with(command));
        let hidden = block.language.is_empty() && block.text.lines().any(is_command);
        assert!(
            !hidden,
            "{}: mark these commands as `sh`:\n{}",
            block.document.display(),
            block.text
        );
    }
    for block in blocks().iter().filter(|block| block.language == "sh") {
        let known = COMMAND_BLOCKS.iter().find(|(document, start, _)| {
            block.document == Path::new(document) && block.text.starts_with(start)
        });
        assert!(
            known.is_some(),
            "{}: no test runs this block:\n{}",
            block.document.display(),
            block.text
        );
    }
    for (document, start, test) in COMMAND_BLOCKS {
        block(document, start);
        assert!(tests.contains(&format!("fn {test}()")), "there is no test {test}");
    }
}

/// A `toml` block is a configuration that sessiond takes.
#[test]
fn configurations_on_the_pages_are_accepted() {
    let mut found = blocks();
    found.retain(|block| block.language == "toml");
    assert!(found.len() >= 2, "found {} only", found.len());
    for block in found {
        let dir = TemporaryDir::new();
        std::fs::write(dir.path().join("sessiond.toml"), &block.text).unwrap();
        let shown = run(Command::new(binary()).args(["config", "show"]).current_dir(dir.path()));
        assert!(shown.status.success(), "{}:\n{}\n{shown:?}", block.document.display(), block.text);
    }
}

/// A process group, as a terminal makes one; killed when dropped.
struct Foreground(Child);

impl Foreground {
    fn start(command: &mut Command) -> Self {
        Self(command.process_group(0).stdin(Stdio::null()).spawn().unwrap())
    }

    fn signal(&self, name: &str) {
        let group = format!("-{}", self.0.id());
        let _ = Command::new("kill").args([&format!("-{name}"), "--", &group]).status();
    }
}

impl Drop for Foreground {
    fn drop(&mut self) {
        if let Ok(None) = self.0.try_wait() {
            self.signal("KILL");
            let _ = self.0.wait();
        }
    }
}

/// A newcomer's first minute: the README's command in a copy of the repository, the lines that it
/// prints pasted into another shell, and Ctrl-C. This is also the test of the binary that is
/// shipped, without fail points.
#[test]
fn cargo_run_and_just_run_serve_and_the_printed_lines_work() {
    let copy = Path::new(env!("CARGO_TARGET_TMPDIR")).join("copy-of-the-repository");
    for command in [block("README.md", "cargo run"), just("run")] {
        copy_into(&copy);
        let stdout = copy.join("stdout");
        let stderr = copy.join("stderr");
        let mut shell = Command::new("sh");
        // Like a shell at a terminal, this one outlives the Ctrl-C that ends its command.
        shell.args(["-euc", &format!("trap : INT\n{command}")]).current_dir(&copy);
        shell
            .stdout(std::fs::File::create(&stdout).unwrap())
            .stderr(std::fs::File::create(&stderr).unwrap());
        use_free_ports(&mut shell);
        let target = profile_dir();
        shell.env("CARGO_TARGET_DIR", target.parent().unwrap());
        // The libraries that are compiled already serve the copy too. Its own crates must not be
        // taken for those of this repository, to which cargo gives the same names: without debug
        // information, which libraries never have here, they get others.
        shell.env("CARGO_PROFILE_DEV_DEBUG", "false");
        let mut serving = Foreground::start(&mut shell);
        let said = |path: &PathBuf| std::fs::read_to_string(path).unwrap();
        let started = Instant::now();
        let lines = loop {
            if let Some(lines) = first_steps(&said(&stdout)) {
                break lines;
            }
            let ended = serving.0.try_wait().unwrap();
            assert!(ended.is_none(), "`{command}` ended: {ended:?}\n{}", said(&stderr));
            assert!(
                started.elapsed() < COMPILED_WITHIN,
                "`{command}` does not serve\n{}",
                said(&stderr)
            );
            std::thread::sleep(Duration::from_millis(50));
        };
        assert!(!said(&stderr).contains("warning: "), "`{command}` warns\n{}", said(&stderr));

        let elsewhere = TemporaryDir::new();
        let output = run(Command::new("sh").args(["-euc", &lines]).current_dir(elsewhere.path()));
        let response = String::from_utf8(output.stdout).unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        assert!(response.starts_with("HTTP/1.1 200 OK"), "{response}");
        assert!(
            response.contains("\"status\":\"live\"") && response.contains("\"is_current\":true"),
            "{response}"
        );

        serving.signal("INT");
        let interrupted = Instant::now();
        let status = loop {
            if let Some(status) = serving.0.try_wait().unwrap() {
                break status;
            }
            assert!(
                interrupted.elapsed() < Duration::from_secs(10),
                "`{command}` goes on after Ctrl-C"
            );
            std::thread::sleep(Duration::from_millis(10));
        };
        // `just` reports the Ctrl-C itself, by 130, also where its command has ended in order.
        let is_just = command.starts_with("just ");
        assert!(
            status.success() || is_just && status.code() == Some(130),
            "{status}: {}",
            said(&stderr)
        );
        assert!(said(&stderr).contains("stopped"), "not stopped in order: {}", said(&stderr));
    }
}

/// The lines to paste, once the whole greeting has been printed.
fn first_steps(stdout: &str) -> Option<String> {
    let (_, lines) = stdout.split_once("in another terminal:\n")?;
    (lines.contains("curl -i") && lines.ends_with("\n\n")).then(|| lines.to_owned())
}

/// `just` with this recipe; where `just` is not installed, the lines that it would run.
fn just(recipe: &str) -> String {
    let installed =
        Command::new("just").arg("--version").output().is_ok_and(|output| output.status.success());
    if installed { format!("just {recipe}") } else { recipes()[recipe].clone() }
}

/// The recipes of the justfile that take no arguments or any number of them, with their lines.
fn recipes() -> BTreeMap<String, String> {
    let justfile = read("justfile");
    let mut recipes: BTreeMap<String, String> = BTreeMap::new();
    let mut recipe = String::new();
    for line in justfile.lines() {
        if let Some(command) = line.strip_prefix("    ") {
            recipes.get_mut(&recipe).unwrap().push_str(&format!("{command}\n"));
        } else if let Some((head, _)) = line.split_once(':').filter(|_| !line.starts_with('#')) {
            recipe = head.split_whitespace().next().unwrap().to_owned();
            recipes.insert(recipe.clone(), String::new());
        }
    }
    recipes
}

#[test]
fn the_readmes_test_command_is_the_one_that_ci_runs() {
    let command = block("README.md", "scripts/test.sh");
    assert!(read(".ci/run").lines().any(|line| line == command));
    assert_eq!(recipes()["test"].trim(), command);
}

/// The environment of a block as it is printed, with `values` in place of its example values.
fn with_values(block: &str, values: &[(&str, &str)]) -> String {
    let mut text = block.to_owned();
    for (example, value) in values {
        assert!(text.contains(example), "no {example} in:\n{text}");
        text = text.replace(example, &format!("'{value}'"));
    }
    text
}

/// A shell in a directory of its own, in which `sessiond` is installed.
fn shell_with_sessiond(dir: &Path, commands: &str) -> Command {
    let bin = dir.join("bin");
    std::fs::create_dir(&bin).unwrap();
    symlink(binary(), bin.join("sessiond")).unwrap();
    let mut shell = Command::new("sh");
    use_free_ports(&mut shell);
    let path = std::env::var("PATH").unwrap();
    shell
        .args(["-euc", commands])
        .current_dir(dir)
        .env("PATH", format!("{}:{path}", bin.display()));
    shell
}

#[tokio::test]
async fn the_production_settings_start_a_node() {
    let block = block("docs/operating.md", "export SESSIOND_STORE__URL");
    for line in block.lines().filter_map(|line| line.strip_prefix("export SESSIOND_")) {
        let key = line.split('=').next().unwrap().to_lowercase().replace("__", ".");
        assert!(KEYS.iter().any(|known| known.name == key), "there is no setting {key}");
    }
    let database = PostgresServer::shared().database();
    let redis = RedisServer::start();
    let commands = with_values(
        &block,
        &[
            (
                "postgres://sessiond:secret@db.internal/sessiond?sslmode=verify-full",
                &database.url(),
            ),
            ("rediss://sessiond:secret@redis.internal:6379", &redis.url()),
        ],
    );
    let dir = TemporaryDir::new();
    let mut shell =
        shell_with_sessiond(dir.path(), &commands.replace("\nsessiond", "\nexec sessiond"));
    let node = Node::start_command(&mut shell, dir).await;
    let session = node.create(ALICE).await;
    assert_eq!(node.service_read(&session, ALICE).await.body["status"], "live");
    assert_eq!(database.psql("SELECT count(*) FROM sessions"), "1");
    assert_eq!(redis.cli(&["DBSIZE"]), "1");
}

#[test]
fn the_import_command_reads_the_original() {
    let block = block("docs/operating.md", "sessiond import dashtam");
    let original = PostgresServer::shared().database();
    original.psql(sessiond_tests::DASHTAM_SESSIONS);
    let url = original.url();
    let commands =
        with_values(&block, &[("postgres://reader:secret@old-db.internal/dashtam", &url)]);
    let dir = TemporaryDir::new();
    let output = run(&mut shell_with_sessiond(dir.path(), &commands));
    let report = String::from_utf8(output.stdout).unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    assert!(report.contains("new here: 1234"), "{report}");
}

/// Recipes, scripts, packages and test targets that the documents name in their text.
#[test]
fn commands_within_the_text_exist() {
    let packages = packages();
    let mut named = 0;
    for document in documents() {
        // What was once so may stay in the record of changes.
        if document == Path::new("CHANGELOG.md") {
            continue;
        }
        let text = read(&document);
        for command in text.split('`').filter(|code| !code.contains('\n')) {
            let words: Vec<_> = command.split_whitespace().collect();
            for pair in words.windows(2) {
                let exists = match pair {
                    ["-p", package] if words[0] == "cargo" => {
                        packages.contains_key(*package) || PLACEHOLDERS.contains(package)
                    }
                    ["--test", target] if words[0] == "cargo" => {
                        packages.values().flatten().any(|test| test == target)
                    }
                    ["just", recipe] if words[0] == "just" => recipes().contains_key(*recipe),
                    _ => continue,
                };
                named += 1;
                assert!(exists, "{}: there is no {}: `{command}`", document.display(), pair[1]);
            }
            if let Some(script) =
                words.first().filter(|word| word.starts_with("scripts/") || word.ends_with(".sh"))
            {
                named += 1;
                let mode =
                    std::fs::metadata(root().join(script)).map(|file| file.permissions().mode());
                assert!(
                    mode.is_ok_and(|mode| mode & 0o111 != 0),
                    "{}: cannot run {script}",
                    document.display()
                );
            }
        }
    }
    assert!(named >= 10, "found {named} commands only");
}

/// Names that stand for the reader's own.
const PLACEHOLDERS: [&str; 2] = ["<crate>", "adapters-yours"];

/// The packages of the workspace with their test targets.
fn packages() -> BTreeMap<String, Vec<String>> {
    let mut metadata = Command::new(env!("CARGO"));
    metadata
        .args(["metadata", "--format-version", "1", "--no-deps", "--offline"])
        .current_dir(root());
    let output = metadata.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: serde_json::Value = serde_json::from_slice(&output.stdout).unwrap();
    let name = |value: &serde_json::Value| value["name"].as_str().unwrap().to_owned();
    let tests = |package: &serde_json::Value| {
        let targets = package["targets"].as_array().unwrap().iter();
        targets.filter(|target| target["kind"][0] == "test").map(name).collect()
    };
    metadata["packages"]
        .as_array()
        .unwrap()
        .iter()
        .map(|package| (name(package), tests(package)))
        .collect()
}
