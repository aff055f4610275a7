//! Keys for trying things out.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};

use anyhow::{Context, Result, bail};
use aws_lc_rs::rand;
use secrecy::SecretString;

/// Keys for trying things out, in files (mode 0600) beside the database: made when nothing is
/// configured, and good on loopback only.
pub struct DevKeys {
    dir: PathBuf,
}

impl DevKeys {
    /// Creates the keys in this directory.
    pub fn beside(dir: PathBuf) -> Self {
        Self { dir }
    }

    /// Returns where the secret of HS256 tokens is.
    pub fn token_secret_path(&self) -> PathBuf {
        self.dir.join("sessiond-dev-token-secret")
    }

    /// Returns where the service key is.
    pub fn service_key_path(&self) -> PathBuf {
        self.dir.join("sessiond-dev-service-key")
    }

    /// Returns the secret of HS256 tokens; made if it is not there.
    ///
    /// # Errors
    /// If the file can neither be read nor made.
    pub fn token_secret(&self) -> Result<SecretString> {
        read_or_make(&self.token_secret_path())
    }

    /// Returns the service key; made if it is not there.
    ///
    /// # Errors
    /// If the file can neither be read nor made.
    pub fn service_key(&self) -> Result<SecretString> {
        read_or_make(&self.service_key_path())
    }

    /// Returns a development key that some node has made before.
    ///
    /// # Errors
    /// If the file cannot be read.
    pub fn read(path: &Path) -> Result<SecretString> {
        let shown = path.display();
        let mut file = File::open(path).with_context(|| format!("cannot read {shown}"))?;
        refuse_others(&file, path)?;
        let mut text = String::new();
        file.read_to_string(&mut text).with_context(|| format!("cannot read {shown}"))?;
        let key = text.trim();
        if key.len() < 32 {
            bail!("{shown} holds no development key (at least 32 characters)");
        }
        Ok(key.to_owned().into())
    }
}

/// Of several processes that start at once, one makes the file, whole, and all read it.
fn read_or_make(path: &Path) -> Result<SecretString> {
    if !path.exists() {
        let temporary = path.with_extension(&random_hex()?[..16]);
        let made =
            write_private(&temporary, &random_hex()?).and_then(|()| {
                match std::fs::hard_link(&temporary, path) {
                    Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
                    linked => linked,
                }
            });
        let _ = std::fs::remove_file(&temporary);
        made.with_context(|| format!("cannot make {}", path.display()))?;
    }
    DevKeys::read(path)
}

fn write_private(path: &Path, text: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    writeln!(file, "{text}")
}

/// Refuses a key that another user can have chosen, or can read: it would be their key.
fn refuse_others(file: &File, path: &Path) -> Result<()> {
    let metadata = file.metadata().with_context(|| format!("cannot read {}", path.display()))?;
    let shown = path.display();
    let owner = metadata.uid();
    let own = rustix::process::geteuid().as_raw();
    if !metadata.is_file() {
        bail!("{shown} is no file");
    }
    if owner != own {
        bail!(
            "{shown} belongs to the user {owner} and not to {own}, who runs this: remove it, and \
                sessiond makes a new one"
        );
    }
    let mode = metadata.permissions().mode() & 0o777;
    if mode & 0o077 != 0 {
        bail!(
            "{shown} is open to other users (mode {mode:03o}): if you trust it, run: chmod 600 \
                {shown}"
        );
    }
    Ok(())
}

/// 256 random bits.
fn random_hex() -> Result<String> {
    let mut bytes = [0; 32];
    rand::fill(&mut bytes).context("the operating system has no randomness")?;
    Ok(bytes.iter().map(|byte| format!("{byte:02x}")).collect())
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;

    use secrecy::ExposeSecret;
    use testkit::TemporaryDir;

    use super::*;

    #[test]
    fn keys_are_made_once_random_and_their_owners_alone() {
        let dir = TemporaryDir::new();
        let keys = DevKeys::beside(dir.path().to_owned());
        let secret = keys.token_secret().unwrap();
        assert_eq!(secret.expose_secret().len(), 64);
        assert_eq!(keys.token_secret().unwrap().expose_secret(), secret.expose_secret());
        assert_ne!(keys.service_key().unwrap().expose_secret(), secret.expose_secret());
        let mode = std::fs::metadata(keys.token_secret_path()).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600);
        assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 2, "nothing temporary is left");
    }

    #[test]
    fn an_emptied_file_is_an_error_not_an_empty_key() {
        let dir = TemporaryDir::new();
        let keys = DevKeys::beside(dir.path().to_owned());
        write_private(&keys.service_key_path(), "").unwrap();
        assert!(keys.service_key().unwrap_err().to_string().contains("holds no development key"));
    }

    #[test]
    fn key_that_another_user_can_have_chosen_or_read_is_refused() {
        let dir = TemporaryDir::new();
        let keys = DevKeys::beside(dir.path().to_owned());
        let path = keys.service_key_path();
        write_private(&path, &"x".repeat(64)).unwrap();
        for mode in [0o666, 0o644, 0o640, 0o602] {
            std::fs::set_permissions(&path, Permissions::from_mode(mode)).unwrap();
            assert!(keys.service_key().unwrap_err().to_string().contains("chmod 600"), "{mode:o}");
        }
        std::fs::set_permissions(&path, Permissions::from_mode(0o600)).unwrap();
        assert!(keys.service_key().is_ok());
        // Only root can give a file away.
        if rustix::process::geteuid().is_root() {
            std::os::unix::fs::chown(&path, Some(65534), None).unwrap();
            assert!(
                keys.service_key().unwrap_err().to_string().contains("belongs to the user 65534")
            );
        }
    }
}
