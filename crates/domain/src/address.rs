//! The one way in which the text of an IP address is read, wherever it comes from.

use std::net::{IpAddr, SocketAddr};

/// Reads an IP address as backends, proxies and sockets spell it, or returns `None` if it is none.
///
/// Blanks around it, a port, brackets and a zone are cut, and an IPv4 address in IPv6 spelling
/// becomes IPv4: one device then has one address, whichever way it is reported. All of these are
/// read: `192.0.2.1`, `192.0.2.1:4711`, `::ffff:192.0.2.1`, `2001:db8::1`, `[2001:db8::1]`,
/// `[2001:db8::1]:4711`, `fe80::1%eth0`.
pub fn parse_ip_address(text: &str) -> Option<IpAddr> {
    let text = text.trim();
    let host = match text.strip_prefix('[') {
        Some(bracketed) => {
            let (host, rest) = bracketed.split_once(']')?;
            let is_port = |port: &str| port.parse::<u16>().is_ok();
            if !rest.is_empty() && !rest.strip_prefix(':').is_some_and(is_port) {
                return None;
            }
            host
        }
        None => text,
    };
    // RFC 4007 section 11: the zone is of meaning on one machine only.
    let without_zone = match host.split_once('%') {
        Some((address, zone)) if !zone.is_empty() => address,
        Some(_) => return None,
        None => host,
    };
    let address = without_zone.parse::<IpAddr>().ok();
    let address = address.filter(|address| address.is_ipv6() || without_zone.len() == host.len());
    let with_port = || text.parse::<SocketAddr>().ok().map(|socket| socket.ip());
    address.or_else(with_port).map(|address| address.to_canonical())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_spelling_of_an_address_is_read_as_one() {
        for (text, expected) in [
            ("192.0.2.1", "192.0.2.1"),
            (" 192.0.2.1 ", "192.0.2.1"),
            ("192.0.2.1:4711", "192.0.2.1"),
            ("::ffff:192.0.2.1", "192.0.2.1"),
            ("::FFFF:C000:201", "192.0.2.1"),
            ("[::ffff:192.0.2.1]:4711", "192.0.2.1"),
            ("2001:DB8::1", "2001:db8::1"),
            ("[2001:db8::1]", "2001:db8::1"),
            ("[2001:db8::1]:4711", "2001:db8::1"),
            ("fe80::1%eth0", "fe80::1"),
            ("[fe80::1%eth0]:4711", "fe80::1"),
        ] {
            assert_eq!(
                parse_ip_address(text).map(|address| address.to_string()).as_deref(),
                Some(expected),
                "{text}"
            );
        }
    }

    #[test]
    fn malformed_address_is_none() {
        for text in [
            "",
            " ",
            "unknown",
            "localhost",
            "192.0.2",
            "192.0.2.256",
            "192.0.2.0/24",
            "192.0.2.1:",
            "192.0.2.1:x",
            "192.0.2.1%eth0",
            "192.0.2.1:65536",
            "[192.0.2.1",
            "[2001:db8::1]x",
            "[2001:db8::1]:",
            "2001:db8::1]",
            "fe80::1%",
            "192.0.2.1, 192.0.2.2",
            "0x7f.1",
            "_hidden",
        ] {
            assert_eq!(parse_ip_address(text), None, "{text}");
        }
    }
}
