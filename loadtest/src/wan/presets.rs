//! Scenarios that are built in.

use super::scenario::Scenario;

const PRESETS: [(&str, &str); 1] = [("three-pops", include_str!("../../scenarios/three-pops.toml"))];

/// The names of all presets.
pub fn names() -> impl Iterator<Item = &'static str> {
    PRESETS.iter().map(|(name, _)| *name)
}

/// The preset of that name.
///
/// # Panics
/// Never: a test reads every preset.
pub fn preset(name: &str) -> Option<Scenario> {
    let (name, text) = PRESETS.iter().find(|(known, _)| *known == name)?;
    Some(Scenario::parse(name, text).expect("a test reads every preset"))
}

#[cfg(test)]
mod tests {
    #[test]
    fn every_preset_is_good() {
        assert!(super::names().all(|name| super::preset(name).is_some()));
        assert!(super::preset("atlantis").is_none());
    }
}
