//! What a request says in its path, its query string and its headers.

use std::convert::Infallible;

use application::coherence::Acknowledge;
use axum::extract::{FromRequestParts, Path};
use axum::http::request::Parts;
use axum::http::{HeaderMap, header};
use base64::Engine;
use base64::prelude::BASE64_STANDARD;
use domain::{IDEMPOTENCY_KEY_MAX_BYTES, SessionId, UserId};
use serde::de::DeserializeOwned;

use super::body::quoted_name;
use super::fields::Notion;
use super::problem::Problem;

/// The `{id}` of a path.
pub(crate) struct SessionIdInPath(pub(crate) SessionId);

impl<S: Send + Sync> FromRequestParts<S> for SessionIdInPath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        id_in_path(parts, state, "id").await.map(Self)
    }
}

/// The `{user_id}` of a path.
pub(crate) struct UserIdInPath(pub(crate) UserId);

impl<S: Send + Sync> FromRequestParts<S> for UserIdInPath {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        id_in_path(parts, state, "user_id").await.map(Self)
    }
}

async fn id_in_path<T: Notion, S: Send + Sync>(
    parts: &mut Parts,
    state: &S,
    field: &str,
) -> Result<T, Problem> {
    let text = Path::<String>::from_request_parts(parts, state).await.ok();
    let id = text.and_then(|Path(text)| T::parse(&text));
    id.ok_or_else(|| Problem::invalid_request(field, format!("must be {}", T::EXPECTED)))
}

/// The parameters of a query string; unknown ones are refused by `T`. One without a value is an
/// absent one.
pub(crate) struct Parameters<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for Parameters<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let has_value =
            |pair: &&str| pair.split_once('=').is_some_and(|(_, value)| !value.is_empty());
        let pairs: Vec<_> =
            parts.uri.query().unwrap_or_default().split('&').filter(has_value).collect();
        parse(&pairs.join("&")).map(Self)
    }
}

/// The same where a parameter without a value is an error: with it absent, the request would ask
/// for more.
pub(crate) struct StrictParameters<T>(pub(crate) T);

impl<T: DeserializeOwned, S: Send + Sync> FromRequestParts<S> for StrictParameters<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        parse(parts.uri.query().unwrap_or_default()).map(Self)
    }
}

fn parse<T: DeserializeOwned>(query: &str) -> Result<T, Problem> {
    let pairs = serde_urlencoded::Deserializer::new(form_urlencoded::parse(query.as_bytes()));
    serde_path_to_error::deserialize(pairs).map_err(|error| {
        let path = error.path().to_string();
        let message = error.inner().to_string();
        match quoted_name(&message) {
            Some(name) => Problem::invalid_request(name, message.clone()),
            None if path == "." => Problem::invalid_request("query", message),
            None => Problem::invalid_request(path, message),
        }
    })
}

/// Whether the caller waits until a revocation is effective, or says `Prefer: respond-async`
/// (RFC 7240 section 4.1).
pub(crate) struct Preference(pub(crate) Acknowledge);

impl<S: Send + Sync> FromRequestParts<S> for Preference {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let values = parts.headers.get_all("prefer").iter().filter_map(|value| value.to_str().ok());
        let mut preferences = values.flat_map(|value| value.split(','));
        let respond_async = |preference: &str| {
            let name = preference.split(';').next().unwrap_or_default();
            name.trim().eq_ignore_ascii_case("respond-async")
        };
        let at_once = preferences.any(respond_async);
        Ok(Self(if at_once { Acknowledge::Committed } else { Acknowledge::Effective }))
    }
}

/// Returns the one `Idempotency-Key` header, if there is one: as the structured string that the
/// IETF draft of that name has, or bare. Both spellings of a key are the same key.
pub(crate) fn idempotency_key(headers: &HeaderMap) -> Result<Option<String>, Problem> {
    let mut values = headers.get_all("idempotency-key").iter();
    let Some(value) = values.next() else { return Ok(None) };
    let key = value.to_str().ok().filter(|_| values.next().is_none()).and_then(unquoted);
    let is_acceptable = |key: &String| {
        (1..=IDEMPOTENCY_KEY_MAX_BYTES).contains(&key.len())
            && key.bytes().all(|byte| byte.is_ascii_graphic())
    };
    let problem =
        format!("must be 1 to {IDEMPOTENCY_KEY_MAX_BYTES} visible ASCII characters, once");
    let key = key
        .filter(is_acceptable)
        .ok_or_else(|| Problem::invalid_request("Idempotency-Key", problem))?;
    Ok(Some(key))
}

