use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::digest::{SHA256, digest};

/// The keys of the application's backends and operators, known by their hashes alone.
pub struct ServiceKeys(Vec<[u8; 32]>);

impl ServiceKeys {
    /// Keys with these SHA-256 hashes.
    pub fn from_hashes(hashes: Vec<[u8; 32]>) -> Self {
        Self(hashes)
    }

    /// One key that is known itself.
    pub fn from_key(key: &str) -> Self {
        Self(vec![hash(key)])
    }

    /// Whether `presented` is one of the keys. Takes the same time whichever it is, and whether it is one: hashes are
    /// compared in constant time, all of them.
    pub fn contain(&self, presented: &str) -> bool {
        let presented = hash(presented);
        self.0.iter().fold(false, |found, known| found | verify_slices_are_equal(known, &presented).is_ok())
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
    fn the_known_keys_and_no_others_are_contained() {
        let keys = ServiceKeys::from_hashes(vec![hash("first"), hash("second")]);
        assert!(keys.contain("first") && keys.contain("second"));
        for other in ["", "firs", "first ", "FIRST", "firstsecond"] {
            assert!(!keys.contain(other), "{other}");
        }
        assert!(!ServiceKeys::from_hashes(Vec::new()).contain(""));
    }

    #[test]
    fn the_hash_is_what_sha256sum_prints() {
        let hex: String = hash("key").iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(hex, "2c70e12b7a0646f92279f427c7b38e7334d8e5389cff167a1dc30e73f826b683");
    }
}
