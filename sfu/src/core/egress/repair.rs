//! What was sent of a picture stream lately, and when it is sent again.
//!
//! A packet goes again when the client asks for it (RFC 4585 section 6.2.1), and on a path that loses much also when nothing
//! of it is under way any more by what the client says of arrivals: its request may be lost as well, and it asks once in a
//! round trip.

use std::{
    collections::VecDeque,
    time::{Duration, Instant},
};

use super::outlet::Packet;

/// How many packets are kept: 1.7 s of the largest layer.
const MAX_KEPT: usize = 256;
/// How old a packet may be that is repaired: the picture that it belongs to has passed.
const REPAIRED_FOR: Duration = Duration::from_secs(1);
/// A packet is not repaired again for this long, nor for this share of the shortest round trip that was measured: the client
/// asks until it has come, and what it asks before the repair can have come says nothing of that.
const PAUSE: Duration = Duration::from_millis(30);
const PAUSE_SHARE: f64 = 0.8;

/// What is known of the way to the client.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Path {
    /// It loses much however little is sent. Then a repair goes out twice at once: where one packet in ten is lost each
    /// way, one request in five would be in vain.
    pub(super) is_lossy: bool,
    /// The shortest time from sending to hearing of it.
    pub(super) least_rtt: Option<Duration>,
}

impl Path {
    fn pause(self) -> Duration {
        self.least_rtt.map_or(PAUSE, |rtt| rtt.mul_f64(PAUSE_SHARE).max(PAUSE))
    }
}

#[derive(Debug)]
struct Kept {
    sent_at: Instant,
    sequence: u16,
    packet: Packet,
    repaired: Option<Instant>,
    /// How many were sent of which it is not known that they are lost.
    under_way: u8,
}

/// The newest packets of one stream.
#[derive(Debug, Default)]
pub(super) struct Repairs {
    kept: VecDeque<Kept>,
}

impl Repairs {
    /// A packet went out at `now`.
    pub(super) fn keep(&mut self, sequence: u16, packet: Packet, now: Instant) {
        if self.kept.len() >= MAX_KEPT {
            self.kept.pop_front();
        }
        self.kept.push_back(Kept { sent_at: now, sequence, packet, repaired: None, under_way: 1 });
    }

    /// The packet that went out last and its number.
    pub(super) fn newest(&self) -> Option<(u16, &Packet)> {
        self.kept.back().map(|kept| (kept.sequence, &kept.packet))
    }

    /// The client asks for a packet at `now`. It, and how many times to send it; none if that is of no use.
    pub(super) fn asked(&mut self, sequence: u16, path: Path, now: Instant) -> Option<(Packet, u8)> {
        let kept = self.find(sequence)?;
        let is_too_soon = kept.repaired.is_some_and(|at| now.saturating_duration_since(at) < path.pause());
        if is_too_soon { None } else { kept.again(path, now) }
    }

    /// One that was sent of a packet has not come, as is known at `now`. The packet, and how many times to send it.
    pub(super) fn lost(&mut self, sequence: u16, path: Path, now: Instant) -> Option<(Packet, u8)> {
        let kept = self.find(sequence)?;
        kept.under_way = kept.under_way.saturating_sub(1);
        if kept.under_way > 0 || !path.is_lossy { None } else { kept.again(path, now) }
    }

    fn find(&mut self, sequence: u16) -> Option<&mut Kept> {
        self.kept.iter_mut().rev().find(|kept| kept.sequence == sequence)
    }
}

impl Kept {
    fn again(&mut self, path: Path, now: Instant) -> Option<(Packet, u8)> {
        if now.saturating_duration_since(self.sent_at) > REPAIRED_FOR || self.packet.types.repair.is_none() {
            return None;
        }
        let was_in_vain = self.repaired.replace(now).is_some();
        let times = if was_in_vain || path.is_lossy { 2 } else { 1 };
        self.under_way = self.under_way.saturating_add(times);
        Some((self.packet.clone(), times))
    }
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "the origin of the tests' virtual clock")]
mod tests {
    use super::{super::tests::picture, *};

    const MS: Duration = Duration::from_millis(1);
    const LOSSY: Path = Path { is_lossy: true, least_rtt: Some(Duration::from_millis(100)) };

    fn sent(sequence: u16, at: Instant) -> Repairs {
        let mut repairs = Repairs::default();
        repairs.keep(sequence, picture(sequence.into(), 100, at), at);
        repairs
    }

    fn times(repair: Option<(Packet, u8)>) -> u8 {
        repair.map_or(0, |(_, times)| times)
    }

    #[test]
    fn what_is_asked_for_before_a_repair_can_have_come_is_no_reason_for_another() {
        let at = Instant::now();
        let mut repairs = sent(7, at);
        assert_eq!(times(repairs.asked(7, LOSSY, at + 100 * MS)), 2);
        assert_eq!(times(repairs.asked(7, LOSSY, at + 170 * MS)), 0);
        assert_eq!(times(repairs.asked(7, LOSSY, at + 190 * MS)), 2);
        assert_eq!(times(repairs.asked(7, LOSSY, at + 1_001 * MS)), 0, "the picture has passed");
        assert_eq!(times(repairs.asked(8, LOSSY, at)), 0, "it was never sent");
    }

    #[test]
    fn what_is_lost_goes_again_when_nothing_of_it_is_under_way() {
        let at = Instant::now();
        let mut repairs = sent(7, at);
        assert_eq!(times(repairs.lost(7, LOSSY, at + 100 * MS)), 2);
        assert_eq!(times(repairs.lost(7, LOSSY, at + 250 * MS)), 0, "the second may have come");
        assert_eq!(times(repairs.lost(7, LOSSY, at + 250 * MS)), 2);
        let mut repairs = sent(7, at);
        assert_eq!(times(repairs.lost(7, Path::default(), at + 100 * MS)), 0, "it is asked for in time");
        assert_eq!(times(repairs.asked(7, Path::default(), at + 100 * MS)), 1);
    }
}
