//! `application/trickle-ice-sdpfrag` (RFC 8840 section 9): the ICE part of a session description, which WHIP and WHEP
//! clients send in a PATCH and get back from an ICE restart.

use isthmus_protocol::signal::MAX_CANDIDATE_BYTES;

use crate::sdp;

/// The media type of a fragment.
pub(crate) const MEDIA_TYPE: &str = "application/trickle-ice-sdpfrag";
/// The most candidates one fragment may hold.
pub(crate) const MAX_CANDIDATES: usize = 64;

/// A parsed fragment.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Fragment {
    /// The ICE session the candidates belong to, if the fragment names it.
    pub(crate) credentials: Option<Credentials>,
    /// Candidate attributes, each `candidate:...`.
    pub(crate) candidates: Vec<String>,
    /// Whether no further candidates follow.
    pub(crate) end_of_candidates: bool,
}

/// The client's ICE credentials (RFC 8839 section 5.4).
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Credentials {
    /// 4 to 256 ice-chars.
    pub(crate) ufrag: String,
    /// 22 to 256 ice-chars.
    pub(crate) pwd: String,
}

impl std::fmt::Debug for Credentials {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Credentials({}, [redacted])", self.ufrag)
    }
}

/// Why a fragment is refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum InvalidFragment {
    /// A line that is no SDP line, or a fragment with nothing in it.
    #[error("the fragment is not made of `type=value` lines with ICE attributes (RFC 8840 section 9)")]
    Malformed,
    /// Credentials that RFC 8839 does not allow, or one of the two alone.
    #[error("ice-ufrag (4 to 256 ice-chars) and ice-pwd (22 to 256 ice-chars) must both be there, or neither")]
    Credentials,
    /// Too many candidates or too long ones.
    #[error("a fragment may hold {MAX_CANDIDATES} candidates of {MAX_CANDIDATE_BYTES} bytes each")]
    TooLarge,
}

impl Fragment {
    /// Reads a fragment. Attributes that are not about ICE are skipped, as RFC 8840 section 9.2 asks.
    pub(crate) fn parse(text: &str) -> Result<Self, InvalidFragment> {
        let mut fragment = Self::default();
        let (mut ufrag, mut pwd) = (None, None);
        for line in text.lines().map(str::trim_end).filter(|line| !line.is_empty()) {
            let (kind, value) = line.split_once('=').ok_or(InvalidFragment::Malformed)?;
            if kind.len() != 1 || !kind.bytes().all(|b| b.is_ascii_lowercase()) {
                return Err(InvalidFragment::Malformed);
            }
            match (kind, value.split_once(':').unwrap_or((value, ""))) {
                ("a", ("ice-ufrag", value)) => ufrag = ufrag.or(Some(value)),
                ("a", ("ice-pwd", value)) => pwd = pwd.or(Some(value)),
                ("a", ("end-of-candidates", _)) => fragment.end_of_candidates = true,
                ("a", ("candidate", _)) => fragment.push_candidate(value)?,
                _ => {}
            }
        }
        fragment.credentials = match (ufrag, pwd) {
            (None, None) => None,
            (Some(ufrag), Some(pwd)) => Some(Credentials::new(ufrag, pwd)?),
            _ => return Err(InvalidFragment::Credentials),
        };
        if fragment == Self::default() { Err(InvalidFragment::Malformed) } else { Ok(fragment) }
    }

    fn push_candidate(&mut self, value: &str) -> Result<(), InvalidFragment> {
        if self.candidates.len() >= MAX_CANDIDATES || value.len() > MAX_CANDIDATE_BYTES {
            return Err(InvalidFragment::TooLarge);
        }
        self.candidates.push(value.to_owned());
        Ok(())
    }
}

impl Credentials {
    fn new(ufrag: &str, pwd: &str) -> Result<Self, InvalidFragment> {
        let ice_chars = |text: &str| text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'+' || b == b'/');
        let fits = (4..=256).contains(&ufrag.len()) && (22..=256).contains(&pwd.len());
        if fits && ice_chars(ufrag) && ice_chars(pwd) {
            Ok(Self { ufrag: ufrag.to_owned(), pwd: pwd.to_owned() })
        } else {
            Err(InvalidFragment::Credentials)
        }
    }
}

/// The fragment that tells a client the server's side after an ICE restart: the ICE lines of the answer under its
/// first m-line, the one that carries the bundle.
pub(crate) fn of_answer(answer: &str) -> String {
    let session = answer.lines().take_while(|line| !line.starts_with("m="));
    let media = answer.lines().skip_while(|line| !line.starts_with("m="));
    let first_media = media.clone().take(1).chain(media.skip(1).take_while(|line| !line.starts_with("m=")));
    let mut out = String::new();
    let of_ice = |line: &&str| {
        ["m=", "a=group:BUNDLE", "a=mid:", "a=ice-", "a=candidate:"].iter().any(|start| line.starts_with(start))
    };
    for line in session.filter(of_ice).chain(first_media.filter(of_ice)) {
        out.push_str(line.trim_end());
        out.push_str("\r\n");
    }
    out.push_str("a=end-of-candidates\r\n");
    out
}

