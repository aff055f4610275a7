//! Servers of a test's own: started on demand, stopped and removed with the test process, however
//! that ends.

mod pgbouncer;
mod postgres;
mod redis;
mod supervised;

pub use pgbouncer::PgBouncer;
pub use postgres::{PostgresServer, TestDatabase};
pub use redis::{RedisCluster, RedisSentinel, RedisServer};
pub use supervised::{Supervised, free_port};
