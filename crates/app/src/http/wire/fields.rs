//! The types of what requests carry: one per notion, in whichever place it stands. A path, a query
//! string, a header and a body take the same spellings, and refuse others in the same words.

use std::fmt;
use std::marker::PhantomData;
use std::net::IpAddr;
use std::num::NonZeroU32;

use chrono::{DateTime, SubsecRound, Utc};
use domain::{
    METADATA_MAX_BYTES, Metadata, REASON_MAX_CHARS, SessionId, SessionStatus, UserId,
    metadata_text, parse_ip_address, parse_name,
};
use serde::de::value::MapAccessDeserializer;
use serde::de::{Error, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Number, Value};

use super::problem::Problem;

/// Something that is spelt as a text.
pub(crate) trait Notion: Sized {
    /// What the text must be, such as "a UUID".
    const EXPECTED: &'static str;

    /// Reads the one accepted spelling.
    fn parse(text: &str) -> Option<Self>;
}

impl Notion for SessionId {
    const EXPECTED: &'static str = "a UUID, hyphenated";

    fn parse(text: &str) -> Option<Self> {
        text.parse().ok()
    }
}

impl Notion for UserId {
    const EXPECTED: &'static str = "a UUID, hyphenated";

    fn parse(text: &str) -> Option<Self> {
        text.parse().ok()
    }
}

/// A time, to the microsecond, which is what stores keep.
impl Notion for DateTime<Utc> {
    const EXPECTED: &'static str = "a time as in RFC 3339, such as 2026-01-31T12:00:00Z";

    fn parse(text: &str) -> Option<Self> {
        let at = DateTime::parse_from_rfc3339(text).ok()?.to_utc();
        // chrono reads a leap second as the 1000th millisecond and up of the second before.
        let is_leap_second = at.timestamp_subsec_nanos() >= 1_000_000_000;
        (!is_leap_second).then(|| at.trunc_subsecs(6))
    }
}

impl Notion for SessionStatus {
    const EXPECTED: &'static str = "live, revoked, expired or idle";

    fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.as_str() == text)
    }
}

/// An address, in any spelling of it: stores have one.
impl Notion for IpAddr {
    const EXPECTED: &'static str = "an IP address";

    fn parse(text: &str) -> Option<Self> {
        text.parse::<Self>().ok().map(|address| address.to_canonical())
    }
}

/// A part of a device in words, such as `iOS`.
pub(crate) struct DevicePart(pub(crate) String);

impl Notion for DevicePart {
    const EXPECTED: &'static str = "a text of 1 to 64 characters, without U+0000";

    fn parse(text: &str) -> Option<Self> {
        let fits = (1..=64).contains(&text.chars().count()) && !text.contains('\0');
        fits.then(|| Self(text.to_owned()))
    }
}

/// A whole number in a query string.
impl Notion for u64 {
    const EXPECTED: &'static str = "a whole number";

    fn parse(text: &str) -> Option<Self> {
        // `+7` is a number to Rust only.
        text.parse().ok().filter(|_| text.bytes().all(|byte| byte.is_ascii_digit()))
    }
}

/// A [`Notion`] in a JSON string or a parameter.
#[derive(Clone, Copy)]
pub(crate) struct Text<T>(pub(crate) T);

impl<'de, T: Notion> Deserialize<'de> for Text<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct TextVisitor<T>(PhantomData<T>);

        impl<T: Notion> Visitor<'_> for TextVisitor<T> {
            type Value = Text<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(T::EXPECTED)
            }

            fn visit_str<E: Error>(self, text: &str) -> Result<Self::Value, E> {
                T::parse(text)
                    .map(Text)
                    .ok_or_else(|| E::custom(format_args!("must be {}", T::EXPECTED)))
            }
        }

        deserializer.deserialize_str(TextVisitor(PhantomData))
    }
}

/// How many there may be: a JSON number from 1 on.
#[derive(Clone, Copy)]
pub(crate) struct Count(pub(crate) NonZeroU32);

impl<'de> Deserialize<'de> for Count {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        const EXPECTED: &str = "a whole number from 1 to 4294967295";
        struct CountVisitor;

