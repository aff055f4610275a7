//! Private PostgreSQL servers, and databases on them.

use std::os::unix::fs::{MetadataExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use super::supervised::{Supervised, free_port};
use crate::temporary_dir::temporary_dir;

/// The superuser's password over TCP; the Unix socket asks for none.
const PASSWORD: &str = "correct-horse";

/// How long a server may take to start.
const START_TIMEOUT: Duration = Duration::from_secs(30);

/// A private PostgreSQL server, or the one that `DATABASE_URL` names.
pub struct PostgresServer {
    /// `None`: not ours to stop.
    process: Option<Supervised>,
    bin: PathBuf,
    admin_url: String,
    port: u16,
}

/// An empty database of a test's own; dropped with this value.
pub struct TestDatabase {
    server: Arc<PostgresServer>,
    name: String,
}

impl PostgresServer {
    /// Returns the server that the tests of this process share. Statics are never dropped; its
    /// supervisor stops it when the process ends.
    ///
    /// # Panics
    /// If there is neither `DATABASE_URL` nor a PostgreSQL installation: a test that lacks its
    /// server fails.
    pub fn shared() -> Arc<Self> {
        static SHARED: OnceLock<Arc<PostgresServer>> = OnceLock::new();
        let start = || match std::env::var("DATABASE_URL") {
            Ok(url) => Self { process: None, bin: folder_of("psql"), admin_url: url, port: 0 },
            Err(_) => Self::start(),
        };
        SHARED.get_or_init(|| Arc::new(start())).clone()
    }

    /// Starts a private server, even if `DATABASE_URL` is set: for tests that stop it or break it.
    pub fn start() -> Self {
        let dir = owned_dir("postgres");
        let password_file = dir.join("password");
        std::fs::write(&password_file, PASSWORD).expect("a password file");
        let mut initdb = as_owner("initdb");
        initdb.args(["--no-sync", "--no-locale", "--encoding=UTF8", "--username=postgres"]);
        initdb
            .args(["--auth-local=trust", "--auth-host=scram-sha-256", "--pwfile"])
            .arg(&password_file);
        run(initdb.arg("--pgdata").arg(dir.join("data")));
        Self::launch(dir)
    }

    /// Starts a standby with all that this private server has now, which receives what is new
    /// through this TCP port.
    pub fn standby(&self, through: u16) -> Self {
        let dir = owned_dir("postgres");
        let data = dir.join("data");
        let mut copy = as_owner("pg_basebackup");
        copy.args(["--no-sync", "--checkpoint=fast", "--wal-method=stream", "--dbname"])
            .arg(&self.admin_url);
        run(copy.arg("--pgdata").arg(&data));
        let primary = format!("host=127.0.0.1 port={through} user=postgres password={PASSWORD}");
        let settings = data.join("postgresql.auto.conf");
        std::fs::write(settings, format!("primary_conninfo = '{primary}'\n"))
            .expect("the standby's settings");
        std::fs::write(data.join("standby.signal"), "").expect("a file that makes it a standby");
        Self::launch(dir)
    }

    /// Starts a server on the data of this directory, and waits until it responds.
    fn launch(dir: PathBuf) -> Self {
        let bin = folder_of("initdb");
        let owner = unprivileged_owner();
        let data = dir.join("data");
        let port = free_port();
        let data = data.display().to_string();
        let socket_dir = dir.display().to_string();
        let postgres = bin.join("postgres").display().to_string();
        let mut command = vec![postgres.as_str(), "-D", &data, "-k", &socket_dir];
        let port_setting = format!("port={port}");
        // Durability is not what these tests are about, and an idle autovacuum is noise.
        for setting in [
            port_setting.as_str(),
            "listen_addresses=127.0.0.1",
            "fsync=off",
            "synchronous_commit=off",
            "full_page_writes=off",
            "autovacuum=off",
            "jit=off",
            "max_connections=200",
            "shared_buffers=32MB",
        ] {
            command.extend(["-c", setting]);
        }
        let process = Supervised::start(dir.clone(), owner, "INT", &command);
        let admin_url = format!("postgres://postgres@localhost:{port}/postgres?host={socket_dir}");
        let server = Self { process: Some(process), bin, admin_url, port };
        let started = Instant::now();
        while server.psql("SELECT 1").is_err() {
            let log = server.process.as_ref().map(Supervised::log).unwrap_or_default();
            assert!(started.elapsed() < START_TIMEOUT, "PostgreSQL did not start: {log}");
            std::thread::sleep(Duration::from_millis(20));
        }
        server
    }

    /// Makes a standby the primary, with a history of its own from here on.
    pub fn promote(&self) {
        assert_eq!(
            self.psql("SELECT pg_promote(true, 20)").as_deref(),
            Ok("t"),
            "the standby was not promoted"
        );
    }

    /// Returns an empty database.
    pub fn database(self: &Arc<Self>) -> TestDatabase {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let name = format!(
            "sessiond_test_{}_{}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        );
        self.psql(&format!("DROP DATABASE IF EXISTS {name} WITH (FORCE)"))
            .expect("a leftover to be dropped");
        self.psql(&format!("CREATE DATABASE {name}")).expect("a role that may create databases");
        TestDatabase { server: self.clone(), name }
    }

    /// Returns the TCP port of a private server.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Sends every process of a private server a signal: the postmaster and, for `STOP` and `CONT`,
    /// its children too.
    pub fn signal(&self, name: &str) {
        let process =
            self.process.as_ref().expect("a private server: only its own may a test stop");
        process.signal(name);
        if name != "KILL" {
            let _ = Command::new("pkill")
                .arg(format!("-{name}"))
                .arg("-P")
                .arg(process.pid().to_string())
                .status();
        }
    }

    fn psql(&self, sql: &str) -> Result<String, String> {
        psql(&self.bin, &self.admin_url, sql)
    }
}

impl TestDatabase {
    /// Returns where the database is.
    pub fn url(&self) -> String {
        let (base, query) =
            self.server.admin_url.split_once('?').unwrap_or((&self.server.admin_url, ""));
        let base = base.rsplit_once('/').map_or(base, |(base, _)| base);
        let separator = if query.is_empty() { "" } else { "?" };
        format!("{base}/{}{separator}{query}", self.name)
    }

    /// The same database on another server that has a copy of it.
    pub fn on(&self, server: Arc<PostgresServer>) -> Self {
        Self { server, name: self.name.clone() }
    }

    /// Returns where the database is over TCP, with `password` in the URL; only on a private
    /// server.
    pub fn tcp_url(&self, password: &str) -> String {
        format!("postgres://postgres:{password}@127.0.0.1:{}/{}", self.server.port, self.name)
    }

    /// Returns where the database is over TCP, with the right password.
    pub fn tcp_url_with_password(&self) -> String {
        self.tcp_url(PASSWORD)
    }

    /// Returns the server that it is on.
    pub fn server(&self) -> &Arc<PostgresServer> {
        &self.server
    }

    /// Runs SQL as an operator would, by `psql`, and returns what it printed.
    ///
    /// # Panics
    /// If the SQL fails.
    pub fn psql(&self, sql: &str) -> String {
        self.try_psql(sql).unwrap_or_else(|error| panic!("psql: {error}"))
    }

    /// The same for SQL that may fail, with what `psql` said then.
    pub fn try_psql(&self, sql: &str) -> Result<String, String> {
        psql(&self.server.bin, &self.url(), sql)
    }
}

impl Drop for TestDatabase {
    fn drop(&mut self) {
        // A private server's databases go with its directory.
        if self.server.process.is_none() {
            let _ =
                self.server.psql(&format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name));
        }
    }
}

fn psql(bin: &Path, url: &str, sql: &str) -> Result<String, String> {
    let output = Command::new(bin.join("psql"))
        .args([
            "--no-psqlrc",
            "--quiet",
            "--tuples-only",
            "--no-align",
            "--set=ON_ERROR_STOP=1",
            "-c",
            sql,
            url,
        ])
        .env("PGCONNECT_TIMEOUT", "10")
        .output()
        .expect("psql to run");
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    } else {
        Err(String::from_utf8_lossy(&output.stderr).trim().to_owned())
    }
}

