//! The keys of the application's backends and operators.

use std::sync::Arc;

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};
use domain::Actor;

/// What a call on the service listener needs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Scope {
    /// Read sessions and events.
    Read,
    /// Create, change and revoke named sessions, or those of a named user.
    Write,
    /// Act on all users' sessions.
    Operate,
}

impl Scope {
    /// Returns the word in the configuration, and in what a caller without it is served.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Read => "read",
            Self::Write => "write",
            Self::Operate => "operate",
        }
    }
}

/// What the holder of a service key may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Scopes {
    /// [`Scope::Read`]
    pub read: bool,
    /// [`Scope::Write`]
    pub write: bool,
    /// [`Scope::Operate`]
    pub operate: bool,
}

impl Scopes {
    /// Everything: what a key without scopes of its own may do.
    pub const ALL: Self = Self { read: true, write: true, operate: true };

    /// Returns whether the holder may make calls that need this scope.
    pub fn allow(self, scope: Scope) -> bool {
        match scope {
            Scope::Read => self.read,
            Scope::Write => self.write,
            Scope::Operate => self.operate,
        }
    }
}

/// A service key, known by its hash alone.
#[derive(Clone, Debug)]
pub struct ServiceKey {
    /// Its name in events and logs, if it has one.
    pub name: Option<Arc<str>>,
    /// SHA-256 of the key.
    pub sha256: [u8; 32],
    /// What its holder may do.
    pub scopes: Scopes,
}

impl ServiceKey {
    /// Creates an unnamed key that is known itself, with every scope.
    pub fn of(key: &str) -> Self {
        Self { name: None, sha256: hash(key), scopes: Scopes::ALL }
    }

    /// Returns who acts, in the audit trail.
    pub fn actor(&self) -> Actor {
        self.name.clone().map_or(Actor::Service, Actor::NamedService)
    }
}

/// The accepted service keys.
pub struct ServiceKeys(Vec<ServiceKey>);

impl ServiceKeys {
    /// These keys and no others.
    pub fn new(keys: Vec<ServiceKey>) -> Self {
        Self(keys)
    }

    /// Returns the key that was presented, if it is one of these. Takes the same time whichever it
    /// is, and whether it is one: hashes are compared in constant time, all of them.
    pub fn find(&self, presented: &str) -> Option<&ServiceKey> {
        let presented = hash(presented);
        self.0.iter().fold(None, |found, key| {
            let is_it = verify_slices_are_equal(&key.sha256, &presented).is_ok();
            if is_it { Some(key) } else { found }
        })
    }
}

fn hash(key: &str) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes.copy_from_slice(digest(&SHA256, key.as_bytes()).as_ref());
    bytes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn known_keys_are_found_with_their_names_and_no_others() {
        let read = Scopes { read: true, write: false, operate: false };
        let named =
            ServiceKey { name: Some("billing".into()), scopes: read, ..ServiceKey::of("first") };
        let keys = ServiceKeys::new(vec![named, ServiceKey::of("second")]);
        assert_eq!(keys.find("first").unwrap().actor(), Actor::NamedService("billing".into()));
        assert_eq!(keys.find("second").unwrap().actor(), Actor::Service);
        let allowed = |key: &str| {
            let scopes = keys.find(key).unwrap().scopes;
            [Scope::Read, Scope::Write, Scope::Operate].map(|scope| scopes.allow(scope))
        };
        assert_eq!((allowed("first"), allowed("second")), ([true, false, false], [true; 3]));
        for other in ["", "firs", "first ", "FIRST", "firstsecond"] {
            assert!(keys.find(other).is_none(), "{other}");
        }
        assert!(ServiceKeys::new(Vec::new()).find("").is_none());
    }

    #[test]
    fn the_hash_is_what_sha256sum_prints() {
        let hex: String = hash("key").iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "2c70e12b7a0646f92279f427c7b38e7334d8e5389cff167a1dc30e73f826b683");
    }
}
