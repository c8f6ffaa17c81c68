//! Where on Earth something is, and what the distance costs in time.

use std::{collections::HashMap, net::IpAddr};

use ipnet::IpNet;
use serde::{Deserialize, Serialize};

/// The Earth's mean radius, in kilometres.
const EARTH_RADIUS_KM: f64 = 6371.0;
/// Round-trip milliseconds per kilometre of straight fibre: light covers about 200 km in it per millisecond, and must
/// come back.
const FIBRE_MS_PER_KM: f64 = 2.0 / 200.0;
/// How much longer the way of packets is than the great circle. Between Panama, Singapore and Zurich it is 1.3 to 1.7.
const DETOUR: f64 = 1.5;
/// What the access network adds to any distance, in milliseconds.
const ACCESS_MS: f64 = 5.0;

/// A place on Earth, in degrees.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Degrees", into = "Degrees")]
pub struct Place {
    latitude: f64,
    longitude: f64,
}

/// [`Place`] before it is checked.
#[derive(Serialize, Deserialize)]
struct Degrees {
    latitude: f64,
    longitude: f64,
}

/// Latitude or longitude that are not on Earth.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("latitude must be -90 to 90 and longitude -180 to 180 degrees, not {latitude} and {longitude}")]
pub struct NotAPlace {
    latitude: f64,
    longitude: f64,
}

impl TryFrom<Degrees> for Place {
    type Error = NotAPlace;
    fn try_from(degrees: Degrees) -> Result<Self, NotAPlace> {
        Self::new(degrees.latitude, degrees.longitude)
    }
}

impl From<Place> for Degrees {
    fn from(place: Place) -> Self {
        Self { latitude: place.latitude, longitude: place.longitude }
    }
}

impl Place {
    /// The place at these coordinates, in degrees.
    pub fn new(latitude: f64, longitude: f64) -> Result<Self, NotAPlace> {
        if (-90.0..=90.0).contains(&latitude) && (-180.0..=180.0).contains(&longitude) {
            Ok(Self { latitude, longitude })
        } else {
            Err(NotAPlace { latitude, longitude })
        }
    }

    /// The place in a pair of texts, as `CloudFront-Viewer-Latitude` and `CloudFront-Viewer-Longitude` carry it.
    pub fn parse(latitude: &str, longitude: &str) -> Option<Self> {
        Self::new(latitude.trim().parse().ok()?, longitude.trim().parse().ok()?).ok()
    }

    /// The great-circle distance to `other`, in kilometres (haversine formula).
    pub fn distance_km(self, other: Self) -> f64 {
        let (from, to) = (self.latitude.to_radians(), other.latitude.to_radians());
        let half_latitude = (to - from) / 2.0;
        let half_longitude = (other.longitude - self.longitude).to_radians() / 2.0;
        let chord = half_latitude.sin().powi(2) + from.cos() * to.cos() * half_longitude.sin().powi(2);
        2.0 * EARTH_RADIUS_KM * chord.clamp(0.0, 1.0).sqrt().asin()
    }

    /// The round trip to expect between here and `other`, in milliseconds: the light's in fibre, one and a half
    /// times for the detours of cables and routes, plus 5 ms for access networks.
    pub fn expected_rtt_ms(self, other: Self) -> f64 {
        self.distance_km(other) * FIBRE_MS_PER_KM * DETOUR + ACCESS_MS
    }
}

/// Where network prefixes are: an address-to-region table that the operator supplies. Empty by default.
#[derive(Debug, Clone, Default)]
pub struct Places {
    by_prefix: HashMap<IpNet, Place>,
    /// Prefix lengths that occur, the longest first, so that a lookup tries no other.
    v4_lengths: Vec<u8>,
    v6_lengths: Vec<u8>,
}

/// A line of the table that says no place.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("line {line} of the address-to-region table: expected `CIDR,latitude,longitude` and not {found:?}")]
pub struct PlacesError {
    /// Counted from 1.
    line: usize,
    found: String,
}

