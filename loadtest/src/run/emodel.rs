//! How good a voice sounds by the E-model (ITU-T G.107): from loss and delay to a mean opinion score.
//!
//! All of G.107's other parameters have their default values (clause 7.7), with which the model begins at R = 93.2. Opus is not
//! in ITU-T G.113: G.711 with concealment stands in for it (Appendix I, provisional planning values: Ie = 0, Bpl = 25.1 for random
//! loss). So scores compare runs and networks, they do not credit Opus for its wide band, and 4.41 is the best there is.
//!
//! How sure that is: the recommendations' own text was not at hand. The clauses of G.107 (12/2011) are as its table of contents
//! names them (7.4 delay, 7.5 equipment, 7.7 default values, Annex B the score). 93.2, Ie = 0 with Bpl = 25.1 (G.711 with
//! concealment; 4.3 without), 95 and the cubic of Annex B stand alike in ten public implementations that do not copy each other,
//! two of which cite G.113 Appendix I for them. Of the two forms of the delay's impairment that are about, the one here is G.107's
//! own; the other (0.024 a millisecond and 0.11 beyond 177.3 ms) is a fit of it. Equation numbers are from memory.

use std::time::Duration;

/// R with all default values and neither loss nor delay (G.107 clause 7.7).
const BEST_R: f64 = 93.2;
/// G.113 Appendix I, G.711 with packet loss concealment, random loss.
const IE: f64 = 0.0;
const BPL: f64 = 25.1;

/// The mean opinion score, 1 to 4.5, of a voice of which this share (0 to 1) is lost and which is this late, mouth to ear.
pub fn mos(loss: f64, delay: Duration) -> f64 {
    score(BEST_R - delay_impairment(delay) - loss_impairment(loss))
}

/// Ie,eff for random loss (G.107 clause 7.5, equation 7-29 with `BurstR` = 1).
fn loss_impairment(loss: f64) -> f64 {
    let percent = loss * 100.0;
    IE + (95.0 - IE) * percent / (percent + BPL)
}

/// Idd (G.107 clause 7.4, equations 7-27 and 7-28). Echo is left out: browsers cancel it.
fn delay_impairment(delay: Duration) -> f64 {
    let ms = delay.as_secs_f64() * 1e3;
    if ms <= 100.0 {
        return 0.0;
    }
    let x = (ms / 100.0).log2();
    let sixth = |value: f64| (1.0 + value.powi(6)).powf(1.0 / 6.0);
    25.0 * (sixth(x) - 3.0 * sixth(x / 3.0) + 2.0)
}

/// From R to the score (G.107 Annex B). Its cubic falls below 1, the worst score there is, under R = 6.5.
fn score(r: f64) -> f64 {
    let r = r.clamp(0.0, 100.0);
    (1.0 + 0.035 * r + r * (r - 60.0) * (100.0 - r) * 7e-6).max(1.0)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn scores_are_those_of_g_107_annex_b() {
        // Table B.1, and the score of the default values.
        for (r, wanted) in [(93.2, 4.41), (90.0, 4.34), (80.0, 4.03), (70.0, 3.60), (60.0, 3.10), (50.0, 2.58)] {
            assert!((score(r) - wanted).abs() < 0.01, "R {r}: {}", score(r));
        }
        assert!((mos(0.0, Duration::from_millis(100)) - 4.41).abs() < 0.006);
    }

    #[test]
    fn loss_and_delay_cost_what_the_equations_say() {
        // 95 * 5 / 30.1, and 25 * (2^(1/6) - 3 * (1 + 3^-6)^(1/6) + 2) for X = 1.
        assert!((loss_impairment(0.05) - 15.78).abs() < 0.01);
        assert!((delay_impairment(Duration::from_millis(200)) - 3.04).abs() < 0.01);
    }

    proptest! {
        #[test]
        fn more_loss_and_more_delay_never_sound_better(loss in 0.0..1.0f64, more in 0.0..1.0f64, ms in 0u64..5000) {
            let delay = Duration::from_millis(ms);
            let (here, lossier) = (mos(loss, delay), mos((loss + more).min(1.0), delay));
            prop_assert!((1.0..=4.5).contains(&here) && lossier <= here + 1e-9);
            prop_assert!(mos(loss, delay * 2) <= here + 1e-9);
        }
    }
}
