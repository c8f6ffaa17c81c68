//! A client's own way out: the egress core, and what it needs of the peer connection beside it.

use std::{net::SocketAddr, time::Instant};

use rustc_hash::FxHashMap;
use str0m::{media::Mid, net::Protocol};

use crate::core::{
    egress::{
        keys::Role,
        outlet::{ExtensionIds, Heard, Line, Outlet, Packet, Unsent},
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
    /// The SSRCs that the client is told, by those that the peer connection would use: a number sealed under one SSRC by both
    /// would give the key away.
    ssrcs: FxHashMap<u32, u32>,
    lines: Vec<Line>,
    /// Once the keys are there.
    outlet: Option<Outlet>,
    /// Where media goes: the way the client nominated last.
    pub path: Option<(Protocol, SocketAddr)>,
}

impl ClientOutlet {
    pub(super) fn new(tap: Tap) -> Self {
        Self { tap, role: Role::Server, ssrcs: FxHashMap::default(), lines: Vec::new(), outlet: None, path: None }
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
        let answer = renumbered(answer, |theirs| *self.ssrcs.entry(theirs).or_insert_with(&mut fresh));
        for (mid, ssrc, repair_ssrc) in streams(&answer) {
            if !slots.iter().any(|slot| *slot.mid == *mid) || self.lines.iter().any(|line| *line.mid == *mid) {
                continue;
            }
            let mid = Mid::from(mid);
            let line = Line { mid, ssrc, repair_ssrc, ids: extensions(mid) };
            self.lines.push(line);
            if let Some(outlet) = &mut self.outlet {
                outlet.open(line, now);
            }
        }
        answer
    }

    /// The peer connection stands: the keys are there. Whether they are of a kind that is known.
    pub(super) fn connect(&mut self, now: Instant) -> bool {
        let keys = self.tap.key(self.role).zip(self.tap.key(other(self.role)));
        let Some((own, theirs)) = keys else { return false };
        let Ok(mut outlet) = Outlet::new(&own, &theirs, NAME.into()) else { return false };
        for line in &self.lines {
            outlet.open(*line, now);
        }
        self.outlet = Some(outlet);
        true
    }

    pub(super) fn send(&mut self, mid: Mid, packet: Packet) -> Result<(), Unsent> {
        self.outlet.as_mut().ok_or(Unsent::UnknownLine)?.send(mid, packet)
    }

    /// An RTCP datagram; see [`Outlet::control`].
    pub(super) fn control(&mut self, datagram: &mut [u8], now: Instant, heard: impl FnMut(Heard)) -> Option<Concerns> {
        self.outlet.as_mut()?.control(datagram, now, heard)
    }

    pub(super) fn estimate_kbps(&self) -> Option<u32> {
        self.outlet.as_ref()?.estimate_kbps()
    }

    pub(super) fn needs(&mut self, desired_kbps: u32, minimum_kbps: u32, now: Instant) {
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

    pub(super) fn take_dropped(&mut self) -> u64 {
        self.outlet.as_mut().map_or(0, Outlet::take_dropped)
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

/// The session description with other SSRCs (RFC 5576 sections 4.1 and 4.2).
fn renumbered(sdp: &str, mut of: impl FnMut(u32) -> u32) -> String {
    let mut number = |text: &str| text.parse().map_or_else(|_| text.to_owned(), |ssrc| of(ssrc).to_string());
    let mut line = |line: &str| {
        if let Some(rest) = line.strip_prefix("a=ssrc:") {
            let (ssrc, attribute) = rest.split_once(' ').unwrap_or((rest, ""));
            return format!("a=ssrc:{} {attribute}\r\n", number(ssrc));
        }
        if let Some((group, ssrcs)) = line.strip_prefix("a=ssrc-group:").and_then(|rest| rest.split_once(' ')) {
            let ssrcs: Vec<String> = ssrcs.split_whitespace().map(&mut number).collect();
            return format!("a=ssrc-group:{group} {}\r\n", ssrcs.join(" "));
        }
        format!("{line}\r\n")
    };
    sdp.lines().map(&mut line).collect()
}

/// Each m-line that names an SSRC: its mid, the stream's SSRC and that of its repair.
fn streams(sdp: &str) -> Vec<(&str, u32, Option<u32>)> {
    let mut found = Vec::new();
    for section in sdp.split("\nm=").skip(1) {
        let value = |prefix: &str| section.lines().find_map(|line| line.trim_end().strip_prefix(prefix));
        let first = value("a=ssrc:").and_then(|rest| rest.split(' ').next()?.parse().ok());
        let pair = value("a=ssrc-group:FID ").and_then(|rest| {
            let (media, repair) = rest.split_once(' ')?;
            Some((media.parse().ok()?, repair.parse().ok()?))
        });
        let ssrcs = pair.map(|(media, repair)| (media, Some(repair))).or(first.map(|ssrc| (ssrc, None)));
        if let Some((mid, (ssrc, repair))) = value("a=mid:").zip(ssrcs) {
            found.push((mid, ssrc, repair));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    const SDP: &str = "v=0\r\nm=audio 9 x 111\r\na=mid:a\r\na=ssrc:7 cname:x\r\nm=video 9 x 96\r\na=mid:v\r\n\
                       a=ssrc-group:FID 8 9\r\na=ssrc:8 cname:x\r\na=ssrc:9 cname:x\r\nm=video 9 x 96\r\na=mid:w\r\n";

    #[test]
    fn an_answer_is_told_with_other_numbers_and_read_again() {
        assert_eq!(streams(SDP), [("a", 7, None), ("v", 8, Some(9))]);
        let other = renumbered(SDP, |ssrc| ssrc + 100);
        assert_eq!(streams(&other), [("a", 107, None), ("v", 108, Some(109))]);
        assert_eq!(other.replace("107", "7").replace("108", "8").replace("109", "9"), SDP, "nothing else changes");
    }
}
