//! Which URLs lead to this machine.

use std::net::IpAddr;

use reqwest::Url;

/// Returns whether a URL leads to this machine: no proxy may be asked for it, and plain HTTP is
/// safe.
pub(crate) fn is_loopback(url: &Url) -> bool {
    let Some(host) = url.host_str() else { return false };
    let address = host.trim_start_matches('[').trim_end_matches(']').parse::<IpAddr>();
    host == "localhost" || address.is_ok_and(|address| address.to_canonical().is_loopback())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn loopback_is_this_machine_and_no_similar_name() {
        let loopback = |url: &str| is_loopback(&Url::parse(url).unwrap());
        for url in
            ["http://localhost:1/", "http://127.0.0.1/", "http://127.8.9.1", "http://[::1]:80/x"]
        {
            assert!(loopback(url), "{url}");
        }
        for url in [
            "http://localhost.example/",
            "http://127.0.0.1.example",
            "http://10.0.0.1",
            "http://[::2]/",
        ] {
            assert!(!loopback(url), "{url}");
        }
    }
}
