"""Plots of a report, as PNG."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from html import escape
from typing import Any

import numpy as np
from matplotlib.figure import Figure
from matplotlib.ticker import MaxNLocator
from PIL import Image
from rich.table import Table

from nst_ops.evaluation.distribution import DistributionDistance
from nst_ops.evaluation.metrics import IDENTIFYING, SOURCE, is_detail, metric
from nst_ops.report.html import definitions, figure, image, page, thumbnail

_OUTPUTS, _PHOTOS = "#2b6cb0", "#b9b2a6"
_SHOWN = ("gram", "mean_std", "swd", "palette", "content", "ssim", "edge_f1", "color_difference")


def histograms(report: Report) -> bytes:
    """How each metric is spread over the pictures; gray is where the photographs were."""
    names = [name for name in report.metrics() if name in _SHOWN or name.startswith("content_")]
    columns = 4
    lines = -(-len(names) // columns)
    figure = Figure(figsize=(3.1 * columns, 2.5 * lines), layout="constrained")
    for number, name in enumerate(names, 1):
        axes = figure.add_subplot(lines, columns, number)
        after = [row[name] for row in report.rows]
        before = [row[SOURCE + name] for row in report.rows if SOURCE + name in row]
        low, high = min(after + before), max(after + before)
        edges = (low, high if high > low else low + 1e-3)
        if before:
            axes.hist(before, bins=24, range=edges, color=_PHOTOS, label="photographs")
        axes.hist(after, bins=24, range=edges, color=_OUTPUTS, alpha=0.75, label="stylized")
        better = metric(name).better
        axes.set_title(metric(name).label + (f" ({better} is better)" if better else ""), fontsize=9)
        axes.tick_params(labelsize=8)
        axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))
        if before:
            axes.legend(fontsize=7, frameon=False)
    figure.supylabel("pictures", fontsize=9)
    return _png(figure)


def style_against_content(report: Report) -> bytes:
    """Each picture by its distance to style and photograph: the lower left corner has both."""
    style = "gram" if "gram" in report.metrics() else "palette"
    content = next((name for name in report.metrics() if name.startswith("content_")), "ssim")
    figure = Figure(figsize=(6.4, 4.6), layout="constrained")
    axes = figure.add_subplot()
    x, y = ([row[name] for row in report.rows] for name in (content, style))
    axes.scatter(x, y, s=18, color=_OUTPUTS, alpha=0.7, edgecolors="none")
    ranked = report.ranked(style)
    for row in {id(row): row for row in (ranked[0], ranked[-1])}.values():
        axes.annotate(row["name"], (row[content], row[style]), (4, 4), textcoords="offset points", fontsize=7)
    for name, label in ((content, axes.set_xlabel), (style, axes.set_ylabel)):
        label(f"{metric(name).label} ({metric(name).better} is better)", fontsize=9)
    axes.tick_params(labelsize=8)
    axes.margins(0.08)
    return _png(figure)


def _png(figure: Figure) -> bytes:
    for axes in figure.axes:
        axes.spines[["top", "right"]].set_visible(False)
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=130)
    return buffer.getvalue()


@dataclass(frozen=True)
class Spread:
    """A metric over all pictures: mean, median, 5 % and 95 % quantile."""

    mean: float
    median: float
    p5: float
    p95: float


@dataclass(frozen=True)
class Report:
    """The outcome of judging.

    Attributes:
        rows: of each picture its ``name``, ``style``, ``nearest_style`` and every metric; the
            photograph's own distances to the style have the prefix ``source_``.
        distribution: Fréchet distances of the sets, by VGG tap.
        not_measured: why, by metric.
        styles: names of the reference pictures.
        notes: what else a reader has to know.
    """

    rows: list[dict[str, Any]]
    distribution: dict[str, DistributionDistance]
    not_measured: dict[str, str]
    styles: list[str]
    notes: list[str] = field(default_factory=list)

    def metrics(self) -> list[str]:
        """Names of the metrics that were measured of every picture, those of single style taps last."""
        names = self.rows[0] if self.rows else {}
        metrics = [name for name in names if name not in IDENTIFYING and not name.startswith(SOURCE)]
        return sorted(metrics, key=is_detail)

    def spread(self, name: str) -> Spread:
        """A metric over all pictures, such as ``gram``, ``ssim`` or ``source_gram``.

        Raises:
            KeyError: it was not measured; the message says why, if that is known.
        """
        if not self.rows or name not in self.rows[0]:
            raise KeyError(f"{name}: {self.not_measured.get(name, 'not measured')}")
        figures = np.array([row[name] for row in self.rows], np.float64)
        p5, median, p95 = np.quantile(figures, (0.05, 0.5, 0.95))
        return Spread(float(figures.mean()), float(median), float(p5), float(p95))

    def ranked(self, by: str) -> list[dict[str, Any]]:
        """The rows by a metric, best first; where neither way is better, the lowest first."""
        return sorted(self.rows, key=lambda row: float(row[by]), reverse=metric(by).better == "higher")

    def summary(self) -> dict[str, Any]:
        """All but the rows, as JSON takes it."""
        spreads = {name: asdict(self.spread(name)) for name in self.metrics()}
        before = {name: asdict(self.spread(SOURCE + name)) for name in spreads if self._has_source(name)}
        return {
            "pictures": len(self.rows),
            "styles": self.styles,
            "metrics": spreads,
            "photographs_to_style": before,
            "distribution": {tap: asdict(distance) for tap, distance in self.distribution.items()},
            "not_measured": self.not_measured,
            "notes": self.notes,
        }

    def lines(self) -> list[tuple[str, ...]]:
        """The summary as text: metric, which way is better, mean, median, 5 % ... 95 %, photographs' mean."""
        lines: list[tuple[str, ...]] = []
        for name in self.metrics():
            spread, about = self.spread(name), metric(name)
            before = show(self.spread(SOURCE + name).mean) if self._has_source(name) else ""
            middle = (show(spread.mean), show(spread.median), f"{show(spread.p5)} ... {show(spread.p95)}")
            lines.append((about.label, about.better, *middle, before))
        for tap, distance in self.distribution.items():
            lines.append(
                (f"Fréchet distance {tap}", "lower", show(distance.outputs), "", "", show(distance.sources))
            )
        return lines

    def tables(self) -> list[Table]:
        """For a terminal: the figures, and what has none."""
        table = Table(title=f"{len(self.rows):,} pictures against {len(self.styles):,} style(s)")
        for column in COLUMNS:
            table.add_column(column, justify="left" if column in COLUMNS[:2] else "right")
        for line in self.lines():
            table.add_row(*line)
        tables = [table]
        if remarks := self.remarks():
            about = Table(show_header=False, title="not measured, and notes", title_justify="left")
            for name, text in remarks:
                about.add_row(name, text)
            tables.append(about)
        return tables

    def remarks(self) -> list[tuple[str, str]]:
        """(what, why): metrics without figures, doubts about figures, notes."""
        by_reason: dict[str, list[str]] = {}
        for name, reason in self.not_measured.items():
            by_reason.setdefault(reason, []).append(name)
        remarks = [(", ".join(names), f"not measured: {reason}") for reason, names in by_reason.items()]
        for tap, distance in self.distribution.items():
            floor = "unknown" if distance.floor is None else show(distance.floor)
            halves = f"between two halves of the style set it is {floor}"
            remarks.append((f"Fréchet distance {tap}", "; ".join([halves, *distance.warnings])))
        return remarks + [("note", note) for note in self.notes]

    def _has_source(self, name: str) -> bool:
        return SOURCE + name in self.rows[0]


