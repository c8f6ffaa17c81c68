//! A run's report as one HTML page: no script, nothing from elsewhere, light or dark as the reader has it.

use std::{
    fmt::Write as _,
    time::{Duration, UNIX_EPOCH},
};

use super::{
    chart::{Line, Spread, escape, lines, short, spreads},
    figures::{Distribution, Figures},
    report::{RunReport, Sample, Verdict},
};

/// The fields of [`Distribution`], as columns.
const SPREAD: [&str; 7] = ["count", "min", "p5", "p50", "p95", "p99", "max"];
const STYLE: &str = include_str!("page.css");

/// The page.
pub fn page(report: &RunReport) -> String {
    let title = escape(&format!("Load test of {}: {}", report.target, report.scenario));
    let mut html = format!(
        "<!doctype html><html lang=\"en\"><meta charset=\"utf-8\"><meta name=\"viewport\" content=\"width=device-width, \
         initial-scale=1\"><title>{title}</title><style>{STYLE}</style><body>"
    );
    head(&mut html, report);
    tiles(&mut html, &report.figures);
    thresholds(&mut html, report);
    course(&mut html, &report.seconds);
    joining(&mut html, &report.figures);
    failures(&mut html, report);
    all_figures(&mut html, report);
    html + "</body></html>\n"
}

fn head(html: &mut String, report: &RunReport) {
    let (class, verdict) = match report.verdict {
        Verdict::Passed => ("good", "Passed"),
        Verdict::ThresholdCrossed => ("bad", "A threshold was crossed"),
        Verdict::Failed => ("bad", "The run failed"),
    };
    let named: Vec<_> = report.pops.iter().map(ToString::to_string).collect();
    let pops = if named.is_empty() { "the nearest PoP of each client".to_owned() } else { named.join(", ") };
    let _ = write!(
        html,
        "<header><span class=\"verdict {class}\">{verdict}</span><h1>{}</h1><p class=\"soft\">{} by {}. It ran {} of {} s. Seed {}, \
         rooms lt-{}-…, started {}.</p>",
        escape(&report.scenario),
        escape(&report.target),
        escape(&pops),
        short(report.ran_s),
        short(report.planned_s),
        report.seed,
        escape(&report.run),
        httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(report.started_unix_s))
    );
    list(html, "reasons", report.reasons.iter());
    *html += "</header>";
}

fn list<'a>(html: &mut String, class: &str, items: impl Iterator<Item = &'a String>) {
    let items: Vec<_> = items.map(|item| format!("<li>{}</li>", escape(item))).collect();
    if !items.is_empty() {
        let _ = write!(html, "<ul class=\"{class}\">{}</ul>", items.concat());
    }
}

fn tiles(html: &mut String, figures: &Figures) {
    let or_dash =
        |value: Option<f64>, unit: &str| value.map_or("–".into(), |value| format!("{} {unit}", short(value)));
    let percent = |share: Option<f64>| or_dash(share.map(|share| share * 100.0), "%");
    let tiles = [
        (
            figures.joins.joined.to_string(),
            format!("joined; {} failed, {} ended early", figures.joins.failed, figures.joins.ended_early),
        ),
        (figures.joins.most_at_once.to_string(), "in their calls at once".into()),
        (or_dash(figures.join_ms.p95, "ms"), "to join, 19 in 20 clients".into()),
        (percent(figures.loss.share), "of packets lost".into()),
        (or_dash(figures.voice_delay_ms.p99, "ms"), "under way, 99 in 100 packets of speech".into()),
        (or_dash(figures.voice_mos.p5, "MOS"), "of voices by the E-model, 19 in 20 are better".into()),
        (or_dash(figures.frames_per_second.p50, "/s"), "pictures shown, median slot".into()),
        (or_dash(figures.server.cpu_us_per_packet, "µs"), "of the target's CPU per packet sent".into()),
        (or_dash(figures.server.memory_kib_per_participant, "KiB"), "of the target's memory per participant".into()),
    ];
    *html += "<div class=\"tiles\">";
    for (value, what) in tiles {
        let _ = write!(html, "<div class=\"tile\"><b>{}</b><span>{}</span></div>", escape(&value), escape(&what));
    }
    *html += "</div>";
}

fn thresholds(html: &mut String, report: &RunReport) {
    if report.thresholds.is_empty() {
        *html += "<h2>Thresholds</h2><p class=\"soft\">None were set: the run could only fail by itself.</p>";
        return;
    }
    *html += "<h2>Thresholds</h2><div class=\"wide\"><table><tr><th>must hold</th><th class=\"n\">measured</th><th></th></tr>";
    for judged in &report.thresholds {
        let value = judged.value.map_or("not measured".into(), short);
        let (class, held) = if judged.held { ("good", "held") } else { ("bad", "crossed") };
        let _ = write!(
            html,
            "<tr><td><code>{}</code></td><td class=\"n\">{value}</td><td class=\"{class}\">{held}</td></tr>",
            escape(&judged.threshold)
        );
    }
    *html += "</table></div>";
}