/// The entity tag of the ICE session that a client's offer or fragment began: its username fragment, quoted. It is
/// derived and not stored, so that a door that was restarted still knows it.
pub(crate) fn entity_tag(ufrag: &str) -> String {
    format!("\"{ufrag}\"")
}

/// The entity tag of the ICE session that `offer` begins, if the offer has a proper username fragment.
pub(crate) fn entity_tag_of_offer(offer: &str) -> Option<String> {
    let ufrag = sdp::attribute(offer, "ice-ufrag")?;
    let pwd = sdp::attribute(offer, "ice-pwd")?;
    Credentials::new(ufrag, pwd).ok().map(|credentials| entity_tag(&credentials.ufrag))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const TRICKLE: &str = "a=group:BUNDLE 0 1\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\na=mid:0\r\na=ice-ufrag:EsAw\r\na=ice-pwd:P2uYro0UCOQ4zxjKXaWCBui1\r\na=candidate:1 1 udp 2122260223 192.0.2.1 61764 typ host\r\na=candidate:2 1 tcp 1518280447 192.0.2.1 9 typ host tcptype active\r\na=end-of-candidates\r\n";

    #[test]
    fn reads_credentials_candidates_and_their_end() {
        let fragment = Fragment::parse(TRICKLE).expect("a proper fragment");
        assert_eq!(fragment.credentials.map(|c| c.ufrag), Some("EsAw".to_owned()));
        assert_eq!(fragment.candidates.len(), 2);
        assert_eq!(fragment.candidates[0], "candidate:1 1 udp 2122260223 192.0.2.1 61764 typ host");
        assert!(fragment.end_of_candidates);
    }

    #[test]
    fn refuses_what_is_no_fragment() {
        let long = format!("a=candidate:{}", "x".repeat(MAX_CANDIDATE_BYTES));
        let many = "a=candidate:1 1 udp 1 ::1 9 typ host\r\n".repeat(MAX_CANDIDATES + 1);
        let cases = [
            ("", InvalidFragment::Malformed),
            ("hello", InvalidFragment::Malformed),
            ("a=mid:0", InvalidFragment::Malformed),
            ("ab=candidate:1", InvalidFragment::Malformed),
            ("a=ice-ufrag:EsAw", InvalidFragment::Credentials),
            ("a=ice-ufrag:EsAw\na=ice-pwd:short", InvalidFragment::Credentials),
            ("a=ice-ufrag:Es\"w\na=ice-pwd:P2uYro0UCOQ4zxjKXaWCBui1", InvalidFragment::Credentials),
            (&long, InvalidFragment::TooLarge),
            (&many, InvalidFragment::TooLarge),
        ];
        for (text, wanted) in cases {
            assert_eq!(Fragment::parse(text), Err(wanted), "{text:.60}");
        }
    }

    #[test]
    fn credentials_do_not_show_their_password() {
        let fragment = Fragment::parse(TRICKLE).expect("a proper fragment");
        assert!(!format!("{fragment:?}").contains("P2uYro0"));
    }

    #[test]
    fn an_answer_becomes_the_fragment_of_its_first_section() {
        let answer = "v=0\r\no=- 1 1 IN IP4 0.0.0.0\r\na=group:BUNDLE 0 1\r\na=ice-lite\r\nm=audio 9 x 111\r\na=mid:0\r\na=ice-ufrag:srv1\r\na=ice-pwd:0123456789012345678901\r\na=candidate:1 1 udp 1 192.0.2.9 7110 typ host\r\na=rtpmap:111 opus/48000/2\r\nm=video 9 x 96\r\na=mid:1\r\n";
        assert_eq!(
            of_answer(answer),
            "a=group:BUNDLE 0 1\r\na=ice-lite\r\nm=audio 9 x 111\r\na=mid:0\r\na=ice-ufrag:srv1\r\na=ice-pwd:0123456789012345678901\r\na=candidate:1 1 udp 1 192.0.2.9 7110 typ host\r\na=end-of-candidates\r\n"
        );
        let fragment = Fragment::parse(&of_answer(answer)).expect("what is sent can be read");
        assert_eq!(fragment.candidates.len(), 1);
    }

    #[test]
    fn an_entity_tag_cannot_break_out_of_its_header() {
        assert_eq!(entity_tag_of_offer(TRICKLE).as_deref(), Some("\"EsAw\""));
        let hostile = "a=ice-ufrag:a\"b\u{7f}\r\na=ice-pwd:P2uYro0UCOQ4zxjKXaWCBui1\r\n";
        assert_eq!(entity_tag_of_offer(hostile), None);
    }

    proptest! {
        #[test]
        fn any_text_is_read_or_refused_without_panic(text in any::<String>()) {
            let _ = Fragment::parse(&text);
            let _ = of_answer(&text);
            let _ = entity_tag_of_offer(&text);
        }

        #[test]
        fn near_fragments_are_read_or_refused_without_panic(
            text in "(a=|m=|ice-ufrag|ice-pwd|candidate|end-of-candidates|:|[a-zA-Z0-9]{22}|\r\n|é|=){0,40}"
        ) {
            if let Ok(fragment) = Fragment::parse(&text) {
                prop_assert!(fragment.candidates.len() <= MAX_CANDIDATES);
            }
        }
    }
}
