//! A client's way out: the egress core, and what it needs of the peer connection beside it.

use std::{net::SocketAddr, time::Instant};

use str0m::{media::Mid, net::Protocol};

use crate::core::{
    egress::{
        keys::Role,
        outlet::{ExtensionIds, Extra, Heard, Line, Outlet, Packet, Unsent},
        queue::Dropped,
        reports::Concerns,
        tap::Tap,
    },
    room::SlotOffer,
};

/// What streams that are played together have in common, by which browsers keep lips and voice together.
const NAME: &str = "isthmus";

/// What goes out to one client past its peer connection.
pub(super) struct ClientOutlet {
    tap: Tap,
    role: Role,
    lines: Vec<Line>,
    /// What could be used and what the next picture takes, in kbit/s.
    needs: (u32, u32),
    /// Once the keys are there.
    outlet: Option<Outlet>,
    /// Where media goes: the way the client nominated last.
    pub path: Option<(Protocol, SocketAddr)>,
}

impl ClientOutlet {
    pub(super) fn new(tap: Tap) -> Self {
        Self { tap, role: Role::Server, lines: Vec::new(), needs: (0, 0), outlet: None, path: None }
    }

    /// The answer with our SSRCs, which `fresh` makes; what is sent on the slots' m-lines goes under them from now on.
    pub(super) fn answer(
        &mut self,
        answer: &str,
        slots: &[SlotOffer],
        extensions: impl Fn(Mid) -> ExtensionIds,
        mut fresh: impl FnMut() -> u32,
        now: Instant,
    ) -> String {
        // RFC 8842 section 5.3: who is active is the DTLS client.
        let is_active = answer.lines().any(|line| line == "a=setup:active");
        self.role = if is_active { Role::Client } else { Role::Server };
        let with_ours = |section: &str| {
            let slot = value(section, "a=mid:").and_then(|mid| slots.iter().find(|slot| *slot.mid == *mid));
            let Some(slot) = slot else { return section.to_owned() };
            let has_repair = value(section, "a=ssrc-group:FID ").is_some();
            let line = self.line(slot.mid, has_repair, &extensions, &mut fresh, now);
            with_ssrcs(section, line)
        };
        sections(answer).map(with_ours).collect()
    }

    /// The m-line as it was opened, or is now: it keeps its SSRCs for good.
    fn line(
        &mut self,
        mid: Mid,
        has_repair: bool,
        extensions: impl Fn(Mid) -> ExtensionIds,
        mut fresh: impl FnMut() -> u32,
        now: Instant,
    ) -> Line {
        if let Some(line) = self.lines.iter().find(|line| line.mid == mid) {
            return *line;
        }
        let line = Line { mid, ssrc: fresh(), repair_ssrc: has_repair.then(&mut fresh), ids: extensions(mid) };
        self.lines.push(line);
        if let Some(outlet) = &mut self.outlet {
            outlet.open(line, now);
        }
        line
    }

    /// The peer connection stands: the keys are there. Whether they are of a kind that is known.
    pub(super) fn connect(&mut self, now: Instant) -> bool {
        let keys = self.tap.key(self.role).zip(self.tap.key(other(self.role)));
        let Some((own, theirs)) = keys else { return false };
        let Ok(mut outlet) = Outlet::new(&own, &theirs, NAME.into()) else { return false };
        for line in &self.lines {
            outlet.open(*line, now);
        }
        outlet.needs(self.needs.0, self.needs.1, now);
        self.outlet = Some(outlet);
        true
    }

    pub(super) fn send(&mut self, mid: Mid, packet: Packet, now: Instant) -> Result<(), Unsent> {
        self.outlet.as_mut().ok_or(Unsent::UnknownLine)?.send(mid, packet, now)
    }

    /// An RTCP datagram; see [`Outlet::control`].
    pub(super) fn control(&mut self, datagram: &mut [u8], now: Instant, heard: impl FnMut(Heard)) -> Option<Concerns> {
        self.outlet.as_mut()?.control(datagram, now, heard)
    }

    pub(super) fn estimate_kbps(&self) -> Option<u32> {
        self.outlet.as_ref()?.estimate_kbps()
    }

    /// Whether the path loses much; see [`Outlet::is_lossy`].
    pub(super) fn is_lossy(&self) -> bool {
        self.outlet.as_ref().is_some_and(Outlet::is_lossy)
    }

    /// See [`Outlet::needs`].
    pub(super) fn needs(&mut self, desired_kbps: u32, minimum_kbps: u32, now: Instant) {
        self.needs = (desired_kbps, minimum_kbps);
        if let Some(outlet) = &mut self.outlet {
            outlet.needs(desired_kbps, minimum_kbps, now);
        }
    }