/// A chart's title, unit and lines: a name and what it shows of a second.
type Course<'a> = (&'a str, &'a str, &'a [(&'a str, fn(&Sample) -> Option<f64>)]);

fn course(html: &mut String, seconds: &[Sample]) {
    let charts: [Course<'_>; 6] = [
        ("Clients in their calls", "clients", &[("in calls", |second| Some(second.in_call as f64))]),
        (
            "Joins",
            "a second",
            &[("joined", |second| Some(second.joined as f64)), ("failed", |second| Some(second.failed as f64))],
        ),
        (
            "Packets",
            "packets/s",
            &[
                ("received", |second| Some(second.received_packets_per_second)),
                ("sent", |second| Some(second.sent_packets_per_second)),
            ],
        ),
        ("Packets lost", "packets/s", &[("lost", |second| Some(second.lost_packets_per_second))]),
        (
            "CPU",
            "cores",
            &[("load generator", |second| Some(second.generator_cores)), ("target", |second| second.server_cores)],
        ),
        ("Latest timer of the load generator", "ms", &[("late", |second| Some(second.timer_late_ms))]),
    ];
    *html += "<h2>Course of the run</h2><div class=\"charts\">";
    for (title, unit, shown) in charts {
        let line = |(name, of): &(&'static str, fn(&Sample) -> Option<f64>)| {
            let points = seconds.iter().filter_map(|second| Some((second.at_s, of(second)?))).collect();
            Line { name, points }
        };
        let drawn: Vec<_> = shown.iter().map(line).filter(|line| !line.points.is_empty()).collect();
        let keys: Vec<_> = drawn
            .iter()
            .enumerate()
            .filter(|_| drawn.len() > 1)
            .map(|(number, line)| format!("<span class=\"key k{number}\">{}</span>", line.name))
            .collect();
        let chart = lines(unit, &drawn);
        let _ = write!(
            html,
            "<figure class=\"chart\"><figcaption><h3>{title}</h3><span class=\"soft\">{unit}</span>{}</figcaption>{chart}</figure>",
            keys.concat()
        );
    }
    *html += "</div>";
}

fn joining(html: &mut String, figures: &Figures) {
    let phases = &figures.phases;
    let joined = [
        ("PoPs probed", phases.pops_ms),
        ("token", phases.token_ms),
        ("signalling open", phases.socket_ms),
        ("welcome", phases.welcome_ms),
        ("answer", phases.answer_ms),
        ("ICE", phases.ice_ms),
        ("DTLS: joined", figures.join_ms),
    ];
    let media = [("first packet", figures.first_packet_ms), ("first picture", figures.first_frame_ms)];
    let jitter = [
        ("voice under way", figures.voice_delay_ms),
        ("picture under way", figures.picture_delay_ms),
        ("jitter of sound", figures.audio_jitter_ms),
        ("jitter of pictures", figures.video_jitter_ms),
    ];
    *html += "<h2>How it spreads</h2><p class=\"soft\">Bars go from the 5th to the 95th percentile, the mark is the median, the thin line \
              ends at the 99th.</p><div class=\"charts\">";
    for (title, rows) in [
        ("From the first request to", &joined[..]),
        ("From the first request to media", &media[..]),
        ("While receiving", &jitter[..]),
    ] {
        let spread = |(name, of): &(&'static str, Distribution)| {
            Some(Spread { name, quantiles: [of.p5?, of.p50?, of.p95?, of.p99?] })
        };
        let rows: Vec<_> = rows.iter().filter_map(spread).collect();
        if rows.is_empty() {
            continue;
        }
        let chart = spreads("ms", &rows);
        let _ = write!(
            html,
            "<figure class=\"chart\"><figcaption><h3>{title}</h3><span class=\"soft\">ms</span></figcaption>{chart}</figure>"
        );
    }
    *html += "</div>";
}

fn failures(html: &mut String, report: &RunReport) {
    if report.failures.is_empty() {
        return;
    }
    *html +=
        "<h2>What clients ran into</h2><div class=\"wide\"><table><tr><th class=\"n\">times</th><th>reason</th></tr>";
    for failure in &report.failures {
        let _ = write!(html, "<tr><td class=\"n\">{}</td><td>{}</td></tr>", failure.count, escape(&failure.reason));
    }
    *html += "</table></div>";
}

fn all_figures(html: &mut String, report: &RunReport) {
    *html += "<h2>All figures</h2><p class=\"soft\">By the names that thresholds use. A dash was not measured.</p>";
    list(html, "soft", report.not_measured.iter());
    let figures = report.figures.by_name();
    let cell = |value: Option<f64>| format!("<td class=\"n\">{}</td>", value.map_or("–".into(), short));
    let spreads: Vec<&str> = figures.keys().filter_map(|name| name.strip_suffix(".p50")).collect();
    let heads = SPREAD.map(|column| format!("<th class=\"n\">{column}</th>")).concat();
    let _ = write!(html, "<div class=\"wide\"><table><tr><th></th>{heads}</tr>");
    for group in &spreads {
        let of = |column: &&str| cell(figures.get(&format!("{group}.{column}")).copied().flatten());
        let cells: String = SPREAD.iter().map(of).collect();
        let _ = write!(html, "<tr><td><code>{group}</code></td>{cells}</tr>");
    }
    *html += "</table></div><div class=\"columns\"><table>";
    let spread = |name: &str| name.rsplit_once('.').is_some_and(|(group, _)| spreads.contains(&group));
    for (name, value) in figures.iter().filter(|(name, _)| !spread(name)) {
        let _ = write!(html, "<tr><td><code>{}</code></td>{}</tr>", escape(name), cell(*value));
    }
    *html += "</table></div>";
}