        impl Visitor<'_> for CountVisitor {
            type Value = Count;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(EXPECTED)
            }

            fn visit_u64<E: Error>(self, number: u64) -> Result<Count, E> {
                let count = u32::try_from(number).ok().and_then(NonZeroU32::new);
                count.map(Count).ok_or_else(|| E::custom(format_args!("must be {EXPECTED}")))
            }
        }

        deserializer.deserialize_u64(CountVisitor)
    }
}

/// A JSON object with these fields, within a body. serde would read it from an array too: see
/// [`super::body`].
pub(crate) struct ObjectOf<T>(pub(crate) T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for ObjectOf<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ObjectVisitor<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for ObjectVisitor<T> {
            type Value = ObjectOf<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, fields: A) -> Result<Self::Value, A::Error> {
                T::deserialize(MapAccessDeserializer::new(fields)).map(ObjectOf)
            }
        }

        deserializer.deserialize_map(ObjectVisitor(PhantomData))
    }
}

/// A JSON object that is kept as it is. A name that stands in it twice is refused, at every depth:
/// readers of JSON differ on which of the two counts.
#[derive(Default)]
pub(crate) struct AnyObject(Map<String, Value>);

impl<'de> Deserialize<'de> for AnyObject {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ObjectVisitor;

        impl<'de> Visitor<'de> for ObjectVisitor {
            type Value = AnyObject;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<AnyObject, A::Error> {
                let mut object = Map::new();
                while let Some((name, AnyValue(value))) = fields.next_entry::<String, AnyValue>()? {
                    if object.contains_key(&name) {
                        return Err(A::Error::custom("a name occurs twice in it"));
                    }
                    object.insert(name, value);
                }
                Ok(AnyObject(object))
            }
        }

        deserializer.deserialize_map(ObjectVisitor)
    }
}

/// Any JSON value, as in [`AnyObject`].
struct AnyValue(Value);

impl<'de> Deserialize<'de> for AnyValue {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct ValueVisitor;

        impl<'de> Visitor<'de> for ValueVisitor {
            type Value = AnyValue;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a JSON value")
            }

            fn visit_unit<E: Error>(self) -> Result<AnyValue, E> {
                Ok(AnyValue(Value::Null))
            }

            fn visit_bool<E: Error>(self, value: bool) -> Result<AnyValue, E> {
                Ok(AnyValue(value.into()))
            }

            fn visit_u64<E: Error>(self, value: u64) -> Result<AnyValue, E> {
                Ok(AnyValue(value.into()))
            }

            fn visit_i64<E: Error>(self, value: i64) -> Result<AnyValue, E> {
                Ok(AnyValue(value.into()))
            }

            fn visit_f64<E: Error>(self, value: f64) -> Result<AnyValue, E> {
                Ok(AnyValue(Number::from_f64(value).map_or(Value::Null, Value::Number)))
            }

            fn visit_str<E: Error>(self, value: &str) -> Result<AnyValue, E> {
                Ok(AnyValue(value.into()))
            }

            fn visit_string<E: Error>(self, value: String) -> Result<AnyValue, E> {
                Ok(AnyValue(value.into()))
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<AnyValue, A::Error> {
                let mut array = Vec::new();
                while let Some(AnyValue(value)) = items.next_element()? {
                    array.push(value);
                }
                Ok(AnyValue(Value::Array(array)))
            }

            fn visit_map<A: MapAccess<'de>>(self, fields: A) -> Result<AnyValue, A::Error> {
                let AnyObject(object) =
                    AnyObject::deserialize(serde::de::value::MapAccessDeserializer::new(fields))?;
                Ok(AnyValue(Value::Object(object)))
            }
        }

        deserializer.deserialize_any(ValueVisitor)
    }
}

/// Reads a field that may be absent (`None`) or null (`Some(None)`).
pub(crate) fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<Option<T>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

/// Returns the address, or `None` if the text is none: what is said of a device enriches a sign-in,
/// and never refuses one.
pub(crate) fn address(text: Option<&str>) -> Option<IpAddr> {
    let text = text.filter(|text| !text.trim().is_empty())?;
    let address = parse_ip_address(text);
    if address.is_none() {
        tracing::warn!("the ip_address of a request is no IP address, and is left out");
    }
    address
}

