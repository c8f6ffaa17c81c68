//! Offers and answers. The client offers what it publishes and its receive slots, once; or answers the offer of a server that
//! makes one.

use std::{
    net::{IpAddr, SocketAddr},
    time::Instant,
};

use isthmus_protocol::signal::Kind;
use str0m::{
    Rtc,
    change::{SdpAnswer, SdpOffer},
    media::{Direction, MediaKind, Simulcast, SimulcastLayer},
};

use super::{ClientError, Output, handshake, media::Media};

/// A WebRTC engine that hands over RTP packets, with the codecs that the client has clips of. With redundancy, voices are offered
/// with the packet before in each (RFC 2198).
pub(super) fn engine(redundancy: bool, now: Instant) -> Rtc {
    Rtc::builder()
        .set_crypto_provider(handshake::provider())
        .clear_codecs()
        .enable_opus(true, redundancy)
        .enable_vp8(true)
        .set_rtp_mode(true)
        .build(now)
}

/// What a client offers.
pub(in crate::client) struct Offer {
    /// The session description.
    pub(in crate::client) sdp: String,
    /// The m-line of the microphone, if there is one.
    pub(in crate::client) microphone: Option<String>,
    /// The m-line of the camera, if there is one.
    pub(in crate::client) camera: Option<String>,
}

impl Media {
    /// Offers what is published and the receive slots; none if that is nothing.
    pub(in crate::client) fn offer(&mut self) -> Option<Offer> {
        let rids =
            self.library.layers(self.config.material, self.config.simulcast).into_iter().filter_map(|(rid, _)| rid);
        let layers = rids.fold(None, |layers: Option<Simulcast>, rid| {
            let mut layers = layers.unwrap_or_else(Simulcast::new);
            layers.add_send_layer(SimulcastLayer::new(rid));
            Some(layers)
        });
        let mut change = self.rtc.sdp_api();
        let (stream, send) = (Some(self.config.name.clone()), Direction::SendOnly);
        if self.config.audio {
            self.microphone_mid = Some(change.add_media(MediaKind::Audio, send, stream.clone(), None, None));
        }
        if self.config.video {
            self.camera_mid = Some(change.add_media(MediaKind::Video, send, stream, None, layers));
        }
        let wanted = [(MediaKind::Audio, self.config.audio_slots), (MediaKind::Video, self.config.video_slots)];
        let kinds = wanted.into_iter().flat_map(|(kind, count)| std::iter::repeat_n(kind, count));
        let slots: Vec<_> =
            kinds.map(|kind| (change.add_media(kind, Direction::RecvOnly, None, None, None), kind)).collect();
        let (offer, pending) = change.apply()?;
        for (mid, kind) in slots {
            self.add_slot(mid, kind);
        }
        self.offers += 1;
        self.pending = Some(pending);
        let name = |mid: Option<str0m::media::Mid>| mid.map(|mid| mid.to_string());
        let (microphone, camera) = (name(self.microphone_mid), name(self.camera_mid));
        Some(Offer { sdp: offer.to_sdp_string(), microphone, camera })
    }

    /// The answer to the last offer; a second one is none.
    pub(in crate::client) fn handle_answer(&mut self, now: Instant, sdp: &str) -> Result<(), ClientError> {
        let Some(pending) = self.pending.take() else { return Ok(()) };
        let answer = SdpAnswer::from_sdp_string(sdp).map_err(|error| ClientError::Description(error.to_string()))?;
        self.rtc.sdp_api().accept_answer(pending, answer)?;
        self.times.answer.get_or_insert(now);
        if self.over_tcp {
            let addresses = passive_tcp_addresses(sdp);
            if addresses.is_empty() {
                self.note_error("the answer has no TCP candidate: the node offers no ICE-TCP".into());
            }
            self.outbox.extend(addresses.into_iter().map(Output::Connect));
        }
        Ok(())
    }

    /// Answers what the server offers to send. What it offers becomes a slot each.
    pub(in crate::client) fn answer(&mut self, now: Instant, offer: &str) -> Result<String, ClientError> {
        let offer = SdpOffer::from_sdp_string(offer).map_err(|error| ClientError::Description(error.to_string()))?;
        let answer = self.rtc.sdp_api().accept_offer(offer)?;
        self.times.answer.get_or_insert(now);
        Ok(answer.to_sdp_string())
    }
}

pub(super) fn kind_of(kind: MediaKind) -> Kind {
    match kind {
        MediaKind::Audio => Kind::Audio,
        MediaKind::Video => Kind::Video,
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
