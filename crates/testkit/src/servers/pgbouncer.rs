//! A pooler in front of PostgreSQL.

use std::time::{Duration, Instant};

use super::postgres::{TestDatabase, owned_dir, unprivileged_owner};
use super::supervised::{Supervised, free_port};

/// How long the pooler may take to start.
const START_TIMEOUT: Duration = Duration::from_secs(15);

/// A private PgBouncer in front of one database, with its own defaults but for what it must know.
pub struct PgBouncer {
    _process: Supervised,
    port: u16,
    database: String,
}

impl PgBouncer {
    /// Starts one with this `pool_mode`, `session` or `transaction`, and so many server
    /// connections.
    ///
    /// # Panics
    /// If there is no `pgbouncer`: a test that lacks its server fails.
    pub fn start(database: &TestDatabase, pool_mode: &str, pool_size: u32) -> Self {
        let dir = owned_dir("pgbouncer");
        let port = free_port();
        let url = database.url();
        // postgres://postgres@localhost:PORT/NAME?host=DIRECTORY
        let (address, socket_dir) =
            url.split_once("?host=").expect("a database that is reached by its socket");
        let (address, name) = address.rsplit_once('/').expect("a database's name");
        let server_port = address.rsplit(':').next().expect("a port");
        let config = dir.join("pgbouncer.ini");
        let text = format!(
            "[databases]\n{name} = host={socket_dir} port={server_port} user=postgres\n\
             [pgbouncer]\nlisten_addr = 127.0.0.1\nlisten_port = {port}\nunix_socket_dir \
             =\nauth_type = any\n\
             pool_mode = {pool_mode}\ndefault_pool_size = {pool_size}\n"
        );
        std::fs::write(&config, text).expect("a configuration file");
        let program = ["/usr/sbin/pgbouncer", "/usr/bin/pgbouncer"]
            .into_iter()
            .find(|path| std::fs::exists(path).is_ok_and(|is| is));
        let program = program.expect("pgbouncer (Debian: apt-get install pgbouncer)");
        let process = Supervised::start(
            dir,
            unprivileged_owner(),
            "INT",
            &[program, &config.display().to_string()],
        );
        let started = Instant::now();
        while std::net::TcpStream::connect(("127.0.0.1", port)).is_err() {
            assert!(
                started.elapsed() < START_TIMEOUT,
                "pgbouncer did not start: {}",
                process.log()
            );
            std::thread::sleep(Duration::from_millis(20));
        }
        Self { _process: process, port, database: name.to_owned() }
    }

    /// Returns where the database is, through the pooler.
    pub fn url(&self) -> String {
        format!("postgres://postgres@127.0.0.1:{}/{}", self.port, self.database)
    }
}