/// Returns a new directory that PostgreSQL may use.
pub(super) fn owned_dir(name: &str) -> PathBuf {
    let dir = temporary_dir(name);
    if let Some((uid, gid)) = unprivileged_owner() {
        chown(&dir, Some(uid), Some(gid)).expect("the right to give a directory away");
    }
    dir
}

/// Returns the command of a program of PostgreSQL's, as the user that its servers run as.
fn as_owner(program: &str) -> Command {
    let mut command = Command::new(folder_of("initdb").join(program));
    command.current_dir("/");
    if let Some((uid, gid)) = unprivileged_owner() {
        command.uid(uid).gid(gid);
    }
    command
}

fn run(command: &mut Command) {
    let output = command.output().expect("PostgreSQL's programs to run");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
}

/// Returns the folder with this program of the newest PostgreSQL: `PG_BIN`, or Debian's, or
/// wherever `PATH` has it.
fn folder_of(program: &str) -> PathBuf {
    if let Some(bin) = std::env::var_os("PG_BIN") {
        return bin.into();
    }
    let version = |path: &Path| path.file_name()?.to_str()?.parse::<u32>().ok();
    let debian = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path());
    let mut found: Vec<_> =
        debian.filter(|path| path.join("bin").join(program).is_file()).collect();
    found.sort_by_key(|path| version(path));
    if let Some(newest) = found.pop() {
        return newest.join("bin");
    }
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path).find(|dir| dir.join(program).is_file()).unwrap_or_else(|| {
        panic!(
            "this test needs {program}: install PostgreSQL (Debian: apt-get install \
            postgresql), or set PG_BIN or DATABASE_URL"
        )
    })
}

/// PostgreSQL refuses to run as root: the user and group of `postgres`, or of `nobody`, where the
/// caller is root.
pub(super) fn unprivileged_owner() -> Option<(u32, u32)> {
    let me = std::fs::metadata("/proc/self").map(|meta| meta.uid()).unwrap_or(1);
    if me != 0 {
        return None;
    }
    let passwd = std::fs::read_to_string("/etc/passwd").unwrap_or_default();
    let ids = |user: &str| {
        let mut fields =
            passwd.lines().find(|line| line.split(':').next() == Some(user))?.split(':').skip(2);
        Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
    };
    ids("postgres").or_else(|| ids("nobody"))
}
