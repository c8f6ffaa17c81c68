//! What clients say of what they are sent (RTCP) is read when the shard is awake anyway, or soon after.
//!
//! Each client says several times a second what came. If each of these datagrams woke the shard, most of its wakes were for them
//! where receivers are few, and a wake costs more than what is said. So the kernel keeps RTCP in a socket of its own, at the
//! address of the one for media: a program of classic BPF looks at the first two bytes of each datagram (RFC 5761 section 4).

use std::{
    io,
    net::SocketAddr,
    os::fd::{AsRawFd as _, OwnedFd},
    time::{Duration, Instant},
};

use mio::{Interest, Registry, Token, net::UdpSocket};
use nix::{
    libc::{
        BPF_ABS, BPF_ALU, BPF_AND, BPF_B, BPF_JEQ, BPF_JGE, BPF_JMP, BPF_K, BPF_LD, BPF_RET, sock_filter, sock_fprog,
    },
    sys::socket::{
        AddressFamily, SockFlag, SockType, SockaddrStorage, bind, setsockopt, socket,
        sockopt::{AttachReusePortCbpf, ReusePort},
    },
};

use super::udp::Udp;

/// How long what clients say may lie unread while the shard has nothing else to do. Repairs that are asked for wait as long.
const READ_WITHIN: Duration = Duration::from_millis(10);

/// What the program answers: the place of a socket among those of its address, in the order of their binding.
const MEDIA_SOCKET: u32 = 0;
const FEEDBACK_SOCKET: u32 = 1;

/// See the [module](self).
pub(super) struct Feedback {
    pub(super) udp: Udp,
    token: Token,
    turn: Turn,
}

/// When the socket is read next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Turn {
    /// As soon as there is something: nothing came for a while.
    Watched,
    /// In the next round, and that at the latest now.
    By(Instant),
}

impl Turn {
    /// After a reading that found something, or did not.
    fn after(self, found: bool, now: Instant) -> Self {
        match self {
            _ if found => Self::By(now + READ_WITHIN),
            Self::By(until) if now < until => self,
            Self::By(_) | Self::Watched => Self::Watched,
        }
    }
}

impl Feedback {
    /// From now on the kernel puts RTCP here instead of in `media`, which must be the only socket at its address.
    ///
    /// # Errors
    /// The kernel cannot do that; `media` goes on getting everything.
    pub(super) fn beside(media: &UdpSocket, registry: &Registry, token: Token) -> io::Result<Self> {
        // Only now: whoever bound `media` was told if the address was in use.
        setsockopt(media, ReusePort, &true)?;
        let socket = bind_beside(media.local_addr()?)?;
        attach_program(media)?;
        let mut udp = Udp::new(socket)?;
        registry.register(&mut udp.socket, token, Interest::READABLE)?;
        Ok(Self { udp, token, turn: Turn::Watched })
    }

    /// Whether it is to be read in this round, if `has_news` says whether the poll told of it.
    pub(super) fn is_due(&self, has_news: bool) -> bool {
        has_news || self.turn != Turn::Watched
    }

    /// When a round is due for it, whatever else there is to do.
    pub(super) fn wake_at(&self) -> Option<Instant> {
        match self.turn {
            Turn::Watched => None,
            Turn::By(until) => Some(until),
        }
    }

    /// It was read, and something was found or not.
    pub(super) fn was_read(&mut self, found: bool, registry: &Registry, now: Instant) -> io::Result<()> {
        let before = self.turn;
        self.turn = before.after(found, now);
        match (before, self.turn) {
            (Turn::Watched, Turn::By(_)) => registry.deregister(&mut self.udp.socket),
            (Turn::By(_), Turn::Watched) => registry.register(&mut self.udp.socket, self.token, Interest::READABLE),
            _ => Ok(()),
        }
    }
}

/// A second socket at an address whose first one lets others be there.
fn bind_beside(address: SocketAddr) -> io::Result<UdpSocket> {
    let family = if address.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let flags = SockFlag::SOCK_NONBLOCK | SockFlag::SOCK_CLOEXEC;
    let socket: OwnedFd = socket(family, SockType::Datagram, flags, None)?;
    setsockopt(&socket, ReusePort, &true)?;
    bind(socket.as_raw_fd(), &SockaddrStorage::from(address))?;
    Ok(UdpSocket::from_std(socket.into()))
}

/// Tells the kernel which of the sockets at one address gets a datagram.
fn attach_program(socket: &UdpSocket) -> io::Result<()> {
    let step = |code, k| sock_filter { code: code as u16, jt: 0, jf: 0, k };
    let load = |at| step(BPF_LD | BPF_B | BPF_ABS, at);
    let jump = |code, k, jt, jf| sock_filter { jt, jf, ..step(BPF_JMP | code | BPF_K, k) };
    let answer = |socket| step(BPF_RET | BPF_K, socket);
    // A datagram that is too short for a load ends the program with the answer 0, which is for media.
    let mut program = [
        load(0),
        step(BPF_ALU | BPF_AND | BPF_K, 0xc0),
        // Version 2 of RTP and RTCP (RFC 7983 section 7), ...
        jump(BPF_JEQ, 0x80, 0, 4),
        load(1),
        // ... and a packet type of RTCP (RFC 5761 section 4).
        jump(BPF_JGE, 192, 0, 2),
        jump(BPF_JGE, 224, 1, 0),
        answer(FEEDBACK_SOCKET),
        answer(MEDIA_SOCKET),
    ];
    let program = sock_fprog { len: program.len() as u16, filter: program.as_mut_ptr() };
    Ok(setsockopt(socket, AttachReusePortCbpf, &program)?)
}

