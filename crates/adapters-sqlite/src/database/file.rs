//! The SQLite file: its lock, and how connections to it are made.

use std::ffi::OsString;
use std::fs::{File, Metadata, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::Duration;

use sea_orm::sqlx::sqlite::{SqliteJournalMode, SqliteSynchronous};
use sea_orm::{ConnectOptions, Database, DatabaseConnection, DbErr, RuntimeErr, sqlx};
use thiserror::Error;
use tokio::time::Instant;

/// How long starting up waits for a connection.
const START_TIMEOUT: Duration = Duration::from_secs(5);
/// How long a call waits for a connection of a pool.
const ACQUIRE_TIMEOUT: Duration = Duration::from_millis(250);
/// How long a statement waits for a lock inside the file.
const BUSY_TIMEOUT: Duration = Duration::from_millis(250);

/// Why the file cannot be used. One line each.
#[derive(Debug, Error)]
pub enum OpenError {
    /// The URL names no file.
    #[error(
        "not a SQLite URL that names a file, such as sqlite://sessiond.db; the path is taken as \
            it is: it has no ':', '?', '#' or '%'"
    )]
    Url,
    /// Another process has the file.
    #[error("{} is in use by another sessiond{}: one SQLite file serves one process; stop that \
        one, or talk to it over HTTP",
             .path.display(), .process.map(|id| format!(" (process {id})")).unwrap_or_default())]
    InUse {
        /// The database file.
        path: PathBuf,
        /// Who has it, where that is known.
        process: Option<u32>,
    },
    /// The file, or the one beside it, cannot be opened.
    #[error("cannot open {}: {source}", .path.display())]
    Io {
        /// The file.
        path: PathBuf,
        /// What the operating system said.
        source: io::Error,
    },
    /// A newer sessiond has been here, and this one is too old for what it left.
    #[error(
        "the database has schema version {found}, which needs a sessiond that knows schema \
            version {needed} or newer; \
             this one knows {known}: install a newer sessiond"
    )]
    NewerSchema {
        /// The version of the file.
        found: i32,
        /// The oldest version that may work with it.
        needed: i32,
        /// The version of this binary.
        known: i32,
    },
    /// The file is no database, or a statement of the set-up failed.
    #[error("cannot use {}: {source}", .path.display())]
    Setup {
        /// The file.
        path: PathBuf,
        /// What SQLite said.
        source: DbErr,
    },
}

/// A database file that is locked for this process for as long as this value lives.
///
/// The lock is on the file itself and not on a name of it: two processes on one file would each
/// acknowledge revocations that the other has not polled. (It is an `flock`, which does not meet
/// SQLite's own locks.)
pub struct DatabaseFile {
    path: PathBuf,
    /// Open for as long as SQLite has the file open: closing it would take SQLite's own locks away
    /// (POSIX).
    file: File,
    _lock: File,
}

impl DatabaseFile {
    /// Returns the path in a URL such as `sqlite://sessiond.db` or
    /// `sqlite:///var/lib/sessiond/sessiond.db`.
    ///
    /// # Errors
    /// [`OpenError::Url`] if it names no file.
    pub fn path_of(url: &str) -> Result<PathBuf, OpenError> {
        let path = url.strip_prefix("sqlite:").ok_or(OpenError::Url)?;
        let path = path.strip_prefix("//").unwrap_or(path);
        if path.is_empty() || path.contains([':', '?', '#', '%']) {
            return Err(OpenError::Url);
        }
        Ok(path.into())
    }

    /// Locks the file that the URL names, and makes it (readable by its owner alone) if it is not
    /// there.
    ///
    /// # Errors
    /// [`OpenError::InUse`] if another process has it; [`OpenError::Io`] if it cannot be opened.
    pub fn lock(url: &str) -> Result<Self, OpenError> {
        let path = Self::path_of(url)?;
        if !path.exists() {
            open_private(&path)?;
        }
        let real_path =
            path.canonicalize().map_err(|source| OpenError::Io { path: path.clone(), source })?;
        // The file beside it says which process has it. It is asked first, so that a file that is
        // in use is not opened.
        let lock_path = with_suffix(&real_path, ".lock");
        let mut lock = open_private(&lock_path)?;
        if !try_lock(&lock, &lock_path)? {
            let mut holder = String::new();
            let _ = lock.read_to_string(&mut holder);
            return Err(OpenError::InUse { path, process: holder.trim().parse().ok() });
        }
        let file = open_private(&real_path)?;
        if !try_lock(&file, &real_path)? {
            return Err(OpenError::InUse { path, process: None });
        }
        // Only a hint for the process that is refused, so a failure to write it does not matter.
        let _ = lock
            .set_len(0)
            .and_then(|()| lock.rewind())
            .and_then(|()| writeln!(lock, "{}", std::process::id()));
        Ok(Self { path, file, _lock: lock })
    }

