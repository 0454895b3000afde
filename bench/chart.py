"""The ratios as a picture: one bar per case and target, its spread over the rounds, and the budget as a line. Pure."""

from collections.abc import Sequence
from xml.sax.saxutils import escape

from bench.report import Ratio

LABEL_PX = 330
PLOT_PX = 460
ROW_PX = 26
BAR_PX = 14
TOP_PX = 56
FOOT_PX = 40
SCALE_MIN = 2.5
"""The axis reaches at least so far, so that a good result does not look like a bad one."""
SCALE_MAX = 12.0
"""Beyond it bars are cut and say their number: a slow peer must not flatten all others."""

FINE, OVER, PLAIN, INK, FAINT = "#2f7d5b", "#b3402e", "#5b7289", "#222222", "#cccccc"


def svg(ratios: Sequence[Ratio], caption: str) -> str:
    """`caption` says when, where and how often it was measured."""
    most = max((max(ratio.values) for ratio in ratios), default=1.0)
    scale = min(SCALE_MAX, max(SCALE_MIN, most * 1.05))
    width, height = LABEL_PX + PLOT_PX + 90, TOP_PX + ROW_PX * len(ratios) + FOOT_PX
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{width}" height="{height}" viewBox="0 0 {width} {height}"'
        ' font-family="sans-serif" font-size="12">',
        f'<rect width="{width}" height="{height}" fill="white"/>',
        _text(12, 22, "CPU time against a bare relay on the same stack (1 = the relay)", size=15),
        _text(12, 40, caption, fill=PLAIN),
        *_grid(scale, height),
        *(part for row, ratio in enumerate(ratios) for part in _row(row, ratio, scale)),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _x(value: float, scale: float) -> float:
    return LABEL_PX + PLOT_PX * min(value, scale) / scale


def _grid(scale: float, height: int) -> list[str]:
    step = 0.5 if scale <= 4 else 1.0
    parts: list[str] = []
    for number in range(int(scale / step) + 1):
        x = _x(number * step, scale)
        parts.append(_line(x, TOP_PX - 6, x, height - FOOT_PX + 4, FAINT if number * step != 1 else INK))
        parts.append(_text(x, height - FOOT_PX + 20, f"{number * step:g}", anchor="middle"))
    return parts


def _row(row: int, ratio: Ratio, scale: float) -> list[str]:
    top = TOP_PX + row * ROW_PX
    middle = top + BAR_PX / 2
    colour = PLAIN if not ratio.budget else OVER if ratio.over else FINE
    low, high = _x(min(ratio.values), scale), _x(max(ratio.values), scale)
    end = _x(ratio.median, scale)
    parts = [
        _text(LABEL_PX - 10, top + BAR_PX - 2, f"{ratio.title}, {ratio.target}", anchor="end"),
        f'<rect x="{LABEL_PX}" y="{top}" width="{end - LABEL_PX:.1f}" height="{BAR_PX}" fill="{colour}"/>',
        _line(low, middle, high, middle, INK),
        _line(low, middle - 4, low, middle + 4, INK),
        _line(high, middle - 4, high, middle + 4, INK),
        _text(max(end, high) + 8, top + BAR_PX - 2, f"{ratio.median:.2f}", fill=colour),
    ]
    if ratio.budget:
        budget = _x(ratio.budget, scale)
        parts.append(_line(budget, top - 4, budget, top + BAR_PX + 4, INK, width=3))
    return parts


def _line(x1: float, y1: float, x2: float, y2: float, colour: str, *, width: int = 1) -> str:
    return f'<line x1="{x1:.1f}" y1="{y1:.1f}" x2="{x2:.1f}" y2="{y2:.1f}" stroke="{colour}" stroke-width="{width}"/>'


def _text(x: float, y: float, text: str, *, anchor: str = "start", fill: str = INK, size: int = 12) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{fill}" font-size="{size}">{escape(text)}</text>'
    )
