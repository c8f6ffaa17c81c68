//! The offer and its answer. The client offers what it publishes and its receive slots, once.

use std::{
    net::{IpAddr, SocketAddr},
    time::Instant,
};

use isthmus_protocol::signal::{ClientMessage, Kind, OfferedTrack, Source};
use str0m::{
    Rtc,
    change::SdpAnswer,
    media::{Direction, MediaKind, Mid, Simulcast, SimulcastLayer},
};

use super::{Client, ClientError, Output};
use crate::client::measure::SlotMeter;

/// A WebRTC engine that hands over RTP packets, with the codecs that the client has clips of.
pub(super) fn engine(now: Instant) -> Rtc {
    Rtc::builder().clear_codecs().enable_opus(true, false).enable_vp8(true).set_rtp_mode(true).build(now)
}

impl Client {
    /// Offers what is published and the receive slots.
    pub(super) fn offer(&mut self) {
        let mut layers = Simulcast::new();
        for (rid, _) in self.library.camera.iter() {
            layers.add_send_layer(SimulcastLayer::new(rid));
        }
        let mut change = self.rtc.sdp_api();
        let (stream, send) = (Some(self.config.name.clone()), Direction::SendOnly);
        if self.config.audio {
            self.microphone_mid = Some(change.add_media(MediaKind::Audio, send, stream.clone(), None, None));
        }
        if self.config.video {
            let layers = self.config.simulcast.then_some(layers);
            self.camera_mid = Some(change.add_media(MediaKind::Video, send, stream, None, layers));
        }
        for (kind, count) in [(Kind::Audio, self.config.audio_slots), (Kind::Video, self.config.video_slots)] {
            for _ in 0..count {
                let mid = change.add_media(media_kind(kind), Direction::RecvOnly, None, None, None);
                self.slots.push((mid, SlotMeter::new(mid.to_string(), kind).reading_stamps(self.config.stamps)));
            }
        }
        // A client that neither sends nor receives has nothing to offer.
        let Some((offer, pending)) = change.apply() else { return };
        self.offers += 1;
        self.pending = Some((self.offers, pending));
        let track =
            |mid: Option<Mid>, source| mid.map(|mid| OfferedTrack { mid: mid.to_string(), source, muted: false });
        let sources = [track(self.microphone_mid, Source::Microphone), track(self.camera_mid, Source::Camera)];
        let tracks = sources.into_iter().flatten().collect();
        let offer = ClientMessage::Offer { revision: self.offers, sdp: offer.to_sdp_string(), tracks };
        self.outbox.push_back(Output::Signal(offer));
    }

    /// The answer to the last offer; one to an earlier offer is too late.
    pub(super) fn handle_answer(&mut self, now: Instant, revision: u32, sdp: &str) -> Result<(), ClientError> {
        let Some((_, pending)) = self.pending.take_if(|(offered, _)| *offered == revision) else { return Ok(()) };
        let answer = SdpAnswer::from_sdp_string(sdp).map_err(|error| ClientError::Answer(error.to_string()))?;
        self.rtc.sdp_api().accept_answer(pending, answer)?;
        self.joined.times.answer.get_or_insert(now);
        if self.over_tcp {
            let addresses = passive_tcp_addresses(sdp);
            if addresses.is_empty() {
                self.note_error("the answer has no TCP candidate: the node offers no ICE-TCP".into());
            }
            self.outbox.extend(addresses.into_iter().map(Output::Connect));
        }
        Ok(())
    }
}

fn media_kind(kind: Kind) -> MediaKind {
    match kind {
        Kind::Audio => MediaKind::Audio,
        Kind::Video => MediaKind::Video,
    }
}

/// Where the other side listens for ICE over TCP (RFC 6544 section 4.5). Bundled m-lines may repeat a candidate.
fn passive_tcp_addresses(sdp: &str) -> Vec<SocketAddr> {
    let mut addresses = Vec::new();
    for line in sdp.lines().filter_map(|line| line.strip_prefix("a=candidate:")) {
        let words: Vec<_> = line.split_ascii_whitespace().collect();
        let [_, _, transport, _, ip, port, rest @ ..] = words.as_slice() else { continue };
        let passive = rest.windows(2).any(|pair| pair == ["tcptype", "passive"]);
        let address = ip.parse::<IpAddr>().ok().zip(port.parse::<u16>().ok()).map(SocketAddr::from);
        if let Some(address) = address.filter(|address| passive && !addresses.contains(address))
            && transport.eq_ignore_ascii_case("tcp")
        {
            addresses.push(address);
        }
    }
    addresses
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn finds_where_the_node_listens_for_tcp() {
        let sdp = "v=0\r\n\
            a=candidate:1 1 udp 2130706431 10.77.4.2 7110 typ host\r\n\
            a=candidate:2 1 tcp 1518280447 10.77.4.2 7110 typ host tcptype passive\r\n\
            a=candidate:2 1 tcp 1518280447 10.77.4.2 7110 typ host tcptype passive\r\n\
            a=candidate:3 1 tcp 1518280447 10.77.4.2 9 typ host tcptype active\r\n\
            a=candidate:4 1 tcp 1518280447 not.an.ip 9 typ host tcptype passive\r\n\
            a=candidate:5 1\r\n";
        assert_eq!(passive_tcp_addresses(sdp), ["10.77.4.2:7110".parse::<SocketAddr>().expect("an address")]);
    }
}
