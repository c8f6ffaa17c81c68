//! Feedback as a receiver sends it.

/// Transport-wide feedback as a receiver sends it: two-bit vectors, then deltas.
pub(super) fn encode(base: u16, statuses: &[Option<i64>]) -> Vec<u8> {
    let first_us = statuses.iter().flatten().next().copied().unwrap_or(0);
    let reference = first_us / 64_000;
    let (mut symbols, mut deltas, mut before) = (Vec::new(), Vec::new(), reference * 256);
    for status in statuses {
        let delta = status.map(|us| {
            let at = us / 250;
            at - std::mem::replace(&mut before, at)
        });
        match delta {
            None => symbols.push(0u16),
            Some(delta) if let Ok(small) = u8::try_from(delta) => {
                symbols.push(1);
                deltas.push(small);
            }
            Some(delta) => {
                symbols.push(2);
                let large = delta.clamp(i16::MIN.into(), i16::MAX.into()) as i16;
                deltas.extend(large.to_be_bytes());
            }
        }
    }
    let chunk =
        |symbols: &[u16]| (0..7).fold(0b11, |chunk, place| chunk << 2 | symbols.get(place).copied().unwrap_or(0));
    let mut packet = vec![0x8f, 205, 0, 0, 0, 0, 0, 1, 0, 0, 0, 2];
    packet.extend(base.to_be_bytes());
    packet.extend((statuses.len() as u16).to_be_bytes());
    packet.extend(&((reference & 0xff_ffff) as u32).to_be_bytes()[1..]);
    packet.push(0);
    symbols.chunks(7).for_each(|symbols| packet.extend(chunk(symbols).to_be_bytes()));
    packet.extend(deltas);
    packet.resize(packet.len().next_multiple_of(4), 0);
    let words = (packet.len() / 4 - 1) as u16;
    packet[2..4].copy_from_slice(&words.to_be_bytes());
    packet
}