    /// Returns whether the path still leads to the file that is open: what is written to one that
    /// was deleted is lost.
    pub(crate) fn is_in_place(&self) -> bool {
        let same = |open: Metadata, named: Metadata| {
            (open.dev(), open.ino()) == (named.dev(), named.ino())
        };
        self.file
            .metadata()
            .and_then(|open| Ok(same(open, std::fs::metadata(&self.path)?)))
            .unwrap_or(false)
    }

    /// Returns where the file is.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Returns the one connection that may write.
    pub(crate) async fn writer(&self) -> Result<DatabaseConnection, OpenError> {
        self.connect(1, false).await
    }

    /// `connections` that read, and cannot write.
    pub(crate) async fn readers(&self, connections: u32) -> Result<DatabaseConnection, OpenError> {
        self.connect(connections, true).await
    }

    async fn connect(
        &self,
        connections: u32,
        read_only: bool,
    ) -> Result<DatabaseConnection, OpenError> {
        let path = self.path.clone();
        // The path is set below, because a URL would have to be escaped.
        let mut options = ConnectOptions::new("sqlite://");
        options
            .max_connections(connections)
            .min_connections(1)
            .acquire_timeout(ACQUIRE_TIMEOUT)
            .test_before_acquire(false)
            .idle_timeout(None)
            .max_lifetime(None)
            .sqlx_logging(false)
            .map_sqlx_sqlite_opts(move |options| {
                options
                    .filename(&path)
                    .in_memory(false)
                    .shared_cache(false)
                    .read_only(read_only)
                    .journal_mode(SqliteJournalMode::Wal)
                    .synchronous(SqliteSynchronous::Full)
                    .busy_timeout(BUSY_TIMEOUT)
                    .foreign_keys(true)
            });
        connect_patiently(|| Database::connect(options.clone()))
            .await
            .map_err(|source| self.setup_error(source))
    }

    pub(crate) fn setup_error(&self, source: DbErr) -> OpenError {
        OpenError::Setup { path: self.path.clone(), source }
    }
}

/// Tries again for [`START_TIMEOUT`] while time runs out: calls give up on a connection sooner than
/// a busy machine opens the first one.
async fn connect_patiently<T>(connect: impl AsyncFn() -> Result<T, DbErr>) -> Result<T, DbErr> {
    let started = Instant::now();
    loop {
        match connect().await {
            Err(error) if timed_out(&error) && started.elapsed() < START_TIMEOUT => {}
            response => return response,
        }
    }
}

fn timed_out(error: &DbErr) -> bool {
    let DbErr::Conn(RuntimeErr::SqlxError(source)) = error else { return false };
    matches!(**source, sqlx::Error::PoolTimedOut)
}

/// Returns whether the file was free, and is ours now.
fn try_lock(file: &File, path: &Path) -> Result<bool, OpenError> {
    match file.try_lock() {
        Ok(()) => Ok(true),
        Err(TryLockError::WouldBlock) => Ok(false),
        Err(TryLockError::Error(source)) => Err(OpenError::Io { path: path.into(), source }),
    }
}

fn with_suffix(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    name.into()
}

fn open_private(path: &Path) -> Result<File, OpenError> {
    let open = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(path);
    open.map_err(|source| OpenError::Io { path: path.into(), source })
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicU32, Ordering};

    use super::*;

    #[tokio::test(start_paused = true)]
    async fn starting_up_waits_for_a_connection_for_five_seconds() {
        // What sea-orm returns when the pool's time is up.
        let timed_out = || DbErr::Conn(RuntimeErr::SqlxError(sqlx::Error::PoolTimedOut.into()));
        let attempts = AtomicU32::new(0);
        let third = connect_patiently(async || match attempts.fetch_add(1, Ordering::Relaxed) {
            0 | 1 => Err(timed_out()),
            attempt => Ok(attempt),
        });
        assert_eq!(third.await.unwrap(), 2);

        let started = Instant::now();
        let never = connect_patiently::<()>(async || {
            tokio::time::sleep(ACQUIRE_TIMEOUT).await;
            Err(timed_out())
        });
        assert!(super::timed_out(&never.await.unwrap_err()));
        assert_eq!(started.elapsed(), START_TIMEOUT);

        // What more time does not mend is reported at once.
        let started = Instant::now();
        let refused = DbErr::Conn(RuntimeErr::SqlxError(sqlx::Error::PoolClosed.into()));
        assert_eq!(
            connect_patiently::<()>(async || Err(refused.clone())).await.unwrap_err(),
            refused
        );
        assert_eq!(started.elapsed(), Duration::ZERO);
    }
}
