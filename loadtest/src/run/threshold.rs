//! What must hold of a run for it to pass: `join_ms.p95 <= 250`.

use std::{fmt, str::FromStr};

use super::figures::Figures;

/// An expression: a figure, a comparison, a number.
#[derive(Debug, Clone, PartialEq)]
pub struct Threshold {
    figure: String,
    comparison: Comparison,
    bound: f64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Comparison {
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    Equal,
    NotEqual,
}

/// Longer signs before those they begin with.
const COMPARISONS: [(&str, Comparison); 6] = [
    ("<=", Comparison::LessOrEqual),
    (">=", Comparison::GreaterOrEqual),
    ("==", Comparison::Equal),
    ("!=", Comparison::NotEqual),
    ("<", Comparison::Less),
    (">", Comparison::Greater),
];

/// What is wrong with an expression, and where.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("column {column}: {problem}")]
pub struct ThresholdError {
    /// From 1.
    pub column: usize,
    /// What is wrong and what would be right.
    pub problem: String,
}

impl Threshold {
    /// The name of the figure.
    pub fn figure(&self) -> &str {
        &self.figure
    }

    /// Whether it holds for the figure. What was not measured does not hold: nobody knows.
    pub fn holds(&self, value: Option<f64>) -> bool {
        let Some(value) = value else { return false };
        match self.comparison {
            Comparison::Less => value < self.bound,
            Comparison::LessOrEqual => value <= self.bound,
            Comparison::Greater => value > self.bound,
            Comparison::GreaterOrEqual => value >= self.bound,
            #[expect(clippy::float_cmp, reason = "it is for counts; who compares a mean with == means it")]
            Comparison::Equal => value == self.bound,
            #[expect(clippy::float_cmp, reason = "it is for counts; who compares a mean with != means it")]
            Comparison::NotEqual => value != self.bound,
        }
    }
}

impl fmt::Display for Threshold {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let sign =
            COMPARISONS.iter().find(|(_, comparison)| *comparison == self.comparison).map_or("", |(sign, _)| sign);
        write!(f, "{} {sign} {}", self.figure, self.bound)
    }
}

impl FromStr for Threshold {
    type Err = ThresholdError;

    fn from_str(text: &str) -> Result<Self, ThresholdError> {
        let column_of = |part: &str| text.len() - part.len() + 1;
        let error = |part: &str, problem: String| ThresholdError { column: column_of(part), problem };
        let start = text.trim_start();
        let end = start.find(|c: char| c.is_whitespace() || "<>=!".contains(c)).unwrap_or(start.len());
        let (figure, rest) = start.split_at(end);
        if !Figures::names().iter().any(|name| name == figure) {
            return Err(error(start, format!("no figure {figure:?}; there are {}", Figures::names_in_groups())));
        }
        let rest = rest.trim_start();
        let found = COMPARISONS.iter().find(|(sign, _)| rest.starts_with(sign));
        let Some((sign, comparison)) = found else {
            return Err(error(rest, "a comparison comes here: <=, >=, ==, !=, < or >".into()));
        };
        let number = rest[sign.len()..].trim_start();
        let bound = number.trim_end().parse::<f64>().ok().filter(|bound| bound.is_finite());
        let Some(bound) = bound else {
            return Err(error(
                number,
                format!("a number comes here, such as 250 or 0.01, not {:?}", number.trim_end()),
            ));
        };
        Ok(Self { figure: figure.into(), comparison: *comparison, bound })
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_threshold_compares_a_figure_with_a_number() {
        let threshold: Threshold = " join_ms.p95<= 250 ".parse().expect("good");
        assert_eq!((threshold.figure(), threshold.to_string().as_str()), ("join_ms.p95", "join_ms.p95 <= 250"));
        assert_eq!([Some(250.0), Some(250.1), None].map(|value| threshold.holds(value)), [true, false, false]);
        for (text, value, holds) in [
            ("loss.share < 0.01", 0.01, false),
            ("joins.failed == 0", 0.0, true),
            ("joins.joined != 0", 0.0, false),
            ("joins.joined > 5", 6.0, true),
            ("joins.joined >= 6", 6.0, true),
        ] {
            assert_eq!(text.parse::<Threshold>().map(|threshold| threshold.holds(Some(value))), Ok(holds), "{text}");
        }
    }

    #[test]
    fn errors_point_to_the_column_and_say_what_comes_there() {
        for (text, wanted) in [
            ("join.p95 <= 250", "column 1: no figure \"join.p95\"; there are audio_jitter_ms.{"),
            ("  ", "column 3: no figure \"\"; there are "),
            ("joins.failed = 0", "column 14: a comparison comes here: <=, "),
            ("joins.failed", "column 13: a comparison comes here: <=, "),
            ("joins.failed <= none", "column 17: a number comes here, such as 250 or 0.01, not \"none\""),
            ("joins.failed <= 1 2", "column 17: a number comes here, such as 250 or 0.01, not \"1 2\""),
            ("joins.failed < inf", "column 16: a number comes here"),
        ] {
            let error = text.parse::<Threshold>().expect_err(text).to_string();
            assert!(error.starts_with(wanted), "{error:?} does not begin with {wanted:?}");
        }
    }

    proptest! {
        #[test]
        fn no_text_panics(text in ".{0,60}") {
            let _ = text.parse::<Threshold>();
        }
    }
}
