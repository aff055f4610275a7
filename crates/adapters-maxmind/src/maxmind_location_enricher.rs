//! The location of an address, from a file in the MaxMind DB format.

use std::net::IpAddr;
use std::path::{Path, PathBuf};
use std::sync::{Arc, PoisonError, RwLock};

use domain::ports::LocationEnricher;
use maxminddb::{MaxMindDbError, PathElement, Reader, path};
use thiserror::Error;

/// The longest location that is kept, in characters.
const LOCATION_MAX_CHARS: usize = 255;

/// Why the file cannot be used. One line, naming it.
#[derive(Debug, Error)]
#[error("cannot use {}: {source}", .path.display())]
pub struct OpenError {
    path: PathBuf,
    source: MaxMindDbError,
}

/// [`LocationEnricher`] on a file that is read into memory whole. Its publishers replace it twice a
/// week: [`reload`](Self::reload) reads it again.
pub struct MaxMindLocationEnricher {
    reader: RwLock<Arc<Reader<Vec<u8>>>>,
}

impl MaxMindLocationEnricher {
    /// Reads the file.
    ///
    /// # Errors
    /// [`OpenError`] if it is not there, cannot be read, or is of another format.
    pub fn open(path: &Path) -> Result<Self, OpenError> {
        Ok(Self { reader: RwLock::new(read(path)?) })
    }

    /// Reads a file in place of the present one, which is used until the other one is whole.
    ///
    /// # Errors
    /// As for [`open`](Self::open); the present one is used on.
    pub fn reload(&self, path: &Path) -> Result<(), OpenError> {
        let reader = read(path)?;
        *self.reader.write().unwrap_or_else(PoisonError::into_inner) = reader;
        Ok(())
    }
}

fn read(path: &Path) -> Result<Arc<Reader<Vec<u8>>>, OpenError> {
    let reader = Reader::open_readfile(path)
        .map_err(|source| OpenError { path: path.to_owned(), source })?;
    Ok(Arc::new(reader))
}

/// Returns the first of these paths that leads to a text.
fn text<const N: usize>(
    reader: &Reader<Vec<u8>>,
    address: IpAddr,
    paths: [&[PathElement<'_>]; N],
) -> Option<String> {
    let found = reader.lookup(address).ok()?;
    // What is broken in the file is as good as absent.
    paths.into_iter().find_map(|path| found.decode_path::<String>(path).ok().flatten())
}

impl LocationEnricher for MaxMindLocationEnricher {
    fn location(&self, address: IpAddr) -> Option<String> {
        // An IPv4 client of a listener for both is written as ::ffff:192.0.2.1.
        let address = address.to_canonical();
        // MaxMind's layout, or the flat one of smaller files.
        let reader = self.reader.read().unwrap_or_else(PoisonError::into_inner).clone();
        let city = text(&reader, address, [&path!["city", "names", "en"], &path!["city"]]);
        // Where an address cannot be placed, MaxMind knows where it is registered.
        let country = [
            &path!["country", "iso_code"][..],
            &path!["country_code"],
            &path!["registered_country", "iso_code"],
        ];
        let country = text(&reader, address, country);
        let location = match (city, country) {
            (Some(city), Some(country)) => format!("{city}, {country}"),
            (one, other) => one.or(other)?,
        };
        Some(location.chars().take(LOCATION_MAX_CHARS).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn enricher() -> MaxMindLocationEnricher {
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/places.mmdb");
        MaxMindLocationEnricher::open(Path::new(path)).unwrap()
    }

    #[test]
    fn an_address_is_at_its_place() {
        let enricher = enricher();
        for (address, location) in [
            ("192.0.2.7", Some("Berlin, DE")),
            ("::ffff:192.0.2.7", Some("Berlin, DE")),
            ("2001:db8::1", Some("São Paulo, BR")),
            ("198.51.100.1", Some("FR")),
            ("203.0.113.9", Some("Osaka, JP")),
            ("127.0.0.1", None),
            ("::1", None),
        ] {
            assert_eq!(
                enricher.location(address.parse().unwrap()).as_deref(),
                location,
                "{address}"
            );
        }
    }

    #[test]
    fn file_is_read_again_and_a_broken_one_leaves_the_earlier_one_in_use() {
        let enricher = enricher();
        let berlin = || enricher.location("192.0.2.7".parse().unwrap());
        assert!(enricher.reload(Path::new("Cargo.toml")).is_err());
        assert_eq!(berlin().as_deref(), Some("Berlin, DE"));
        let path = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/places.mmdb");
        enricher.reload(Path::new(path)).unwrap();
        assert_eq!(berlin().as_deref(), Some("Berlin, DE"));
    }

    #[test]
    fn a_file_that_is_none_is_named() {
        for path in ["absent.mmdb", "Cargo.toml"] {
            let error = MaxMindLocationEnricher::open(Path::new(path)).err().unwrap().to_string();
            assert!(
                error.starts_with(&format!("cannot use {path}: ")) && !error.contains('\n'),
                "{error}"
            );
        }
    }
}
