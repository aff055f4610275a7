//! What a session takes in the near cache, of a million: resident bytes of a process that holds
//! nothing else.

use std::sync::Arc;

use adapters_memory::MemorySessionCache;
use domain::ports::SessionCache;
use futures_util::FutureExt;
use testkit::fixtures;

const ENTRIES: u64 = 1_000_000;

fn main() {
    let cache = MemorySessionCache::new(ENTRIES as usize, fixtures::clock());
    let before = resident();
    for n in 0..ENTRIES {
        // Made and dropped one by one, as by reads.
        cache
            .set(&Arc::new(sessiond_bench::session(n)), &sessiond_bench::read_version())
            .now_or_never();
    }
    let held = cache.len() as u64;
    println!("{{\"entries\": {held}, \"bytes_per_entry\": {}}}", (resident() - before) / held);
}

fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    line.split_whitespace().next().and_then(|number| number.parse::<u64>().ok()).unwrap_or_default()
        * 1024
}