    /// Writes what may go; see [`Outlet::flush`] and [`Outlet::report`].
    pub(super) fn flush(&mut self, now: Instant, unix_us: u64, out: &mut Vec<u8>, mut written: impl FnMut(usize)) {
        if let Some(outlet) = &mut self.outlet {
            outlet.flush(now, out, &mut written);
            outlet.report(now, unix_us, out, &mut written);
        }
    }

    pub(super) fn take_dropped(&mut self) -> Dropped {
        self.outlet.as_mut().map(Outlet::take_dropped).unwrap_or_default()
    }

    pub(super) fn take_extra(&mut self) -> Extra {
        self.outlet.as_mut().map(Outlet::take_extra).unwrap_or_default()
    }

    /// See [`Outlet::take_stalled`].
    pub(super) fn take_stalled(&mut self) -> Vec<Mid> {
        self.outlet.as_mut().map(Outlet::take_stalled).unwrap_or_default()
    }

    pub(super) fn wake_at(&self) -> Option<Instant> {
        self.outlet.as_ref()?.wake_at()
    }
}

const fn other(role: Role) -> Role {
    match role {
        Role::Client => Role::Server,
        Role::Server => Role::Client,
    }
}

/// What stands before the first m-line, and each m-line with its attributes.
fn sections(sdp: &str) -> impl Iterator<Item = &str> {
    let begins = sdp.match_indices("\nm=").map(|(at, _)| at + 1);
    let ends = begins.clone().chain([sdp.len()]);
    [0].into_iter().chain(begins).zip(ends).map(|(begin, end)| &sdp[begin..end])
}

/// What follows the `prefix` of a line.
fn value<'a>(section: &'a str, prefix: &str) -> Option<&'a str> {
    section.lines().find_map(|line| line.strip_prefix(prefix))
}

/// An m-line that names these SSRCs and no others (RFC 5576 sections 4.1 and 4.2).
fn with_ssrcs(section: &str, line: Line) -> String {
    let is_kept = |line: &&str| !line.starts_with("a=ssrc:") && !line.starts_with("a=ssrc-group:");
    let kept = section.lines().filter(is_kept).map(str::to_owned);
    let group = line.repair_ssrc.map(|repair| format!("a=ssrc-group:FID {} {repair}", line.ssrc));
    let ssrcs = [Some(line.ssrc), line.repair_ssrc].into_iter().flatten();
    let named = ssrcs.map(|ssrc| format!("a=ssrc:{ssrc} cname:{NAME}"));
    kept.chain(group).chain(named).map(|line| line + "\r\n").collect()
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "the origin of the tests' virtual clock")]
mod tests {
    use isthmus_protocol::signal::Kind;

    use super::*;

    const ANSWER: &str = "v=0\r\na=setup:passive\r\nm=audio 9 x 111\r\na=mid:a\r\na=ssrc:7 cname:x\r\na=sendonly\r\n\
                          m=video 9 x 96\r\na=mid:v\r\na=ssrc:8 cname:x\r\na=ssrc:9 cname:x\r\n\
                          a=ssrc-group:FID 8 9\r\nm=video 9 x 96\r\na=mid:w\r\na=recvonly\r\n";

    fn slot(mid: &str, kind: Kind) -> SlotOffer {
        SlotOffer { mid: Mid::from(mid), kind, codecs: Vec::new(), first_sequence: 0 }
    }

    #[test]
    fn an_answer_names_our_numbers_and_goes_on_naming_them() {
        let mut outlet = ClientOutlet::new(Tap::default());
        let mut next = 100;
        let slots = [slot("a", Kind::Audio), slot("v", Kind::Video)];
        let mut answer = |sdp: &str| {
            let fresh = || {
                next += 1;
                next
            };
            outlet.answer(sdp, &slots, |_| ExtensionIds::default(), fresh, Instant::now())
        };
        let told = answer(ANSWER);
        let expected = "v=0\r\na=setup:passive\r\nm=audio 9 x 111\r\na=mid:a\r\na=sendonly\r\na=ssrc:101 cname:isthmus\r\n\
                        m=video 9 x 96\r\na=mid:v\r\na=ssrc-group:FID 102 103\r\na=ssrc:102 cname:isthmus\r\n\
                        a=ssrc:103 cname:isthmus\r\nm=video 9 x 96\r\na=mid:w\r\na=recvonly\r\n";
        assert_eq!(told, expected);
        let again = answer(&ANSWER.replace('8', "18").replace('9', "19"));
        assert!(again.contains("a=ssrc-group:FID 102 103\r\n"), "{again}");
        assert_eq!(again.matches("a=ssrc:").count(), 3);
    }
}