impl Places {
    /// Reads lines of `CIDR,latitude,longitude`, for example `203.0.113.0/24,8.98,-79.52`. Empty lines and lines that
    /// begin with `#` are skipped; of two lines for one prefix the last counts.
    pub fn from_csv(text: &str) -> Result<Self, PlacesError> {
        let mut places = Self::default();
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let found = || line.chars().take(80).collect();
            let (prefix, place) = parse_line(line).ok_or_else(|| PlacesError { line: index + 1, found: found() })?;
            places.by_prefix.insert(prefix, place);
        }
        for prefix in places.by_prefix.keys() {
            let lengths = if prefix.addr().is_ipv4() { &mut places.v4_lengths } else { &mut places.v6_lengths };
            lengths.push(prefix.prefix_len());
        }
        for lengths in [&mut places.v4_lengths, &mut places.v6_lengths] {
            lengths.sort_unstable_by(|a, b| b.cmp(a));
            lengths.dedup();
        }
        Ok(places)
    }

    /// The place of the longest prefix that holds `address`.
    pub fn locate(&self, address: IpAddr) -> Option<Place> {
        let address = address.to_canonical();
        let lengths = if address.is_ipv4() { &self.v4_lengths } else { &self.v6_lengths };
        lengths.iter().find_map(|length| {
            let prefix = IpNet::new(address, *length).ok()?.trunc();
            self.by_prefix.get(&prefix).copied()
        })
    }
}

fn parse_line(line: &str) -> Option<(IpNet, Place)> {
    let mut fields = line.split(',');
    let prefix: IpNet = fields.next()?.trim().parse().ok()?;
    let place = Place::parse(fields.next()?, fields.next()?)?;
    fields.next().is_none().then_some((prefix.trunc(), place))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn place(latitude: f64, longitude: f64) -> Place {
        Place::new(latitude, longitude).expect("on Earth")
    }

    #[test]
    fn expects_what_was_measured_between_the_first_three_pops_within_a_fifth() {
        let (panama, singapore, zurich) = (place(8.98, -79.52), place(1.35, 103.82), place(47.37, 8.54));
        for (from, to, measured_ms) in [(panama, zurich, 140.0), (zurich, singapore, 170.0), (panama, singapore, 250.0)]
        {
            let expected = from.expected_rtt_ms(to);
            assert!((expected / measured_ms - 1.0).abs() < 0.2, "{expected} for {measured_ms} ms");
        }
    }

    #[test]
    fn the_longest_prefix_says_where_an_address_is() {
        let table = "# comment\n203.0.0.0/8,47.0,8.0\n\n203.0.113.0/24, 8.98, -79.52\n2001:db8::/32,1.35,103.8\n";
        let places = Places::from_csv(table).expect("well formed");
        let locate = |address: &str| places.locate(address.parse().expect("an address"));
        assert_eq!(locate("203.0.113.9"), Some(place(8.98, -79.52)));
        assert_eq!(locate("::ffff:203.0.113.9"), Some(place(8.98, -79.52)), "an IPv4 address in IPv6 clothes");
        assert_eq!(locate("203.9.9.9"), Some(place(47.0, 8.0)));
        assert_eq!(locate("2001:db8:1::1"), Some(place(1.35, 103.8)));
        assert_eq!(locate("192.0.2.1"), None);
        assert_eq!(Places::default().locate([192, 0, 2, 1].into()), None);
    }

    #[test]
    fn a_bad_line_is_named() {
        for bad in ["x", "10.0.0.0/8,91,0", "10.0.0.0/40,1,1", "10.0.0.0/8,1", "10.0.0.0/8,1,1,1", "10.0.0.0/8,nan,1"] {
            let error = Places::from_csv(&format!("10.0.0.0/8,1,1\n{bad}")).expect_err(bad);
            assert_eq!(error.line, 2, "{bad}");
        }
    }

    proptest! {
        #[test]
        fn a_distance_is_the_same_both_ways_and_at_most_half_the_earth_around(
            a in (-90.0..=90.0f64, -180.0..=180.0f64), b in (-90.0..=90.0f64, -180.0..=180.0f64),
        ) {
            let (a, b) = (place(a.0, a.1), place(b.0, b.1));
            let there = a.distance_km(b);
            prop_assert!((there - b.distance_km(a)).abs() < 1e-6);
            prop_assert!((0.0..=EARTH_RADIUS_KM * std::f64::consts::PI + 1e-6).contains(&there));
        }
    }
}
