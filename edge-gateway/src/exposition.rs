//! Several expositions of the Prometheus text format (0.0.4) as one.
//!
//! A PoP is scraped through its door: the door's own metrics and those of each media node in one answer. The format
//! wants all samples of a metric family in one group under one `TYPE` line, so putting texts end to end would not do.

use std::collections::BTreeMap;

/// One metric family: what is said of it once, and its samples from every source.
#[derive(Default)]
struct Family<'a> {
    help: Option<&'a str>,
    kind: Option<&'a str>,
    samples: Vec<&'a str>,
}

/// Merges expositions by family. Help and type are those of the first source that has them; lines that are neither
/// samples nor known comments are left out.
pub(crate) fn merge<'a>(texts: impl IntoIterator<Item = &'a str>) -> String {
    let mut families: BTreeMap<&str, Family<'_>> = BTreeMap::new();
    for text in texts {
        let mut current = "";
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty()) {
            if let Some(comment) = line.strip_prefix('#') {
                let mut words = comment.trim_start().splitn(3, ' ');
                let (keyword, name) = (words.next().unwrap_or_default(), words.next().unwrap_or_default());
                let rest = words.next().unwrap_or_default();
                if !is_name(name) {
                    continue;
                }
                match keyword {
                    "HELP" => families.entry(name).or_default().help.get_or_insert(rest),
                    "TYPE" => families.entry(name).or_default().kind.get_or_insert(rest),
                    _ => continue,
                };
                current = name;
            } else if let Some(name) = sample_name(line) {
                let kind = families.get(current).and_then(|family| family.kind);
                let family = if belongs(name, current, kind) { current } else { name };
                families.entry(family).or_default().samples.push(line);
            }
        }
    }
    write(&families)
}

fn write(families: &BTreeMap<&str, Family<'_>>) -> String {
    let mut out = String::new();
    for (name, family) in families.iter().filter(|(_, family)| !family.samples.is_empty()) {
        for (keyword, value) in [("HELP", family.help), ("TYPE", family.kind)] {
            if let Some(value) = value {
                out.extend(["# ", keyword, " ", name, " ", value, "\n"]);
            }
        }
        for sample in &family.samples {
            out.extend([sample, "\n"]);
        }
    }
    out
}

/// The metric's name, if the line is a sample: a name, perhaps labels, a value.
fn sample_name(line: &str) -> Option<&str> {
    let end = line.find(|c: char| c == '{' || c.is_ascii_whitespace())?;
    let name = line.get(..end)?;
    is_name(name).then_some(name)
}

fn is_name(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'_' || b == b':')
}

/// Whether a sample is one of the family's: of its name, or of a part that histograms and summaries have.
fn belongs(sample: &str, family: &str, kind: Option<&str>) -> bool {
    match sample.strip_prefix(family) {
        Some("") => true,
        Some("_sum" | "_count") => matches!(kind, Some("histogram" | "summary")),
        Some("_bucket") => kind == Some("histogram"),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const DOOR: &str = "# HELP up Whether it runs\n# TYPE up gauge\nup{node=\"door\"} 1\n# TYPE wait histogram\nwait_bucket{node=\"door\",le=\"+Inf\"} 2\nwait_sum{node=\"door\"} 3\nwait_count{node=\"door\"} 2\n";
    const NODE: &str = "# HELP up Another wording\n# TYPE up gauge\nup{node=\"sfu\"} 1\n# TYPE wait histogram\nwait_bucket{node=\"sfu\",le=\"+Inf\"} 5\nwait_sum{node=\"sfu\"} 8\nwait_count{node=\"sfu\"} 5\n# TYPE drops_total counter\ndrops_total{node=\"sfu\",reason=\"a # b\"} 9\n";

    #[test]
    fn each_family_stands_once_with_the_samples_of_all() {
        let merged = merge([DOOR, NODE]);
        assert_eq!(merged.matches("# TYPE up gauge").count(), 1);
        assert_eq!(merged.matches("# TYPE wait histogram").count(), 1);
        assert!(merged.contains("# TYPE up gauge\nup{node=\"door\"} 1\nup{node=\"sfu\"} 1\n"), "{merged}");
        let wait = merged.split("# TYPE wait histogram\n").nth(1).expect("there");
        assert_eq!(wait.lines().take_while(|line| line.starts_with("wait_")).count(), 6, "{merged}");
        assert!(merged.contains("drops_total{node=\"sfu\",reason=\"a # b\"} 9\n"));
    }

    #[test]
    fn a_counter_that_ends_like_a_histograms_part_is_a_family_of_its_own() {
        let merged = merge(["# TYPE wait counter\nwait 1\nwait_count 2\n", "# TYPE wait counter\nwait 3\n"]);
        assert_eq!(merged, "# TYPE wait counter\nwait 1\nwait 3\nwait_count 2\n");
    }

    #[test]
    fn merging_is_stable() {
        let once = merge([DOOR, NODE]);
        assert_eq!(merge([once.as_str()]), once);
    }

    #[test]
    fn rubbish_from_a_node_does_not_reach_the_scraper() {
        assert_eq!(merge(["<html>\n", "# TYPE a\u{e9} gauge\n", "\n\n", "up 1\n"]), "up 1\n");
    }

    proptest! {
        #[test]
        fn any_text_is_merged_without_panic(a in any::<String>(), b in "(# TYPE |# HELP |a|b_sum|\\{|\\}| 1|\n){0,40}") {
            let once = merge([a.as_str(), b.as_str()]);
            prop_assert_eq!(merge([once.as_str()]), once.clone());
        }
    }
}