#[cfg(test)]
#[expect(clippy::disallowed_methods, reason = "the origin of the tests' virtual clock")]
mod tests {
    use mio::{Events, Poll};

    use super::*;

    const TOKEN: Token = Token(7);

    fn beside(address: &str) -> io::Result<(Poll, Udp, Feedback)> {
        let media = UdpSocket::bind(address.parse().expect("an address"))?;
        let poll = Poll::new()?;
        let feedback = Feedback::beside(&media, poll.registry(), TOKEN)?;
        Ok((poll, Udp::new(media)?, feedback))
    }

    fn sender(to: &Udp) -> io::Result<std::net::UdpSocket> {
        let to = to.socket.local_addr()?;
        let sender = std::net::UdpSocket::bind(SocketAddr::new(to.ip(), 0))?;
        sender.connect(to)?;
        Ok(sender)
    }

    /// All that is there: on loopback, what was sent has come.
    fn read(udp: &mut Udp) -> io::Result<Vec<Vec<u8>>> {
        let mut read = Vec::new();
        while udp.receive(|_, bytes| read.push(bytes.to_vec()))? {}
        Ok(read)
    }

    fn has_news(poll: &mut Poll) -> io::Result<bool> {
        let mut events = Events::with_capacity(4);
        poll.poll(&mut events, Some(Duration::ZERO))?;
        Ok(events.iter().any(|event| event.token() == TOKEN))
    }

    #[test]
    fn the_kernel_keeps_rtcp_apart_from_everything_else() -> io::Result<()> {
        let rtcp: &[&[u8]] = &[&[0x80, 192], &[0x81, 200, 0, 1], &[0x8f, 205], &[0xbf, 206, 9], &[0x80, 223]];
        // RTP with and without a marker, STUN, DTLS, a TURN channel, QUIC, a version that is none, and what is cut off.
        let others: &[&[u8]] = &[
            &[0x80, 96, 0],
            &[0x90, 111],
            &[0x80, 191],
            &[0x80, 0xe0, 1],
            &[0, 1, 0, 0],
            &[22, 254],
            &[0x40, 200],
            &[0xc0, 205],
            &[0x80],
            &[0x7f, 205],
        ];
        for address in ["127.0.0.1:0", "[::1]:0"] {
            let (_poll, mut media, mut feedback) = beside(address)?;
            let sender = sender(&media)?;
            for datagram in rtcp.iter().chain(others) {
                sender.send(datagram)?;
            }
            assert_eq!(read(&mut feedback.udp)?, rtcp, "{address}");
            assert_eq!(read(&mut media)?, others, "{address}");
        }
        Ok(())
    }

    #[test]
    fn nobody_else_gets_the_address_before_or_after() -> io::Result<()> {
        let first = UdpSocket::bind(SocketAddr::from(([127, 0, 0, 1], 0)))?;
        let address = first.local_addr()?;
        let in_use = |again: io::Result<UdpSocket>| again.is_err_and(|error| error.kind() == io::ErrorKind::AddrInUse);
        assert!(in_use(UdpSocket::bind(address)));
        let poll = Poll::new()?;
        let _feedback = Feedback::beside(&first, poll.registry(), TOKEN)?;
        assert!(in_use(UdpSocket::bind(address)));
        Ok(())
    }

    #[test]
    fn while_much_is_said_it_is_read_now_and_then_and_else_at_once() -> io::Result<()> {
        let (mut poll, media, mut feedback) = beside("127.0.0.1:0")?;
        let sender = sender(&media)?;
        let mut now = Instant::now();
        assert!(!has_news(&mut poll)? && !feedback.is_due(false) && feedback.wake_at().is_none(), "nothing was said");
        for _ in 0..3 {
            sender.send(&[0x80, 200])?;
            assert!(has_news(&mut poll)? && feedback.is_due(true), "the first after a silence is told of");
            assert_eq!(read(&mut feedback.udp)?.len(), 1);
            feedback.was_read(true, poll.registry(), now)?;
            for _ in 0..3 {
                sender.send(&[0x80, 200])?;
                sender.send(&[0x80, 200])?;
                assert!(!has_news(&mut poll)?, "the next are not");
                assert!(feedback.is_due(false), "but are read in any round,");
                let until = feedback.wake_at().expect("and there is one soon");
                assert_eq!(until, now + READ_WITHIN);
                now = until;
                assert_eq!(read(&mut feedback.udp)?.len(), 2);
                feedback.was_read(true, poll.registry(), now)?;
            }
            feedback.was_read(false, poll.registry(), now + READ_WITHIN / 2)?;
            assert_eq!(
                feedback.wake_at(),
                Some(now + READ_WITHIN),
                "a round in which nothing was found puts nothing off"
            );
            now += READ_WITHIN;
            feedback.was_read(false, poll.registry(), now)?;
            assert!(feedback.wake_at().is_none() && !feedback.is_due(false), "nobody says anything any more");
        }
        Ok(())
    }
}
