//! People as they cross a boundary: what they are called, where they are reached, how they are spoken to. Each field
//! is its own type, checked when it is parsed; what is personal does not show itself in logs.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

/// The longest e-mail address, in bytes (RFC 5321 section 4.5.3.1.3, without its angle brackets).
pub const MAX_EMAIL_BYTES: usize = 254;
/// The longest display name, in characters.
pub const MAX_NAME_CHARS: usize = 64;
/// The longest name of a time zone, in bytes.
const MAX_ZONE_BYTES: usize = 48;

/// Why a field of a person is not taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum InvalidPerson {
    /// No address that mail could be sent to.
    #[error("an e-mail address has a name, an @ and a domain, and at most {MAX_EMAIL_BYTES} bytes")]
    Email,
    /// Empty, too long, or with characters that are not seen.
    #[error("a display name has 1 to {MAX_NAME_CHARS} characters, and none that cannot be seen")]
    Name,
    /// Not one that the app speaks.
    #[error("the languages are en, es, de, fr, it, zh-Hans, ms and ta")]
    Locale,
    /// Not two letters.
    #[error("a country is two letters of ISO 3166-1, such as CH")]
    Country,
    /// Not like the name of a zone.
    #[error("a time zone is a name of the IANA database, such as Europe/Zurich")]
    Zone,
}

macro_rules! text {
    ($(#[$doc:meta])* $name:ident, $parse:expr) => {
        $(#[$doc])*
        #[derive(Clone, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
        #[derive(ts_rs::TS, utoipa::ToSchema)]
        #[serde(try_from = "String", into = "String")]
        #[ts(as = "String")]
        #[schema(value_type = String)]
        pub struct $name(String);

        impl $name {
            /// As text.
            pub fn as_str(&self) -> &str {
                &self.0
            }
        }

        impl FromStr for $name {
            type Err = InvalidPerson;
            fn from_str(text: &str) -> Result<Self, InvalidPerson> {
                let parse: fn(&str) -> Result<String, InvalidPerson> = $parse;
                parse(text).map(Self)
            }
        }

        impl TryFrom<String> for $name {
            type Error = InvalidPerson;
            fn try_from(text: String) -> Result<Self, InvalidPerson> {
                text.parse()
            }
        }

        impl From<$name> for String {
            fn from(text: $name) -> String {
                text.0
            }
        }

        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                // Personal: its kind is all that logs may say.
                f.write_str(concat!(stringify!($name), "(..)"))
            }
        }
    };
}

text!(
    /// Where mail for a person goes. In lower case, so that one mailbox is one account.
    Email,
    |text| {
        let text = text.trim();
        let (local, domain) = text.rsplit_once('@').ok_or(InvalidPerson::Email)?;
        let is_plain = |c: char| !c.is_whitespace() && !c.is_control() && !matches!(c, '<' | '>' | ',' | ';' | '"' | '\\');
        let labels = || domain.split('.');
        let is_good = !local.is_empty()
            && text.len() <= MAX_EMAIL_BYTES
            && text.chars().all(is_plain)
            && !local.contains('@')
            && labels().count() > 1
            && labels().all(|label| (1..=63).contains(&label.len()));
        if is_good { Ok(text.to_lowercase()) } else { Err(InvalidPerson::Email) }
    }
);
text!(
    /// What others see. Any script; without what cannot be seen or turns other text around.
    DisplayName,
    |text| {
        let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
        // RFC 8266 refers to what PRECIS forbids; these are the ones that deceive: direction overrides, isolates, zero widths.
        let deceives = |c: char| matches!(c, '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{200b}' | '\u{2060}' | '\u{feff}');
        let chars = text.chars().count();
        if (1..=MAX_NAME_CHARS).contains(&chars) && !text.chars().any(|c| c.is_control() || deceives(c)) {
            Ok(text)
        } else {
            Err(InvalidPerson::Name)
        }
    }
);
text!(
    /// The language that somebody is spoken to in (BCP 47): one of those that the app speaks.
    Locale,
    |text| {
        let known = ["en", "es", "de", "fr", "it", "zh-Hans", "ms", "ta"];
        known.iter().find(|known| known.eq_ignore_ascii_case(text)).map(|known| (*known).to_owned()).ok_or(InvalidPerson::Locale)
    }
);
text!(
    /// Where somebody lives, by ISO 3166-1: how their phone numbers are written.
    Country,
    |text| {
        let is_good = text.len() == 2 && text.bytes().all(|byte| byte.is_ascii_alphabetic());
        if is_good { Ok(text.to_ascii_uppercase()) } else { Err(InvalidPerson::Country) }
    }
);
text!(
    /// A time zone of the IANA database. Whether there is such a one, the browser knows that shows it.
    TimeZone,
    |text| {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'_' | b'-' | b'+');
        let is_good = (1..=MAX_ZONE_BYTES).contains(&text.len()) && text.bytes().all(allowed);
        if is_good { Ok(text.to_owned()) } else { Err(InvalidPerson::Zone) }
    }
);

/// What others see of somebody, and how they are spoken to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ts_rs::TS, utoipa::ToSchema)]
pub struct Profile {
    /// What they are called.
    pub name: DisplayName,
    /// The language that they are spoken to in.
    pub locale: Locale,
    /// Where they live.
    pub country: Option<Country>,
    /// What their clocks show.
    pub time_zone: Option<TimeZone>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_taken_is_taken_in_one_form() {
        let email = |text: &str| text.parse::<Email>().map(String::from);
        assert_eq!(email("  Ana.Pérez@Example.ORG "), Ok("ana.pérez@example.org".into()));
        for wrong in [
            "",
            "ana",
            "@example.org",
            "ana@",
            "ana@localhost",
            "a b@example.org",
            "a@b..org",
            "a@b@c.org",
            "a@x.org\r\nBcc: b@x.org",
        ] {
            assert_eq!(email(wrong), Err(InvalidPerson::Email), "{wrong:?}");
        }
        assert_eq!(email(&format!("{}@example.org", "a".repeat(250))), Err(InvalidPerson::Email));
        let name = |text: &str| text.parse::<DisplayName>().map(String::from);
        assert_eq!(name("  Ana   María "), Ok("Ana María".into()));
        assert_eq!(name("نور الهدى"), Ok("نور الهدى".into()));
        for wrong in ["", "   ", "a\u{202e}b", "a\u{0}b", &"x".repeat(65)] {
            assert_eq!(name(wrong), Err(InvalidPerson::Name), "{wrong:?}");
        }
        assert_eq!("ZH-hans".parse::<Locale>().map(String::from), Ok("zh-Hans".into()));
        assert_eq!("pt".parse::<Locale>(), Err(InvalidPerson::Locale));
        assert_eq!("ch".parse::<Country>().map(String::from), Ok("CH".into()));
        assert!("America/Argentina/Buenos_Aires".parse::<TimeZone>().is_ok() && "../etc".parse::<TimeZone>().is_err());
    }

    #[test]
    fn nothing_personal_shows_itself() {
        let email: Email = "ana@example.org".parse().expect("an address");
        assert_eq!(format!("{email:?}"), "Email(..)");
    }
}
