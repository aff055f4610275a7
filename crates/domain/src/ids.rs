//! The ids of sessions and users.

use std::fmt;
use std::str::FromStr;

use uuid::Uuid;

/// The identifier of a session: a UUID (version 7 when made by sessiond, RFC 9562 section 5.7).
///
/// An identifier, never a credential: knowing one proves nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SessionId(pub Uuid);

/// The identifier of a user, as the application or its identity provider knows them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct UserId(pub Uuid);

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for UserId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl UserId {
    /// Returns the id of the user whom a token issuer calls `subject`: UUIDv5(UUIDv5(URL, issuer),
    /// subject), RFC 9562 section 5.5. The same subject of two issuers is two users.
    pub fn of_subject(issuer: &str, subject: &str) -> Self {
        let namespace = Uuid::new_v5(&Uuid::NAMESPACE_URL, issuer.as_bytes());
        Self(Uuid::new_v5(&namespace, subject.as_bytes()))
    }
}

impl FromStr for SessionId {
    type Err = uuid::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse_hyphenated(text).map(Self)
    }
}

impl FromStr for UserId {
    type Err = uuid::Error;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        parse_hyphenated(text).map(Self)
    }
}

/// Parses one spelling only: `Uuid::parse_str` also takes braces, `urn:uuid:` and 32 bare digits,
/// which would give one session several addresses.
fn parse_hyphenated(text: &str) -> Result<Uuid, uuid::Error> {
    uuid::fmt::Hyphenated::from_str(text).map(uuid::fmt::Hyphenated::into_uuid)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// The figures are those of Python's
    /// `uuid.uuid5(uuid.uuid5(uuid.NAMESPACE_URL, issuer), subject)`.
    #[test]
    fn subject_of_an_issuer_has_one_id_and_another_issuers_has_another() {
        let id = |issuer: &str, subject: &str| UserId::of_subject(issuer, subject).to_string();
        assert_eq!(
            id("https://tenant.eu.auth0.com/", "auth0|5f7c8ec7c33c6c004bbafe82"),
            "242ca730-d11d-55a4-86a8-b2279f882593"
        );
        assert_eq!(
            id("https://accounts.google.com", "110169484474386276334"),
            "76376a5d-000f-5c4d-95cb-f1f3f75a5ed3"
        );
        assert_ne!(
            id("https://accounts.google.com/", "110169484474386276334"),
            "76376a5d-000f-5c4d-95cb-f1f3f75a5ed3"
        );
    }

    #[test]
    fn only_the_hyphenated_spelling_is_an_id() {
        let text = "01890a5d-ac96-774b-bcce-b302099a8057";
        assert_eq!(SessionId::from_str(text).map(|id| id.to_string()).as_deref(), Ok(text));
        for other in [
            "01890a5dac96774bbcceb302099a8057",
            "{01890a5d-ac96-774b-bcce-b302099a8057}",
            "urn:uuid:01890a5d-ac96-774b-bcce-b302099a8057",
            "",
            "not-a-uuid",
        ] {
            assert!(SessionId::from_str(other).is_err(), "{other}");
            assert!(UserId::from_str(other).is_err(), "{other}");
        }
    }
}
