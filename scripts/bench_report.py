"""What a bench's numbers say: medians, ratios, noise, goals met or missed, and the table.

Pure: it is given the readings and returns values and text.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from statistics import median

Reading = Mapping[str, float]  # by column, of one round


@dataclass(frozen=True, slots=True)
class Column:
    """A quantity; `key` is its name in a reading."""

    key: str
    title: str
    digits: int = 0

    def text(self, value: float | None) -> str:
        if value is None:
            return "–"
        return f"{value:,.{0 if value >= 1000 else self.digits}f}"


@dataclass(frozen=True, slots=True)
class Goal:
    """The balancer's median of `column` is at most `factor` times that of the entrant `of`.

    Without `of` the factor is the limit itself, in the column's unit.
    """

    factor: float
    of: str = ""
    column: str = ""  # default: the one that is compared
    subject: str = "balancer"


@dataclass(frozen=True, slots=True)
class Case:
    """What the readings of one case are about; `compared` is the column that ratios are of."""

    name: str
    title: str
    columns: tuple[Column, ...]
    compared: str
    reference: str = "nginx"
    goals: tuple[Goal, ...] = ()

    def column(self, key: str) -> Column:
        return next(column for column in self.columns if column.key == key)


@dataclass(slots=True)
class Result:
    """The readings of one case by entrant, in the order of entrants, and what went wrong."""

    case: Case
    readings: dict[str, list[Reading]] = field(default_factory=dict)
    errors: dict[str, dict[str, int]] = field(default_factory=dict)  # of clients, over all rounds
    left_out: dict[str, str] = field(default_factory=dict)
    remarks: dict[str, str] = field(default_factory=dict)  # what makes a row not quite alike

    def add(self, entrant: str, reading: Reading, errors: Mapping[str, int] | None = None) -> None:
        self.readings.setdefault(entrant, []).append(reading)
        for kind, count in (errors or {}).items():
            of = self.errors.setdefault(entrant, {})
            of[kind] = of.get(kind, 0) + count

    def median(self, entrant: str, key: str) -> float | None:
        """The median over the rounds that have this quantity; None without any."""
        values = [reading[key] for reading in self.readings.get(entrant, ()) if key in reading]
        return median(values) if values else None

    def ratio(self, entrant: str, to: str | None = None, key: str | None = None) -> float | None:
        """How many times the median of `to` (by default: of the reference) this one's is."""
        key = key or self.case.compared
        own = self.median(entrant, key)
        other = self.median(to or self.case.reference, key)
        return own / other if own is not None and other else None

    def noise(self, entrant: str) -> float | None:
        """Half the distance from the least to the largest round, as a share of the median."""
        values = [reading[self.case.compared] for reading in self.readings.get(entrant, ())]
        if len(values) < 2:
            return None
        return (max(values) - min(values)) / 2 / median(values)


LINES_BUFFERED = 2000  # as many may not have left a buffer when a proxy is ended


def access_lines_remark(lines: int, requests: float) -> str | None:
    """Say so where a proxy spared itself the access lines that the others wrote."""
    if lines >= 0.9 * requests - LINES_BUFFERED:
        return None
    return f"wrote {lines:,} access lines for {requests:,.0f} requests"


@dataclass(frozen=True, slots=True)
class Judged:
    """A goal, what was found, and whether that is enough; None: not measured, or with errors."""

    goal: Goal
    found: float | None
    met: bool | None


def judge(result: Result) -> list[Judged]:
    """Compare a result with its goals; a client's error makes a figure worth nothing."""
    judged = []
    for goal in result.case.goals:
        key = goal.column or result.case.compared
        of = goal.of
        found = result.ratio(goal.subject, of, key) if of else result.median(goal.subject, key)
        spoilt = {goal.subject, of} & result.errors.keys()
        met = None if found is None or spoilt else found <= goal.factor
        judged.append(Judged(goal, found, met))
    return judged


def goal_line(result: Result, judged: Judged) -> str:
    """`goal: at most 4 × nginx; measured 3.71 ×: met`."""
    goal = judged.goal
    column = result.case.column(goal.column or result.case.compared)
    limit = f"{goal.factor:g} × {goal.of}" if goal.of else f"{goal.factor:g} {column.title}"
    if judged.found is None:
        return f"goal: at most {limit}; not measured"
    found = f"{judged.found:.2f} ×" if goal.of else column.text(judged.found)
    verdict = {None: "with errors, so not judged", True: "met", False: "MISSED"}[judged.met]
    return f"goal: at most {limit}; measured {found}: {verdict}"


def table(result: Result) -> list[str]:
    """The result's table in Markdown, one row an entrant."""
    case = result.case
    heads = [column.title for column in case.columns]
    rows = [["", *heads, f"× {case.reference}", "noise ±"]]
    for entrant in result.readings:
        ratio, noise = result.ratio(entrant), result.noise(entrant)
        rows.append([
            entrant + (" (!)" if entrant in result.errors else ""),
            *(column.text(result.median(entrant, column.key)) for column in case.columns),
            "–" if ratio is None else f"{ratio:.2f}",
            "–" if noise is None else f"{noise:.0%}",
        ])  # fmt: skip
    return aligned(rows)


def aligned(rows: Sequence[Sequence[str]]) -> list[str]:
    """Rows as a Markdown table that is readable as it stands: names left, numbers right."""
    widths = [max(len(row[place]) for row in rows) for place in range(len(rows[0]))]
    lines = [
        "| "
        + " | ".join(
            cell.rjust(width) if place else cell.ljust(width)
            for place, (cell, width) in enumerate(zip(row, widths, strict=True))
        )
        + " |"
        for row in rows
    ]
    rule = "|" + "|".join(
        "-" * (width + 1) + (":" if place else "-") for place, width in enumerate(widths)
    )
    return [lines[0], rule + "|", *lines[1:]]


def report(result: Result) -> list[str]:
    """Everything about one case, as lines of Markdown."""
    lines = [f"**{result.case.name}**: {result.case.title}", "", *table(result), ""]
    for entrant, kinds in result.errors.items():
        told = ", ".join(f"{count} {kind}" for kind, count in kinds.items())
        lines.append(f"- (!) {entrant}: clients saw errors: {told}")
    lines += [f"- {entrant}: {remark}" for entrant, remark in result.remarks.items()]
    lines += [f"- without {entrant}: {why}" for entrant, why in result.left_out.items()]
    lines += [f"- {goal_line(result, judged)}" for judged in judge(result)]
    return lines if lines[-1] == "" else [*lines, ""]


def plain(results: Iterable[Result]) -> list[dict[str, object]]:
    """Every reading, for a file that another program reads."""
    return [
        {
            "case": result.case.name,
            "readings": {name: [dict(one) for one in all_] for name, all_ in result.readings.items()},
            "errors": result.errors,
            "left_out": result.left_out,
            "remarks": result.remarks,
        }
        for result in results
    ]  # fmt: skip
