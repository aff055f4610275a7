//! The repository that the tests belong to: its documents, the command blocks in them, and a copy
//! to run them in.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Returns the root of the repository.
pub fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

/// Returns the text of a file, by its path from the root.
pub fn read(path: impl AsRef<Path>) -> String {
    let path = root().join(path);
    std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

/// Returns every file that a clone has, and every new file that is not ignored, by its path from
/// the root.
pub fn files() -> Vec<PathBuf> {
    let mut git = Command::new("git");
    git.args(["ls-files", "-z", "--cached", "--others", "--exclude-standard"]).current_dir(root());
    let output = git.output().unwrap_or_else(|error| {
        panic!("this test needs git (Debian: apt-get install git): {error}")
    });
    assert!(
        output.status.success(),
        "this test needs a git checkout: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    let names = String::from_utf8(output.stdout).unwrap();
    let names = names.split_terminator('\0').map(PathBuf::from);
    // A file that was deleted and not yet committed is still listed.
    names.filter(|name| root().join(name).is_file()).collect()
}

/// Returns every document of the project, by its path from the root.
pub fn documents() -> Vec<PathBuf> {
    let mut found = files();
    found.retain(|path| path.extension().is_some_and(|extension| extension == "md"));
    assert!(found.len() > 10, "{found:?}");
    found
}

/// A fenced code block of a document.
pub struct Block {
    /// The document, by its path from the root.
    pub document: PathBuf,
    /// The word after the opening fence, such as `sh`.
    pub language: String,
    /// The lines between the fences, without the fences' indentation.
    pub text: String,
}

/// Returns every fenced code block of every document.
pub fn blocks() -> Vec<Block> {
    documents().into_iter().flat_map(|document| blocks_of(&document)).collect()
}

fn blocks_of(document: &Path) -> Vec<Block> {
    let text = read(document);
    let mut blocks = Vec::new();
    let is_fence = |line: &&str| line.trim_start().starts_with("```");
    let mut lines = text.lines();
    while let Some(opening) = lines.find(is_fence) {
        let indentation = opening.len() - opening.trim_start().len();
        let within = |line: &'_ str| line.get(indentation..).unwrap_or_default().to_owned();
        let lines: Vec<_> = lines.by_ref().take_while(|line| !is_fence(line)).map(within).collect();
        let language = opening.trim_start().trim_start_matches('`').trim().to_owned();
        blocks.push(Block { document: document.to_owned(), language, text: lines.join("\n") });
    }
    blocks
}

/// Makes this folder a copy of the repository, as a clone would be. Files that have not changed
/// since the last time are left alone, so that a second build of the copy has nothing to do. Files
/// that are not in the repository are removed.
pub fn copy_into(target: &Path) {
    let files = files();
    for name in &files {
        let from = root().join(name);
        let to = target.join(name);
        let bytes = std::fs::read(&from).unwrap();
        if std::fs::read(&to).is_ok_and(|there| there == bytes) {
            continue;
        }
        std::fs::create_dir_all(to.parent().unwrap()).unwrap();
        // Keeps the permissions.
        std::fs::copy(&from, &to).unwrap();
    }
    let known: BTreeSet<_> = files.iter().collect();
    remove_unknown(target, target, &known);
}

fn remove_unknown(top: &Path, folder: &Path, known: &BTreeSet<&PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            remove_unknown(top, &path, known);
        } else if !known.contains(&path.strip_prefix(top).unwrap().to_owned()) {
            std::fs::remove_file(&path).unwrap();
        }
    }
}
