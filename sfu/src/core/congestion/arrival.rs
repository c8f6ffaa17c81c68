//! Packets sent together are judged together: what one burst does to its own packets says nothing about the path.

/// Packets sent within this are one group (draft-ietf-rmcat-gcc-02 section 5.1).
const GROUP_US: i64 = 5_000;
/// Packets that waited somewhere and were let go together arrive within [`GROUP_US`] of each other; but a queue that
/// never empties must not become one endless group.
const LONGEST_GROUP_US: i64 = 100_000;

/// When a packet was sent, on this node's clock, and when it arrived, on the receiver's, both in microseconds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Arrival {
    pub(super) sent_us: i64,
    pub(super) arrived_us: i64,
}

/// How a group followed the one before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Step {
    /// When the group was complete, on the receiver's clock.
    pub(super) arrived_us: i64,
    /// How much longer it took than the group before (section 5.2: the inter-group delay variation).
    pub(super) delay_us: i64,
}

#[derive(Debug, Clone, Copy)]
struct Group {
    first: Arrival,
    last: Arrival,
}

impl Group {
    fn takes(&self, packet: Arrival) -> bool {
        let since_last_us = packet.arrived_us - self.last.arrived_us;
        let catches_up = since_last_us < packet.sent_us - self.last.sent_us;
        let was_held =
            catches_up && since_last_us <= GROUP_US && packet.arrived_us - self.first.arrived_us < LONGEST_GROUP_US;
        packet.sent_us - self.first.sent_us <= GROUP_US || was_held
    }
}

/// Puts packets into groups, in the order they were sent.
#[derive(Debug, Default)]
pub(super) struct Groups {
    before: Option<Group>,
    current: Option<Group>,
}

impl Groups {
    /// Takes a packet; the step to the group that it ended, if there was one before that.
    pub(super) fn add(&mut self, packet: Arrival) -> Option<Step> {
        let Some(current) = &mut self.current else {
            self.current = Some(Group { first: packet, last: packet });
            return None;
        };
        if packet.sent_us < current.first.sent_us {
            return None;
        }
        if current.takes(packet) {
            current.last.sent_us = current.last.sent_us.max(packet.sent_us);
            current.last.arrived_us = current.last.arrived_us.max(packet.arrived_us);
            return None;
        }
        let ended = *current;
        self.current = Some(Group { first: packet, last: packet });
        let before = self.before.replace(ended)?;
        let arrived_us = ended.last.arrived_us - before.last.arrived_us;
        let sent_us = ended.last.sent_us - before.last.sent_us;
        Some(Step { arrived_us: ended.last.arrived_us, delay_us: arrived_us - sent_us })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn steps(packets: &[(i64, i64)]) -> Vec<i64> {
        let mut groups = Groups::default();
        let add = |(sent_us, arrived_us): &(i64, i64)| {
            groups.add(Arrival { sent_us: *sent_us, arrived_us: *arrived_us }).map(|step| step.delay_us)
        };
        packets.iter().filter_map(add).collect()
    }

    #[test]
    fn a_burst_is_one_group_however_it_is_spread_on_the_way() {
        let frame = |at: i64| (0..5).map(move |place| (at + place * 500, at + 50_000 + place * 4_000));
        let packets: Vec<_> = (0..5).flat_map(|number| frame(number * 33_000)).collect();
        assert_eq!(steps(&packets), [0, 0, 0]);
    }

    #[test]
    fn a_growing_queue_shows_in_the_steps() {
        let packets: Vec<_> = (0..6).map(|number| (number * 20_000, number * 26_000)).collect();
        assert_eq!(steps(&packets), [6_000, 6_000, 6_000, 6_000][..steps(&packets).len()]);
    }

    #[test]
    fn what_was_held_and_let_go_at_once_is_one_group() {
        let held = [(0, 0), (20_000, 80_000), (40_000, 80_500), (60_000, 81_000), (80_000, 81_500), (100_000, 100_000)];
        assert_eq!(steps(&held), [1_500], "not four steps, the first of which would look like a queue");
    }

    #[test]
    fn a_reordered_packet_is_passed_over() {
        assert_eq!(steps(&[(0, 0), (20_000, 20_000), (1_000, 30_000), (40_000, 40_000), (60_000, 60_000)]), [0, 0]);
    }
}
