"""The picture of a bench: a panel a case, a bar an entrant, each panel on its own linear scale.

Pure: results in, the text of an SVG out. Green-blue is the balancer, grey the others.
"""

from collections.abc import Sequence
from html import escape

from bench_report import Result

WIDTH, MARGIN, GAP = 980, 24, 28
PANELS_ACROSS = 2
PANEL = (WIDTH - 2 * MARGIN - GAP) // PANELS_ACROSS
NAMES = 142  # room for the entrants' names
NUMBERS = 128  # and for what stands behind a bar
BAR, STEP, HEAD, FOOT = 15, 21, 40, 18
OURS, OTHERS, INK, QUIET, PAPER = "#0b7285", "#adb5bd", "#212529", "#5c636a", "#ffffff"
LETTERS_A_LINE = 165


def picture(results: Sequence[Result], heading: str) -> str:
    """All results that have readings, in reading order, two side by side."""
    shown = [result for result in results if result.readings]
    top = MARGIN + 30
    parts: list[str] = []
    for first in range(0, len(shown), PANELS_ACROSS):
        row = shown[first : first + PANELS_ACROSS]
        for place, result in enumerate(row):
            parts += panel(result, MARGIN + place * (PANEL + GAP), top)
        top += max(HEAD + STEP * len(result.readings) + FOOT for result in row)
    notes = folded(heading, LETTERS_A_LINE)
    parts += [
        text(MARGIN, top + 8 + 15 * number, line, QUIET, 11) for number, line in enumerate(notes)
    ]
    height = top + 8 + 15 * len(notes) + MARGIN // 2
    return "\n".join([
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {height}" width="{WIDTH}" '
        f'height="{height}" font-family="system-ui, sans-serif">',
        f'<rect width="{WIDTH}" height="{height}" fill="{PAPER}"/>',
        text(MARGIN, MARGIN + 8, "The balancer beside other proxies: shorter is better", INK, 17, bold=True),
        *parts,
        "</svg>",
        "",
    ])  # fmt: skip


def panel(result: Result, left: int, top: int) -> list[str]:
    """One case: its title, then a row for each entrant."""
    case = result.case
    column = case.column(case.compared)
    parts = [
        text(left, top + 12, f"{case.name}: {column.title}", INK, 13, bold=True),
        text(left, top + 28, case.title, QUIET, 11),
    ]
    values = {name: result.median(name, column.key) or 0.0 for name in result.readings}
    longest = max(values.values()) or 1.0
    for place, (name, value) in enumerate(values.items()):
        y = top + HEAD + STEP * place
        width = max(1.0, value / longest * (PANEL - NAMES - NUMBERS))
        ratio = result.ratio(name)
        ours = name.startswith("balancer")
        number = column.text(value)
        if ratio is not None and name != case.reference:
            number += f" · {ratio:.2f} × {case.reference.partition(',')[0]}"
        if name in result.errors:
            number += "  (!)"
        parts += [
            text(left + NAMES - 8, y + 12, name, INK, 11, bold=ours, end=True),
            f'<rect x="{left + NAMES}" y="{y}" width="{width:.1f}" height="{BAR}" rx="2" '
            f'fill="{OURS if ours else OTHERS}"/>',
            text(left + NAMES + width + 6, y + 12, number, INK, 11),
        ]
    return parts


def text(
    x: float, y: float, words: str, colour: str, size: int, *, bold: bool = False, end: bool = False
) -> str:
    more = (' font-weight="600"' if bold else "") + (' text-anchor="end"' if end else "")
    return (
        f'<text x="{x:.0f}" y="{y}" fill="{colour}" font-size="{size}"{more}>{escape(words)}</text>'
    )


def folded(words: str, letters: int) -> list[str]:
    """Lines of at most `letters`, broken between words."""
    lines = [""]
    for word in words.split():
        if lines[-1] and len(lines[-1]) + 1 + len(word) > letters:
            lines.append("")
        lines[-1] = f"{lines[-1]} {word}".strip()
    return lines
