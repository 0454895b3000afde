"""reliability.svg: per campaign the faults that were brought about against what was lost or came twice, and how long it
took until interrupted runs were driven again. Pure."""

from collections.abc import Sequence
from math import log10
from xml.sax.saxutils import escape

from tests.crash.report import Total, spread

WIDTH = 860
LABEL_PX = 300
PLOT_PX = 300
ROW_PX = 26
BAR_PX = 14
TOP_PX = 84
HISTOGRAM_PX = 150
GAP_PX = 70
BINS_S = (0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.8, 1.0, 1.5, 2.0, 3.0, 5.0, 10.0, 30.0)
"""Upper ends of the histogram's bins."""
FINE, BAD, PLAIN, INK, FAINT = "#2f7d5b", "#b3402e", "#5b7289", "#222222", "#dddddd"


def svg(totals: Sequence[Total], caption: str) -> str:
    """`caption` says when, where and how often."""
    rows = [row for row in totals if not row.skipped]
    below = TOP_PX + ROW_PX * len(rows)
    height = below + GAP_PX + HISTOGRAM_PX + 60
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{height}" viewBox="0 0 {WIDTH} {height}"'
        ' font-family="sans-serif" font-size="12">',
        f'<rect width="{WIDTH}" height="{height}" fill="white"/>',
        _text(12, 22, "Faults brought about, and what became of acknowledged turns", size=15),
        _text(12, 40, caption, fill=PLAIN),
        _text(LABEL_PX, 70, "kills, freezes and cuts (logarithmic)", fill=PLAIN),
        _text(LABEL_PX + PLOT_PX + 100, 70, "acknowledged", fill=PLAIN, anchor="end"),
        _text(LABEL_PX + PLOT_PX + 160, 70, "lost", fill=PLAIN, anchor="end"),
        _text(LABEL_PX + PLOT_PX + 220, 70, "twice", fill=PLAIN, anchor="end"),
        *(part for at, row in enumerate(rows) for part in _row(at, row, most=max(row.kills for row in rows))),
        *_histogram(rows, below + GAP_PX),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _row(at: int, row: Total, *, most: int) -> list[str]:
    top = TOP_PX + at * ROW_PX
    base = top + BAR_PX - 2
    width = PLOT_PX * log10(row.kills + 1) / log10(max(most, 9) + 1)
    return [
        _text(LABEL_PX - 10, base, f"{row.campaign} {row.title}, {row.engine}", anchor="end"),
        f'<rect x="{LABEL_PX}" y="{top}" width="{width:.1f}" height="{BAR_PX}" fill="{PLAIN}"/>',
        _text(LABEL_PX + width + 6, base, str(row.kills), fill=PLAIN),
        _text(LABEL_PX + PLOT_PX + 100, base, f"{row.acknowledged:,}", anchor="end"),
        _text(LABEL_PX + PLOT_PX + 160, base, str(row.lost), fill=BAD if row.lost else FINE, anchor="end"),
        _text(LABEL_PX + PLOT_PX + 220, base, str(row.duplicated), fill=BAD if row.duplicated else FINE, anchor="end"),
    ]


def _histogram(rows: Sequence[Total], top: int) -> list[str]:
    values = sorted(value for row in rows for value in row.takeovers_s)
    counts = [0] * len(BINS_S)
    for value in values:
        counts[next((at for at, end in enumerate(BINS_S) if value <= end), len(BINS_S) - 1)] += 1
    said = f"; median, 95th percentile, most: {spread(values)} s" if values else ""
    parts = [
        _text(12, top - 14, f"From a fault until an interrupted run was taken up again ({len(values)} runs{said})")
    ]
    step = (WIDTH - 80) / len(BINS_S)
    for at, count in enumerate(counts):
        x, high = 40 + at * step, HISTOGRAM_PX * count / max(*counts, 1)
        parts += [
            f'<rect x="{x:.1f}" y="{top + HISTOGRAM_PX - high:.1f}" width="{step - 4:.1f}" height="{high:.1f}"'
            f' fill="{FINE}"/>',
            _text(x + step / 2 - 2, top + HISTOGRAM_PX + 16, f"≤ {BINS_S[at]:g} s", anchor="middle", size=10),
        ]
        if count:
            where = top + HISTOGRAM_PX - high - 4
            parts.append(_text(x + step / 2 - 2, where, str(count), anchor="middle", size=10))
    line = top + HISTOGRAM_PX + 0.5
    return [*parts, f'<line x1="36" y1="{line}" x2="{WIDTH - 36}" y2="{line}" stroke="{FAINT}"/>']


def _text(x: float, y: float, text: str, *, anchor: str = "start", fill: str = INK, size: int = 12) -> str:
    return (
        f'<text x="{x:.1f}" y="{y:.1f}" text-anchor="{anchor}" fill="{fill}" font-size="{size}">{escape(text)}</text>'
    )
