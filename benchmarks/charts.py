"""Charts as SVG, plain enough to be read on a light and on a dark page."""

from collections.abc import Mapping, Sequence
from html import escape
from itertools import cycle

COLOURS = ["#2f81d7", "#d2691e", "#2e9e5b", "#b0439c", "#8a8a00", "#7a7f87"]
STYLE = (
    "text{font:12px system-ui,sans-serif;fill:#24292f}.title{font-weight:600;font-size:14px}"
    ".axis{stroke:#8b949e;stroke-width:1}"
    "@media(prefers-color-scheme:dark){text{fill:#e6edf3}}"
)
WIDTH, LABELS, ROW = 760, 300, 22
LEFT, TOP, HEIGHT = 60, 40, 240


def _svg(height: int, parts: Sequence[str]) -> str:
    size = f'viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" height="{height}"'
    return "\n".join(
        [f'<svg xmlns="http://www.w3.org/2000/svg" {size}>', f"<style>{STYLE}</style>", *parts, "</svg>\n"]
    )


def _text(x: float, y: float, words: str, extra: str = "") -> str:
    return f'<text x="{x:.0f}" y="{y:.0f}"{extra}>{escape(words)}</text>'


def number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def bars(title: str, values: Sequence[tuple[str, float]]) -> str:
    """Return horizontal bars, one for each name, with its value behind it."""
    maximum = max((value for _, value in values), default=0) or 1
    room = WIDTH - LABELS - 80
    parts = [_text(10, 20, title, ' class="title"')]
    for row, (name, value) in enumerate(values):
        y = TOP + row * ROW
        length = max(value, 0) / maximum * room
        colour = COLOURS[0] if name.startswith("Convo") else COLOURS[-1]
        parts += [
            _text(LABELS - 8, y + 12, name, ' text-anchor="end"'),
            f'<rect x="{LABELS}" y="{y}" width="{max(length, 1):.1f}" height="16" rx="2" fill="{colour}"/>',
            _text(LABELS + length + 6, y + 12, number(value)),
        ]
    return _svg(TOP + len(values) * ROW + 10, parts)


def lines(title: str, x_label: str, x: Sequence[float], series: Mapping[str, Sequence[float]]) -> str:
    """Return a line for each name, each as a share of its own highest value, which the legend tells.

    So memory, latency and counts share one chart: the question is whether any of them rises.
    """
    begin, end = (min(x), max(x)) if x else (0, 1)
    width = WIDTH - LEFT - 20
    parts = [_text(10, 20, title, ' class="title"')]
    bottom = TOP + HEIGHT
    parts.append(f'<path class="axis" fill="none" d="M{LEFT} {TOP}V{bottom}H{LEFT + width}"/>')
    parts += [
        _text(LEFT - 8, TOP + 5, "100 %", ' text-anchor="end"'),
        _text(LEFT, bottom + 18, number(begin)),
    ]
    parts.append(_text(LEFT + width, bottom + 18, f"{number(end)} {x_label}", ' text-anchor="end"'))
    for place, ((name, values), colour) in enumerate(zip(series.items(), cycle(COLOURS), strict=False)):
        maximum = max(values, default=0) or 1
        points = " ".join(
            f"{LEFT + (at - begin) / (end - begin or 1) * width:.1f},{bottom - value / maximum * HEIGHT:.1f}"
            for at, value in zip(x, values, strict=True)
        )
        y = bottom + 40 + place * 18
        parts += [
            f'<polyline fill="none" stroke="{colour}" stroke-width="1.5" points="{points}"/>',
            f'<rect x="{LEFT}" y="{y - 9}" width="10" height="10" fill="{colour}"/>',
            _text(LEFT + 16, y, f"{name}: at most {number(maximum)}, at the end {number(values[-1])}"),
        ]
    return _svg(bottom + 50 + len(series) * 18, parts)
