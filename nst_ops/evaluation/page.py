"""The page of an evaluation: one HTML file with everything in it."""

from __future__ import annotations

import base64
import io
from collections.abc import Callable, Iterable, Mapping, Sequence
from html import escape
from typing import Any

from PIL import Image

from nst_ops.evaluation.metrics import SOURCE, is_detail, metric
from nst_ops.evaluation.report import COLUMNS, Report, show

_SIDE = 256
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
        _definitions(facts.items()),
        "<h2>Figures</h2>",
        _summary(report),
        "<p class=small>photographs: the same distance to the style measured of the photographs, so how far "
        "it was to go.</p>",
        _distribution(report),
        _remarks(report),
        "<h2>Spread</h2>",
        *(
            f"<figure>{_image(png, 'png')}<figcaption>{escape(c)}</figcaption></figure>"
            for c, png in plots.items()
        ),
        f"<h2>Pictures</h2><p>By {escape(about.label)} ({direction}): {escape(about.meaning)}.</p>",
    ]
    for name, rows in groups.items():
        body.append(f"<h3>{escape(name)}</h3><div class=rows>")
        body += [_row(row, by, pictures) for row in rows]
        body.append("</div>")
    return _PAGE.format(title=escape(title), body="\n".join(body))


def _definitions(pairs: Iterable[tuple[str, str]]) -> str:
    return f"<dl>{''.join(f'<dt>{escape(name)}</dt><dd>{escape(text)}</dd>' for name, text in pairs)}</dl>"


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
    return f"<h2>Not measured, and notes</h2>{_definitions(remarks)}"


def _row(row: Mapping[str, Any], by: str, pictures: Pictures) -> str:
    shown = [by] + [name for name in row if name != by and (name in _FIGURES or name.startswith("content_"))]
    numbers = " &middot; ".join(f"{escape(metric(name).label)} {show(row[name])}" for name in shown)
    try:
        figures = "".join(
            f"<figure>{_image(_jpeg(picture), 'jpeg')}<figcaption>{escape(caption)}</figcaption></figure>"
            for caption, picture in pictures(row)
        )
    except Exception as error:  # a picture that has gone since is no reason to lose the page
        figures = f"<p class=small>cannot be shown: {escape(str(error))}</p>"
    return (
        f"<div class=row><h4>{escape(row['name'])}</h4><div class=pictures>{figures}</div>"
        f"<p class=small>{numbers}</p></div>"
    )


def _jpeg(picture: Image.Image) -> bytes:
    small = picture.convert("RGB")
    small.thumbnail((_SIDE, _SIDE), Image.Resampling.LANCZOS)
    buffer = io.BytesIO()
    small.save(buffer, "JPEG", quality=88, subsampling=0)
    return buffer.getvalue()


def _image(data: bytes, kind: str) -> str:
    return f'<img src="data:image/{kind};base64,{base64.b64encode(data).decode()}" alt="">'


_ABOUT_FRECHET = (
    "<p class=small>How far the set is from the set of style pictures, by the channel means of each picture; "
    "lower is better, 0 the same, 1 a set without features. Two halves of the styles, compared likewise, "
    "show what to expect of so few pictures.</p>"
)
_PAGE = """<!doctype html>
<html lang="en">
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<title>{title}</title>
<style>
body {{ font: 15px/1.5 system-ui, sans-serif; color: #222; max-width: 1120px; margin: 2rem auto;
  padding: 0 1rem }}
h1 {{ font-size: 1.5rem }}
h2 {{ font-size: 1.15rem; margin-top: 2.2rem }}
h4 {{ margin: 0 0 .3rem; font-size: .9rem }}
table {{ border-collapse: collapse; font-size: .9rem; width: 100% }}
th, td {{ text-align: left; vertical-align: top }}
th, td {{ padding: .25rem .7rem .25rem 0; border-bottom: 1px solid #e6e2dc }}
td:first-child {{ white-space: nowrap }}
th.number, td.number {{ text-align: right; padding-left: .7rem }}
.number {{ font-variant-numeric: tabular-nums; white-space: nowrap }}
.detail td {{ color: #6b6b6b; font-size: .82rem }}
.small, dl {{ font-size: .85rem; color: #555 }}
dl {{ display: grid; grid-template-columns: max-content 1fr; gap: .15rem 1rem }}
dt {{ font-weight: 600; max-width: 22rem }}
dd {{ margin: 0; overflow-wrap: anywhere }}
figure {{ margin: 0 }}
figcaption {{ font-size: .78rem; color: #777 }}
img {{ max-width: 100% }}
.rows {{ display: grid; grid-template-columns: repeat(auto-fill, minmax(500px, 1fr)); gap: 1.2rem }}
.row {{ background: #faf8f5; padding: .8rem; border-radius: 6px; overflow-wrap: anywhere }}
.pictures {{ display: grid; grid-template-columns: repeat(3, 1fr); gap: .5rem; align-items: start }}
.pictures img {{ width: 100% }}
</style>
{body}
</html>
"""