/// Returns the text, if every store can keep it.
pub(crate) fn acceptable_text(
    field: &'static str,
    text: Option<String>,
) -> Result<Option<String>, Problem> {
    match &text {
        Some(nul) if nul.contains('\0') => {
            Err(Problem::unprocessable(field, "must not contain the character U+0000"))
        }
        _ => Ok(text),
    }
}

/// Returns the reason, if it is short enough and every store can keep it.
pub(crate) fn acceptable_reason(reason: Option<String>) -> Result<Option<String>, Problem> {
    match &reason {
        Some(text) if text.chars().count() > REASON_MAX_CHARS => Err(Problem::unprocessable(
            "reason",
            format!("must have at most {REASON_MAX_CHARS} characters"),
        )),
        _ => acceptable_text("reason", reason),
    }
}

/// Returns the name without the blanks around it, if people can read it.
pub(crate) fn acceptable_name(name: Option<String>) -> Result<Option<String>, Problem> {
    let name = name.map(|name| parse_name(&name)).transpose();
    name.map_err(|error| Problem::unprocessable("name", error.to_string()))
}

/// Returns the metadata, if it is small enough and every store can keep it.
pub(crate) fn acceptable_metadata(
    metadata: Option<AnyObject>,
) -> Result<Option<Metadata>, Problem> {
    let Some(AnyObject(metadata)) = metadata else { return Ok(None) };
    if metadata_text(&metadata).len() > METADATA_MAX_BYTES {
        let problem = format!("must be at most {METADATA_MAX_BYTES} bytes of JSON");
        return Err(Problem::unprocessable("metadata", problem));
    }
    if metadata.iter().any(|(key, value)| key.contains('\0') || has_nul(value)) {
        return Err(Problem::unprocessable("metadata", "must not contain the character U+0000"));
    }
    Ok(Some(metadata))
}

fn has_nul(value: &Value) -> bool {
    match value {
        Value::String(text) => text.contains('\0'),
        Value::Array(items) => items.iter().any(has_nul),
        Value::Object(fields) => {
            fields.iter().any(|(key, value)| key.contains('\0') || has_nul(value))
        }
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn time_has_one_notation_and_no_leap_second() {
        let read = |text: &str| DateTime::<Utc>::parse(text).map(|at| at.to_rfc3339());
        assert_eq!(read("2026-01-31T12:00:00Z").as_deref(), Some("2026-01-31T12:00:00+00:00"));
        assert_eq!(
            read("2026-01-31T12:00:00.1234567+02:00").as_deref(),
            Some("2026-01-31T10:00:00.123456+00:00")
        );
        for text in [
            "",
            "tomorrow",
            "2026-01-31",
            "2026-01-31T12:00",
            "2026-01-31T12:00:00",
            "2026-06-30T23:59:60Z",
            "2026-01-31T12:00:60Z",
            "2026-01-31T24:00:00Z",
            "2026-02-30T12:00:00Z",
            "1769860800",
            "+12026-01-31T12:00:00Z",
            "2026-01-31T12:00:00+99:99",
        ] {
            assert_eq!(read(text), None, "{text}");
        }
    }

    #[test]
    fn object_with_a_name_twice_is_refused_at_every_depth() {
        let parse =
            |text: &str| serde_json::from_str::<AnyObject>(text).map(|AnyObject(object)| object);
        let text = r#"{"a":[1,-2,0.5,null,true,"é",{"b":{}}],"c":{"a":1}}"#;
        assert_eq!(Value::Object(parse(text).unwrap()).to_string(), text);
        for text in [
            r#"{"a":1,"a":1}"#,
            r#"{"a":{"b":1,"b":2}}"#,
            r#"{"a":[{"b":1,"b":2}]}"#,
            "[]",
            "7",
            "null",
        ] {
            assert!(parse(text).is_err(), "{text}");
        }
        let deep = |depth: usize| format!("{{\"a\":{}{}}}", "[".repeat(depth), "]".repeat(depth));
        assert!(parse(&deep(100)).is_ok() && parse(&deep(10_000)).is_err());
    }
}