/// Returns the text of a structured string (RFC 9651 section 3.3.3), or a bare text as it is.
fn unquoted(value: &str) -> Option<String> {
    let Some(quoted) = value.trim().strip_prefix('"') else { return Some(value.trim().to_owned()) };
    let mut text = String::new();
    let mut characters = quoted.chars();
    loop {
        match characters.next()? {
            '"' => return characters.next().is_none().then_some(text),
            '\\' => text.push(characters.next().filter(|escaped| matches!(escaped, '"' | '\\'))?),
            character => text.push(character),
        }
    }
}

/// Returns what `If-Match` names (RFC 9110 section 13.1.1): `None` if it is absent or `*`, which
/// any session matches.
pub(crate) fn if_match(headers: &HeaderMap) -> Option<Vec<String>> {
    let values = headers.get_all("if-match").iter();
    let tags: Vec<_> = values
        .flat_map(|value| value.to_str().unwrap_or_default().split(','))
        .map(|tag| tag.trim().to_owned())
        .collect();
    (!tags.is_empty() && tags != ["*"]).then_some(tags)
}

/// Returns the token of the one `Authorization: Bearer` header (RFC 6750 section 2.1).
pub(crate) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return None };
    let (scheme, token) = value.to_str().ok()?.split_once(' ')?;
    let token = token.trim_matches(' ');
    (scheme.eq_ignore_ascii_case("bearer") && !token.is_empty()).then_some(token)
}

/// Returns the password of the one `Authorization: Basic` header (RFC 7617).
pub(crate) fn basic_password(headers: &HeaderMap) -> Option<String> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let (Some(value), None) = (values.next(), values.next()) else { return None };
    let (scheme, credentials) = value.to_str().ok()?.split_once(' ')?;
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let decoded = BASE64_STANDARD.decode(credentials.trim()).ok()?;
    let (_, password) = std::str::from_utf8(&decoded).ok()?.split_once(':')?;
    // RFC 6749 section 2.3.1 has it form-encoded.
    let form = format!("p={password}");
    form_urlencoded::parse(form.as_bytes()).next().map(|(_, password)| password.into_owned())
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    fn headers(name: &'static str, values: &[&str]) -> HeaderMap {
        values
            .iter()
            .map(|value| (name.parse().unwrap(), HeaderValue::from_str(value).unwrap()))
            .collect()
    }

    #[test]
    fn one_bearer_token_is_taken_and_nothing_else() {
        let token =
            |values: &[&str]| bearer(&headers("authorization", values)).map(ToOwned::to_owned);
        assert_eq!(token(&["Bearer abc"]).as_deref(), Some("abc"));
        assert_eq!(token(&["bearer  abc "]).as_deref(), Some("abc"));
        for values in [
            &[][..],
            &["Basic abc"],
            &["Bearer"],
            &["Bearer "],
            &["abc"],
            &["Bearer a", "Bearer a"],
        ] {
            assert_eq!(token(values), None, "{values:?}");
        }
    }

    #[test]
    fn idempotency_key_is_one_key_in_both_spellings() {
        let key = |values: &[&str]| idempotency_key(&headers("idempotency-key", values));
        assert_eq!(key(&[]).unwrap(), None);
        assert_eq!(key(&["abc"]).unwrap().as_deref(), Some("abc"));
        assert_eq!(key(&["\"abc\""]).unwrap().as_deref(), Some("abc"));
        assert_eq!(key(&[r#""a\"b\\c""#]).unwrap().as_deref(), Some(r#"a"b\c"#));
        assert!(key(&[&"x".repeat(255)]).is_ok());
        for values in [
            &[""][..],
            &["\"\""],
            &["a b"],
            &["a\tb"],
            &["\"a b\""],
            &["\"abc"],
            &["\"a\"b"],
            &[r#""\a""#],
            &["a", "a"],
            &[&"x".repeat(256)],
        ] {
            assert!(key(values).is_err(), "{values:?}");
        }
    }

    #[test]
    fn every_entity_tag_of_a_condition_is_read() {
        let tags = |values: &[&str]| if_match(&headers("if-match", values));
        assert_eq!(tags(&[]), None);
        assert_eq!(tags(&["*"]), None);
        assert_eq!(tags(&["\"a\", W/\"b\"", "\"c\""]).unwrap(), ["\"a\"", "W/\"b\"", "\"c\""]);
    }
}
