//! The little a door reads of a session description: which way media goes and the ICE credentials. Everything else
//! is for the media node.

/// Which way an offer's media goes, from the side that offers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Directions {
    /// At least one m-line sends.
    pub(crate) sends: bool,
    /// At least one m-line receives.
    pub(crate) receives: bool,
}

impl Directions {
    /// Reads the direction attributes of an offer's audio and video m-lines (RFC 8866 section 6.7): an m-line's own,
    /// else the session's, else `sendrecv`.
    pub(crate) fn of(sdp: &str) -> Self {
        let mut session = Self { sends: true, receives: true };
        let mut sections: Vec<Self> = Vec::new();
        let mut in_media = false;
        let mut current: Option<usize> = None;
        for line in sdp.lines() {
            if let Some(media) = line.strip_prefix("m=") {
                in_media = true;
                current = (media.starts_with("audio") || media.starts_with("video")).then(|| {
                    sections.push(session);
                    sections.len() - 1
                });
            } else if let Some(directions) = Self::of_attribute(line) {
                match current.and_then(|index| sections.get_mut(index)) {
                    Some(section) => *section = directions,
                    None if !in_media => session = directions,
                    None => {}
                }
            }
        }
        sections.into_iter().fold(Self::default(), |all, section| Self {
            sends: all.sends || section.sends,
            receives: all.receives || section.receives,
        })
    }

    fn of_attribute(line: &str) -> Option<Self> {
        match line.trim_end() {
            "a=sendrecv" => Some(Self { sends: true, receives: true }),
            "a=sendonly" => Some(Self { sends: true, receives: false }),
            "a=recvonly" => Some(Self { sends: false, receives: true }),
            "a=inactive" => Some(Self::default()),
            _ => None,
        }
    }
}

/// The value of the first `a=NAME:VALUE` line of a session description.
pub(crate) fn attribute<'a>(sdp: &'a str, name: &str) -> Option<&'a str> {
    sdp.lines().find_map(|line| line.strip_prefix("a=")?.strip_prefix(name)?.strip_prefix(':')).map(str::trim_end)
}

/// An offer as it was, with other ICE credentials and without candidates: what an ICE restart offers when, as in
/// WHIP, only the ICE part travels (RFC 9725 section 4.3.3).
pub(crate) fn with_ice_credentials(offer: &str, ufrag: &str, pwd: &str) -> String {
    let mut out = String::with_capacity(offer.len() + 64);
    for line in offer.lines() {
        if line.starts_with("a=candidate:") || line.starts_with("a=end-of-candidates") {
            continue;
        }
        if line.starts_with("a=ice-ufrag:") {
            out.push_str("a=ice-ufrag:");
            out.push_str(ufrag);
        } else if line.starts_with("a=ice-pwd:") {
            out.push_str("a=ice-pwd:");
            out.push_str(pwd);
        } else {
            out.push_str(line);
        }
        out.push_str("\r\n");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const BOTH: Directions = Directions { sends: true, receives: true };
    const SENDS: Directions = Directions { sends: true, receives: false };
    const RECEIVES: Directions = Directions { sends: false, receives: true };

    #[test]
    fn an_m_line_goes_by_its_own_attribute_then_the_sessions_then_both_ways() {
        let cases = [
            ("v=0\r\nm=audio 9 x 0\r\na=sendonly\r\nm=video 9 x 0\r\na=sendonly\r\n", SENDS),
            ("v=0\r\nm=audio 9 x 0\r\na=recvonly\r\n", RECEIVES),
            ("v=0\r\na=recvonly\r\nm=audio 9 x 0\r\n", RECEIVES),
            ("v=0\r\na=recvonly\r\nm=audio 9 x 0\r\na=sendonly\r\n", SENDS),
            ("v=0\r\nm=audio 9 x 0\r\n", BOTH),
            ("v=0\r\nm=audio 9 x 0\r\na=recvonly\r\nm=video 9 x 0\r\na=sendonly\r\n", BOTH),
            ("v=0\r\nm=audio 9 x 0\r\na=recvonly\r\nm=application 9 x 0\r\na=sendrecv\r\n", RECEIVES),
            ("v=0\r\nm=audio 0 x 0\r\na=inactive\r\n", Directions::default()),
            ("v=0\r\nm=application 9 x webrtc-datachannel\r\n", Directions::default()),
            ("", Directions::default()),
        ];
        for (sdp, wanted) in cases {
            assert_eq!(Directions::of(sdp), wanted, "{sdp}");
        }
    }

    #[test]
    fn a_restart_changes_the_ice_credentials_of_every_section_and_nothing_else() {
        let offer = "v=0\r\nm=audio 9 x 0\r\na=ice-ufrag:old1\r\na=ice-pwd:oldpwd\r\na=candidate:1 1 udp 1 ::1 9 typ host\r\na=mid:0\r\nm=video 9 x 0\r\na=ice-ufrag:old1\r\n";
        let restarted = with_ice_credentials(offer, "new1", "newpwd");
        assert_eq!(
            restarted,
            "v=0\r\nm=audio 9 x 0\r\na=ice-ufrag:new1\r\na=ice-pwd:newpwd\r\na=mid:0\r\nm=video 9 x 0\r\na=ice-ufrag:new1\r\n"
        );
        assert_eq!(attribute(&restarted, "ice-ufrag"), Some("new1"));
        assert_eq!(attribute(&restarted, "ice"), None, "a name is matched whole");
    }

    proptest! {
        #[test]
        fn rubbish_is_read_without_panic(text in "(a=|m=|audio|sendonly|recvonly|\r\n|:|.){0,64}") {
            let _ = Directions::of(&text);
            let _ = attribute(&text, "ice-ufrag");
            let _ = with_ice_credentials(&text, "abcd", "efgh");
        }
    }
}
