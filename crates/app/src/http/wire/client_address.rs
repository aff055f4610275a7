//! The address of the client, behind proxies too.

use std::net::{IpAddr, Ipv6Addr};

use axum::http::request::Parts;
use axum::http::{Extensions, HeaderMap};
use domain::parse_ip_address;
use ipnetwork::IpNetwork;

/// The other end of the connection; among a request's extensions.
#[derive(Clone, Copy)]
pub struct PeerAddress(
    /// Its address.
    pub IpAddr,
);

/// Returns the client's address: the peer's, or, if the peer is a trusted proxy, the nearest one in
/// `X-Forwarded-For` that is none.
///
/// Each proxy appends the address of its peer, and only what trusted ones appended is used: the
/// header is read from its end.
pub(crate) fn client_address(parts: &Parts, trusted: &[IpNetwork]) -> Option<IpAddr> {
    let peer = parts.extensions.get::<PeerAddress>()?.0.to_canonical();
    Some(behind_proxies(peer, &parts.headers, trusted))
}

/// Returns whether the peer of the connection is a trusted proxy.
pub(crate) fn is_from_proxy(extensions: &Extensions, trusted: &[IpNetwork]) -> bool {
    extensions.get::<PeerAddress>().is_some_and(|peer| is_trusted(peer.0.to_canonical(), trusted))
}

/// Returns whether an address is that of a trusted proxy.
pub(crate) fn is_trusted(address: IpAddr, trusted: &[IpNetwork]) -> bool {
    trusted.iter().any(|network| network.contains(address))
}

fn behind_proxies(peer: IpAddr, headers: &HeaderMap, trusted: &[IpNetwork]) -> IpAddr {
    let mut nearest = peer;
    let lines: Vec<_> = headers.get_all("x-forwarded-for").iter().collect();
    let hops = lines.iter().rev().flat_map(|line| line.to_str().unwrap_or("?").rsplit(','));
    // RFC 9110 section 5.6.1: empty elements of a list are ignored.
    for hop in hops.filter(|hop| !hop.trim().is_empty()) {
        if !is_trusted(nearest, trusted) {
            break;
        }
        // A proxy that says something else than an address is the last one that is known.
        let Some(address) = parse_ip_address(hop) else { break };
        nearest = address;
    }
    nearest
}

/// Returns the network of a customer: the address of IPv4, the /64 of IPv6, of which one customer
/// has 2^64 addresses and more.
pub(crate) fn network(address: IpAddr) -> IpAddr {
    match address.to_canonical() {
        IpAddr::V6(address) => IpAddr::V6(Ipv6Addr::from_bits(address.to_bits() >> 64 << 64)),
        v4 => v4,
    }
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn client(peer: &str, forwarded: &[&'static str]) -> String {
        let trusted = ["10.0.0.0/8".parse().unwrap(), "2001:db8:ffff::/48".parse().unwrap()];
        let mut headers = HeaderMap::new();
        for line in forwarded {
            headers.append("x-forwarded-for", HeaderValue::from_static(line));
        }
        behind_proxies(peer.parse().unwrap(), &headers, &trusted).to_string()
    }

    #[test]
    fn only_addresses_from_trusted_proxies_count() {
        for (peer, forwarded, expected) in [
            ("192.0.2.1", &[][..], "192.0.2.1"),
            ("192.0.2.1", &["198.51.100.1"], "192.0.2.1"),
            ("10.0.0.1", &[], "10.0.0.1"),
            ("10.0.0.1", &["198.51.100.1"], "198.51.100.1"),
            // The client's own invention is further away than the address of the proxy's peer.
            ("10.0.0.1", &["203.0.113.5, 198.51.100.1"], "198.51.100.1"),
            ("10.0.0.1", &["203.0.113.5", "198.51.100.1, 10.0.0.2"], "198.51.100.1"),
            ("10.0.0.1", &["10.0.0.3, 10.0.0.2"], "10.0.0.3"),
            ("10.0.0.1", &["198.51.100.1, nonsense"], "10.0.0.1"),
            ("10.0.0.1", &["198.51.100.1, "], "198.51.100.1"),
            ("10.0.0.1", &["fe80::7%eth0"], "fe80::7"),
            ("10.0.0.1", &["198.51.100.1:4711"], "198.51.100.1"),
            ("2001:db8:ffff::1", &["[2001:db8::7]:4711"], "2001:db8::7"),
            ("10.0.0.1", &["2001:db8::7"], "2001:db8::7"),
            ("10.0.0.1", &["::ffff:198.51.100.1"], "198.51.100.1"),
        ] {
            assert_eq!(client(peer, forwarded), expected, "{peer} {forwarded:?}");
        }
    }
}
