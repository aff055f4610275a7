//! The cookie that holds a session token (RFC 6265bis).

use axum::http::{HeaderMap, HeaderValue, header};
use chrono::{DateTime, Utc};
use cookie::time::Duration;
use cookie::{Cookie, SameSite};
use secrecy::{ExposeSecret, SecretString};

/// Returns the value of the cookie of this name, if the request has one.
pub(crate) fn session_cookie<'a>(headers: &'a HeaderMap, name: &str) -> Option<&'a str> {
    let values = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    let mut pairs = values.flat_map(|value| value.split(';')).filter_map(|it| it.split_once('='));
    pairs.find(|(found, _)| found.trim() == name).map(|(_, value)| value.trim())
}

/// Returns `Set-Cookie` for a token, until the session expires. Scripts cannot read the cookie, it
/// is sent over TLS only (and to `localhost`), and other sites' forms do not send it.
pub(crate) fn set_cookie(
    name: &str,
    token: &SecretString,
    expires_at: DateTime<Utc>,
    now: DateTime<Utc>,
) -> String {
    let lifetime = Duration::seconds((expires_at - now).num_seconds().max(0));
    cookie(name, token.expose_secret()).max_age(lifetime).build().to_string()
}

/// Returns the header that removes the cookie.
pub(crate) fn clear_cookie(name: &str) -> Option<HeaderValue> {
    let cleared = cookie(name, "").max_age(Duration::ZERO).build().to_string();
    HeaderValue::from_str(&cleared).ok()
}

fn cookie<'a>(name: &'a str, value: &'a str) -> cookie::CookieBuilder<'a> {
    Cookie::build((name, value)).secure(true).http_only(true).same_site(SameSite::Lax).path("/")
}

#[cfg(test)]
mod tests {
    use testkit::fixtures;

    use super::*;

    #[test]
    fn a_cookie_is_found_among_others_by_its_whole_name() {
        let mut headers = HeaderMap::new();
        for value in ["a=1; x__Host-session=no;__Host-session = sds_abc ; b", "__Host-session=2"] {
            headers.append(header::COOKIE, HeaderValue::from_static(value));
        }
        assert_eq!(session_cookie(&headers, "__Host-session"), Some("sds_abc"));
        assert_eq!(session_cookie(&headers, "session"), None);
        assert_eq!(session_cookie(&HeaderMap::new(), "a"), None);
    }

    #[test]
    fn a_cookie_is_locked_to_its_host_and_expires_with_its_session() {
        let now = fixtures::now();
        let expires_at = now + chrono::TimeDelta::days(1);
        let cookie = set_cookie("__Host-session", &"sds_abc".to_owned().into(), expires_at, now);
        assert_eq!(
            cookie,
            "__Host-session=sds_abc; HttpOnly; SameSite=Lax; Secure; Path=/; Max-Age=86400"
        );
        assert_eq!(
            clear_cookie("s").unwrap(),
            "s=; HttpOnly; SameSite=Lax; Secure; Path=/; Max-Age=0"
        );
    }
}
