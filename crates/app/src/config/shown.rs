//! Values as `config show` shows them.

use url::Url;

use super::keys::Shown;

/// Parameters of URLs that hold no secret.
const HARMLESS_PARAMETERS: [&str; 14] = [
    "application_name",
    "connect_timeout",
    "dbname",
    "host",
    "mode",
    "node",
    "options",
    "port",
    "sentinelServiceName",
    "sslmode",
    "sslrootcert",
    "sslcert",
    "target_session_attrs",
    "user",
];

const HIDDEN: &str = "(hidden)";

/// Returns a value without what must not be seen.
pub(super) fn shown(value: &str, shown: Shown) -> String {
    match shown {
        Shown::Whole => value.to_owned(),
        Shown::Never => HIDDEN.to_owned(),
        Shown::WithoutPassword => {
            shown_url(value).unwrap_or_else(|| "(hidden: not a URL)".to_owned())
        }
    }
}

/// Returns a URL without its password and without parameters that may hold one; `None` if its parts
/// cannot be distinguished. One shows the configuration because a URL does not work: a password in
/// it that is not percent-encoded is a likely reason, and must not be taken for a host or a path.
fn shown_url(value: &str) -> Option<String> {
    if value == "none" {
        return Some(value.to_owned());
    }
    let (scheme, rest) = value.split_once("://")?;
    if scheme == "sqlite" {
        return Some(value.to_owned());
    }
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    let (authority, tail) = rest.split_at(end);
    if tail.contains(['@', '#']) {
        return None;
    }
    let (user, hosts) = match authority.rsplit_once('@') {
        None => (String::new(), authority),
        Some((userinfo, hosts)) => match userinfo.split_once(':') {
            Some((name, _)) => (format!("{name}:{HIDDEN}@"), hosts),
            // Redis takes a lone word for a password.
            None if scheme.starts_with("redis") || scheme.starts_with("valkey") => {
                (format!("{HIDDEN}@"), hosts)
            }
            None => (format!("{userinfo}@"), hosts),
        },
    };
    // Sentinel and cluster URLs name several hosts.
    let is_host = |host: &str| {
        Url::parse(&format!("{scheme}://{host}/")).is_ok_and(|url| url.username().is_empty())
    };
    if !hosts.split(',').all(is_host) {
        return None;
    }
    let (path, query) = tail.split_once('?').unwrap_or((tail, ""));
    let parameters: Vec<_> =
        query.split('&').filter(|parameter| !parameter.is_empty()).map(shown_parameter).collect();
    let query =
        if parameters.is_empty() { String::new() } else { format!("?{}", parameters.join("&")) };
    Some(format!("{scheme}://{user}{hosts}{path}{query}"))
}

fn shown_parameter(parameter: &str) -> String {
    match parameter.split_once('=') {
        Some((name, _)) if HARMLESS_PARAMETERS.contains(&name) => parameter.to_owned(),
        Some((name, _)) => format!("{name}={HIDDEN}"),
        None => HIDDEN.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn url_is_shown_without_its_secrets() {
        for (value, expected) in [
            ("none", "none"),
            ("sqlite://sessiond.db", "sqlite://sessiond.db"),
            ("postgres://user@host/db", "postgres://user@host/db"),
            (
                "postgres://user:s3cret@host:5432/db?sslmode=require",
                "postgres://user:(hidden)@host:5432/db?sslmode=require",
            ),
            ("postgres://user:s3cr@et@host/db", "postgres://user:(hidden)@host/db"),
            (
                "postgres://host/db?password=s3cret&x=s3cret",
                "postgres://host/db?password=(hidden)&x=(hidden)",
            ),
            ("postgres://host/db?s3cret", "postgres://host/db?(hidden)"),
            ("postgres:///db?host=/run/postgresql", "postgres:///db?host=/run/postgresql"),
            ("redis://:s3cret@host/1", "redis://:(hidden)@host/1"),
            ("redis://s3cret@host", "redis://(hidden)@host"),
            (
                "redis-sentinel://u:s3cret@a:1,b:2/?sentinelServiceName=m",
                "redis-sentinel://u:(hidden)@a:1,b:2/?sentinelServiceName=m",
            ),
            ("rediss://u:s3cret@[::1]:6379/0", "rediss://u:(hidden)@[::1]:6379/0"),
            (
                "https://user:s3cret@issuer/jwks?api_key=s3cret",
                "https://user:(hidden)@issuer/jwks?api_key=(hidden)",
            ),
        ] {
            assert_eq!(shown(value, Shown::WithoutPassword), expected, "{value}");
        }
    }

    #[test]
    fn malformed_url_is_hidden_whole() {
        for value in [
            "postgres://user:sup?ersecret@host/db",
            "redis://:sup?ersecret@host",
            "redis://:sup/ersecret@host",
            "redis://:sup#ersecret@host",
            "redis://sup#ersecret",
            "postgres:user:secret@host/db",
            "redis:secret@host",
            "secret",
            "postgres://user:secret/host",
            "redis://h?password=a@b",
            "",
        ] {
            assert_eq!(shown(value, Shown::WithoutPassword), "(hidden: not a URL)", "{value}");
        }
    }
}
