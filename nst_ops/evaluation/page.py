"""The page of an evaluation: one HTML file with everything in it."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape
from typing import Any

from PIL import Image

from nst_ops.evaluation.metrics import SOURCE, is_detail, metric
from nst_ops.evaluation.report import COLUMNS, Report, show
from nst_ops.report.html import definitions, figure, image, page, thumbnail

_FIGURES = ("gram", "swd", "palette", "content", "ssim", "edge_f1", "colour_difference")

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
