"""Draws what carrying one camera costs over the number of receivers, from the figures of
`loadtest bench --loads camera --receivers 10,20,50,100,200,500,1000 --media even --carriers floor,isthmus --json FILE`:

    evidence/python.sh evidence/media/curves.py FILE docs/bench/curves.svg"""

import json
import math
import sys
from dataclasses import dataclass
from pathlib import Path

WIDTH, HEIGHT, MARGIN = 330, 220, 48
"""Of one chart, in pixels."""

STYLE = """
text { font: 11px system-ui, sans-serif; fill: #333 } .title { font-weight: 600; font-size: 12px } .axis { stroke: #999 }
.grid { stroke: #ddd } path { fill: none; stroke-width: 2 } .c0 { stroke: #2563eb } .c1 { stroke: #d97706 } .c2 { stroke: #6b7280 }
.d0 { fill: #2563eb } .d1 { fill: #d97706 } .d2 { fill: #6b7280 }
@media (prefers-color-scheme: dark) { text { fill: #ddd } .grid { stroke: #444 } .axis { stroke: #888 } svg { background: #111 } }
"""


@dataclass(frozen=True)
class Curve:
    """One carrier's figure over receivers."""

    name: str
    points: list[tuple[int, float]]


@dataclass(frozen=True)
class Chart:
    """Curves with one unit."""

    title: str
    curves: list[Curve]


def curve(outcomes: list[dict], name: str, carrier: str, figure: str) -> Curve:
    """The figure of a carrier; runs that do not count are left out."""
    counted = [o for o in outcomes if o["carrier"] == carrier and not o["failures"] and figure in o["figures"]]
    return Curve(name, sorted((o["receivers"], o["figures"][figure]) for o in counted))


def charts(outcomes: list[dict]) -> list[Chart]:
    """What is drawn."""
    cost = [
        curve(outcomes, "Isthmus", "isthmus", "cpu_us_per_packet"),
        curve(outcomes, "floor, sendto", "floor_sendto", "cpu_us_per_packet"),
        curve(outcomes, "floor, GSO", "floor_gso", "cpu_us_per_packet"),
    ]
    delay = [
        curve(outcomes, "99 in 100", "isthmus", "forward_delay_p99_ms"),
        curve(outcomes, "half", "isthmus", "forward_delay_p50_ms"),
    ]
    memory = [curve(outcomes, "Isthmus", "isthmus", "memory_kib_per_participant")]
    return [
        Chart("CPU per forwarded packet, µs", cost),
        Chart("socket to socket, ms", delay),
        Chart("resident memory per participant, KiB", memory),
    ]


def round_step(least: float) -> float:
    """The least of 1, 2, 2.5, 5 times a power of ten that is not below."""
    power = 10 ** math.floor(math.log10(least))
    return next(step for factor in (1, 2, 2.5, 5, 10) if (step := factor * power) >= least)


def drawn(chart: Chart, left: int) -> str:
    """The chart as SVG, its left edge at `left`; receivers on a logarithmic axis."""
    points = [point for curve in chart.curves for point in curve.points]
    if not points:
        return ""
    numbers = sorted({n for n, _ in points})
    low, high = math.log(numbers[0]), math.log(numbers[-1])
    top = 4 * round_step(max(value for _, value in points) / 4)

    def x(receivers: int) -> float:
        return left + MARGIN + (math.log(receivers) - low) / ((high - low) or 1) * (WIDTH - MARGIN - 12)

    def y(value: float) -> float:
        return HEIGHT - 36 - value / top * (HEIGHT - 36 - 44)

    parts = [f'<text class="title" x="{left + 8}" y="16">{chart.title}</text>']
    for step in range(5):
        value = top * step / 4
        parts.append(f'<line class="grid" x1="{x(numbers[0]):.1f}" x2="{x(numbers[-1]):.1f}" y1="{y(value):.1f}" y2="{y(value):.1f}"/>')
        parts.append(f'<text x="{left + MARGIN - 6}" y="{y(value) + 4:.1f}" text-anchor="end">{value:.3g}</text>')
    for n in numbers:
        parts.append(f'<text x="{x(n):.1f}" y="{HEIGHT - 20}" text-anchor="middle">{n}</text>')
    parts.append(f'<text x="{left + WIDTH / 2}" y="{HEIGHT - 4}" text-anchor="middle">receivers</text>')
    for index, curve in enumerate(chart.curves):
        line = " L ".join(f"{x(n):.1f} {y(value):.1f}" for n, value in curve.points)
        parts.append(f'<path class="c{index}" d="M {line}"/>' if curve.points else "")
        parts += [f'<circle class="d{index}" cx="{x(n):.1f}" cy="{y(value):.1f}" r="3"/>' for n, value in curve.points]
        parts.append(f'<rect class="d{index}" x="{left + MARGIN + 90 * index}" y="24" width="9" height="9"/>')
        parts.append(f'<text x="{left + MARGIN + 90 * index + 13}" y="32">{curve.name}</text>')
    return "\n".join(parts)


def main() -> None:
    """Reads the figures and writes the picture."""
    source, target = (Path(argument) for argument in sys.argv[1:3])
    outcomes = json.loads(source.read_text())["outcomes"]
    all_charts = charts(outcomes)
    body = "\n".join(drawn(chart, WIDTH * index) for index, chart in enumerate(all_charts))
    size = f'width="{WIDTH * len(all_charts)}" height="{HEIGHT}"'
    target.write_text(f'<svg xmlns="http://www.w3.org/2000/svg" {size} role="img"><style>{STYLE}</style>\n{body}\n</svg>\n')
    print(f"{sum(len(c.points) for chart in all_charts for c in chart.curves)} points in {target}")


if __name__ == "__main__":
    main()
