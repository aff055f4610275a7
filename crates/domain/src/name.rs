//! The name that a user gives a device: what may stand in it.

use thiserror::Error;
use unicode_properties::{GeneralCategoryGroup, UnicodeGeneralCategory};

/// The longest name that a user may give a device, in characters (Unicode scalar values).
pub const NAME_MAX_CHARS: usize = 64;

/// Why a text cannot be the name of a device.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum NameError {
    /// Nothing but blanks.
    #[error("must not be empty; null removes the name")]
    Empty,
    /// More than [`NAME_MAX_CHARS`] characters.
    #[error("must have at most {NAME_MAX_CHARS} characters")]
    TooLong,
    /// A control character or a line break.
    #[error("must not contain control characters or line breaks")]
    ControlCharacter,
    /// A character that reorders the text around it (UAX #9, explicit directional formatting).
    #[error("must not contain bidirectional overrides, embeddings or isolates")]
    BidiControl,
    /// Nothing that can be seen.
    #[error("must contain a visible character")]
    Invisible,
}

/// Returns the name without the blanks around it.
///
/// # Errors
/// See [`NameError`].
pub fn parse_name(text: &str) -> Result<String, NameError> {
    let name = text.trim();
    if name.is_empty() {
        return Err(NameError::Empty);
    }
    if name.chars().count() > NAME_MAX_CHARS {
        return Err(NameError::TooLong);
    }
    if name
        .chars()
        .any(|character| character.is_control() || matches!(character, '\u{2028}' | '\u{2029}'))
    {
        return Err(NameError::ControlCharacter);
    }
    if name
        .chars()
        .any(|character| matches!(character, '\u{202A}'..='\u{202E}' | '\u{2066}'..='\u{2069}'))
    {
        return Err(NameError::BidiControl);
    }
    if !name.chars().any(is_visible) {
        return Err(NameError::Invisible);
    }
    Ok(name.to_owned())
}

/// Returns whether a character shows something by itself: a letter, digit, sign or symbol, but not
/// the fillers, which Unicode counts among them and fonts leave blank.
fn is_visible(character: char) -> bool {
    const FILLERS: [char; 5] = ['\u{115F}', '\u{1160}', '\u{2800}', '\u{3164}', '\u{FFA0}'];
    let group = character.general_category_group();
    let shows = matches!(
        group,
        GeneralCategoryGroup::Letter
            | GeneralCategoryGroup::Number
            | GeneralCategoryGroup::Punctuation
            | GeneralCategoryGroup::Symbol
    );
    shows && !FILLERS.contains(&character)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_in_any_script_is_taken_without_the_blanks_around_it() {
        for (text, expected) in [
            ("  Küche 📱 ", "Küche 📱"),
            ("हिन्\u{200D}दी", "हिन्\u{200D}दी"),
            ("👩\u{200D}👧", "👩\u{200D}👧"),
            ("المطبخ\u{200F}", "المطبخ\u{200F}"),
            ("#1", "#1"),
            ("-", "-"),
        ] {
            assert_eq!(parse_name(text).as_deref(), Ok(expected), "{text}");
        }
        assert!(parse_name(&"é".repeat(NAME_MAX_CHARS)).is_ok());
    }

    #[test]
    fn a_name_that_cannot_be_read_or_disturbs_its_surroundings_is_refused() {
        for (text, error) in [
            ("", NameError::Empty),
            (" \u{3000}\u{A0} ", NameError::Empty),
            ("two\nlines", NameError::ControlCharacter),
            ("a\u{85}b", NameError::ControlCharacter),
            ("a\u{2028}b", NameError::ControlCharacter),
            ("a\0b", NameError::ControlCharacter),
            ("Phone \u{202E}gpj.exe", NameError::BidiControl),
            ("a\u{2066}b", NameError::BidiControl),
            ("\u{202A}a\u{202C}", NameError::BidiControl),
            ("\u{200B}\u{200B}", NameError::Invisible),
            ("\u{200D}", NameError::Invisible),
            ("\u{FEFF}x".trim_end_matches('x'), NameError::Invisible),
            ("\u{2060}\u{AD}\u{180E}", NameError::Invisible),
            ("\u{3164}", NameError::Invisible),
            ("\u{2800}\u{FFA0}", NameError::Invisible),
            ("\u{301}", NameError::Invisible),
            ("\u{E0041}", NameError::Invisible),
        ] {
            assert_eq!(parse_name(text), Err(error), "{text:?}");
        }
        assert_eq!(parse_name(&"é".repeat(NAME_MAX_CHARS + 1)), Err(NameError::TooLong));
    }
}