COLUMNS = ("metric", "better", "mean", "median", "5 % ... 95 %", "photographs")


def show(figure: float) -> str:
    """Three digits that count."""
    return f"{figure:,.0f}" if abs(figure) >= 1000 else f"{figure:.3g}"


_FIGURES = ("gram", "swd", "palette", "content", "ssim", "edge_f1", "color_difference")

Pictures = Callable[[Mapping[str, Any]], Iterable[tuple[str, Image.Image]]]
"""Of a row its pictures with their captions: photograph, stylized, style."""


def chosen_rows(report: Report, by: str, count: int) -> dict[str, list[dict[str, Any]]]:
    """The best, those around the median, and the worst by a metric; none of them twice."""
    ranked = report.ranked(by)
    count = min(count, -(-len(ranked) // 3))
    best, worst = ranked[:count], ranked[len(ranked) - count :][::-1]
    between = ranked[count : len(ranked) - count]
    start = max(0, (len(between) - count) // 2)
    worst = [row for row in worst if not any(row is other for other in best)]
    groups = {"best": best, "median": between[start : start + count], "worst": worst}
    return {title: rows for title, rows in groups.items() if rows}


def write_page(
    report: Report,
    title: str,
    facts: Mapping[str, str],
    plots: Mapping[str, bytes],
    groups: Mapping[str, list[dict[str, Any]]],
    by: str,
    pictures: Pictures,
) -> str:
    """The page as HTML.

    Args:
        report: what to show.
        title: of the page.
        facts: what was judged, by whom, against what.
        plots: PNG by caption.
        groups: rows whose pictures are shown, as of ``chosen_rows``.
        by: the metric that chose them.
        pictures: asked once for each of these rows.
    """
    about = metric(by)
    direction = f"{about.better} is better" if about.better else "lowest first"
    body = [
        f"<h1>{escape(title)}</h1>",
        definitions(facts.items()),
        "<h2>Figures</h2>",
        _summary(report),
        "<p class=small>photographs: the same distance to the style measured of the photographs, so how far "
        "it was to go.</p>",
        _distribution(report),
        _remarks(report),
        "<h2>Spread</h2>",
        *(figure(image(png, "png"), caption) for caption, png in plots.items()),
        f"<h2>Pictures</h2><p>By {escape(about.label)} ({direction}): {escape(about.meaning)}.</p>",
    ]
    for name, rows in groups.items():
        body.append(f"<h3>{escape(name)}</h3><div class=rows>")
        body += [_row(row, by, pictures) for row in rows]
        body.append("</div>")
    return page(title, body, _STYLE)


def _summary(report: Report) -> str:
    lines = []
    for name in report.metrics():
        spread, about = report.spread(name), metric(name)
        before = show(report.spread(SOURCE + name).mean) if SOURCE + name in report.rows[0] else ""
        between = f"{show(spread.p5)} &hellip; {show(spread.p95)}"
        cells = (show(spread.mean), show(spread.median), between, before)
        figures = "".join(f"<td class=number>{cell}</td>" for cell in cells)
        detail = " class=detail" if is_detail(name) else ""
        lines.append(
            f"<tr{detail}><td>{escape(about.label)}</td>"
            f"<td class=small>{'' if detail else escape(about.meaning)}</td>"
            f"<td>{about.better}</td>{figures}</tr>"
        )
    heads = _heads([COLUMNS[0], "what it means", COLUMNS[1]], COLUMNS[2:])
    return f"<table><tr>{heads}</tr>{''.join(lines)}</table>"


def _heads(texts: Sequence[str], numbers: Sequence[str], last: str = "") -> str:
    of_numbers = (f"<th class=number>{head}</th>" for head in numbers)
    return "".join([*(f"<th>{head}</th>" for head in texts), *of_numbers, f"<th>{last}</th>" if last else ""])


def _distribution(report: Report) -> str:
    if not report.distribution:
        return ""
    lines = []
    for tap, distance in report.distribution.items():
        floor = "unknown" if distance.floor is None else show(distance.floor)
        cells = (show(distance.outputs), show(distance.sources), floor)
        figures = "".join(f"<td class=number>{cell}</td>" for cell in cells)
        sizes = (
            f"{distance.num_outputs:,} pictures, {distance.num_styles:,} styles, "
            f"{distance.dimension} channels"
        )
        lines.append(f"<tr><td>Fréchet distance {tap}</td>{figures}<td class=small>{sizes}</td></tr>")
    heads = _heads(["the set as a whole"], ["stylized", "photographs", "two halves of the styles"], "of")
    return f"<h2>Distribution</h2><table><tr>{heads}</tr>{''.join(lines)}</table>{_ABOUT_FRECHET}"


def _remarks(report: Report) -> str:
    if not (remarks := report.remarks()):
        return ""
    return f"<h2>Not measured, and notes</h2>{definitions(remarks)}"


def _row(row: Mapping[str, Any], by: str, pictures: Pictures) -> str:
    shown = [by] + [name for name in row if name != by and (name in _FIGURES or name.startswith("content_"))]
    numbers = " &middot; ".join(f"{escape(metric(name).label)} {show(row[name])}" for name in shown)
    try:
        figures = "".join(figure(thumbnail(picture), caption) for caption, picture in pictures(row))
    except Exception as error:  # a picture that has gone since is no reason to lose the page
        figures = f"<p class=small>cannot be shown: {escape(str(error))}</p>"
    return (
        f"<div class=row><h4>{escape(row['name'])}</h4><div class=pictures>{figures}</div>"
        f"<p class=small>{numbers}</p></div>"
    )


_ABOUT_FRECHET = (
    "<p class=small>How far the set is from the set of style pictures, by the channel means of each picture; "
    "lower is better, 0 the same, 1 a set without features. Two halves of the styles, compared likewise, "
    "show what to expect of so few pictures.</p>"
)
_STYLE = """
td:first-child { white-space: nowrap }
.detail td { color: #6b6b6b; font-size: .82rem }
"""
