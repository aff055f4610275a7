//! Packages of npm, which tests install into the target directory.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::node::profile_dir;
use crate::repository::{files, root};

/// Copies these folders of the repository to one of this name in the target directory, and installs
/// there what their lock files name. Returns the folder that they are in.
///
/// # Panics
/// If npm is absent, or has no registry.
pub fn install(name: &str, packages: &[&str]) -> PathBuf {
    let folder = profile_dir().join(name);
    let _ = std::fs::remove_dir_all(&folder);
    for package in packages {
        for file in files().iter().filter(|file| file.starts_with(package)) {
            let copy = folder.join(file);
            std::fs::create_dir_all(copy.parent().unwrap_or(Path::new(""))).unwrap();
            std::fs::copy(root().join(file), copy).unwrap();
        }
        let mut install = Command::new("npm");
        install.args(["ci", "--no-audit", "--no-fund", "--prefer-offline"]);
        run(install.current_dir(folder.join(package)));
    }
    folder
}

/// Runs a command to its end, which has to be a success.
///
/// # Panics
/// If it is not, with what it printed.
pub fn run(command: &mut Command) {
    let output = command.stdin(Stdio::null()).output().unwrap_or_else(|error| {
        panic!(
            "{command:?}: {error} (Debian: apt-get install nodejs npm python3 python3-venv \
                chromium)"
        )
    });
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let printed = text(&output.stdout);
    let errors = text(&output.stderr);
    assert!(output.status.success(), "{command:?}:\n{printed}\n{errors}");
}
