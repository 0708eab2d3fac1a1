"""Show the results for images: tables for a terminal, plots, a page."""

from __future__ import annotations

import io
from collections.abc import Iterable, Iterator, Mapping, Sequence
from html import escape
from typing import TYPE_CHECKING

from rich.table import Table

from nst_ops.evaluation.metrics import SOURCE, ImageResults, is_detail, metric
from nst_ops.evaluation.run import Row
from nst_ops.report.html import definitions, figure, image, page, table
from nst_ops.report.text import digits, text_table

if TYPE_CHECKING:
    from matplotlib.figure import Figure

_OUTPUTS, _SOURCES = "#2b6cb0", "#b9b2a6"
_IN_HISTOGRAMS = ("gram", "mean_std", "swd", "palette", "content", "ssim", "edge_f1", "clip_text", "color_difference")
_BELOW_IMAGES = ("gram", "swd", "palette", "content", "ssim", "edge_f1", "clip_text", "color_difference")
_NUMBERS = ("mean", "median", "5 % ... 95 %", "sources")


def terminal_tables(results: ImageResults) -> list[Table]:
    """The figures, then what was not measured and notes."""
    figures = Table(title=f"{len(results.rows):,} images against {len(results.styles):,} style(s)")
    for column in ("metric", "better", *_NUMBERS):
        figures.add_column(column, justify="right" if column in _NUMBERS else "left")
    for name in results.metrics():
        figures.add_row(metric(name).label, metric(name).better, *_numbers(results, name))
    for tap, distance in results.distribution.items():
        cells = digits(distance.outputs), "", "", digits(distance.sources)
        figures.add_row(f"Fréchet distance {tap}", "lower", *cells)
    return [figures, *text_table("not measured, and notes", results.remarks())]


def _numbers(results: ImageResults, name: str) -> tuple[str, ...]:
    """Cells of the columns ``_NUMBERS``."""
    spread = results.spread(name)
    sources = digits(results.spread(SOURCE + name).mean) if results.has_source(name) else ""
    return (digits(spread.mean), digits(spread.median), f"{digits(spread.p5)} ... {digits(spread.p95)}", sources)


def histograms(results: ImageResults) -> bytes:
    """PNG: how each metric is spread over the images; gray is where the sources were."""
    from matplotlib.figure import Figure  # slow to import
    from matplotlib.ticker import MaxNLocator

    names = [n for n in results.metrics() if n in _IN_HISTOGRAMS or n.startswith("content_")]
    columns, lines = 4, -(-len(names) // 4)
    plot = Figure(figsize=(3.1 * columns, 2.5 * lines), layout="constrained")
    for number, name in enumerate(names, 1):
        axes = plot.add_subplot(lines, columns, number)
        after = [row[name] for row in results.rows]
        before = [row[SOURCE + name] for row in results.rows] if results.has_source(name) else []
        low, high = min(after + before), max(after + before)
        edges = (low, high if high > low else low + 1e-3)
        if before:
            axes.hist(before, bins=24, range=edges, color=_SOURCES, label="sources")
        axes.hist(after, bins=24, range=edges, color=_OUTPUTS, alpha=0.75, label="stylized")
        if before:
            axes.legend(fontsize=7, frameon=False)
        about = metric(name)
        axes.set_title(about.label + (f" ({about.better} is better)" if about.better else ""), fontsize=9)
        axes.tick_params(labelsize=8)
        axes.yaxis.set_major_locator(MaxNLocator(4, integer=True))
    plot.supylabel("images", fontsize=9)
    return png(plot)


def style_content_plot(results: ImageResults) -> bytes:
    """PNG: each image by its distances to style and source; the lower left corner has both."""
    from matplotlib.figure import Figure

    style = "gram" if "gram" in results.metrics() else "palette"
    content = next((name for name in results.metrics() if name.startswith("content_")), "ssim")
    plot = Figure(figsize=(6.4, 4.6), layout="constrained")
    axes = plot.add_subplot()
    x, y = ([row[name] for row in results.rows] for name in (content, style))
    axes.scatter(x, y, s=18, color=_OUTPUTS, alpha=0.7, edgecolors="none")
    ranked = results.ranked(style)
    for row in ranked[:1] + ranked[1:][-1:]:
        axes.annotate(row["name"], (row[content], row[style]), (4, 4), textcoords="offset points", fontsize=7)
    for name, label in ((content, axes.set_xlabel), (style, axes.set_ylabel)):
        label(f"{metric(name).label} ({metric(name).better} is better)", fontsize=9)
    axes.tick_params(labelsize=8)
    axes.margins(0.08)
    return png(plot)


def png(plot: Figure) -> bytes:
    """Encode a plot, without the frame lines above and at the right."""
    for axes in plot.axes:
        axes.spines[["top", "right"]].set_visible(False)
    buffer = io.BytesIO()
    plot.savefig(buffer, format="png", dpi=130)
    return buffer.getvalue()


def choose_shown(results: ImageResults, by: str, count: int) -> dict[str, list[Row]]:
    """Choose the best, those around the median, and the worst by a metric; none of them twice."""
    ranked = results.ranked(by)
    count = min(count, -(-len(ranked) // 3))
    last = max(count, len(ranked) - count)
    start = count + max(0, (last - 2 * count) // 2)
    groups = {"best": ranked[:count], "median": ranked[start : min(start + count, last)], "worst": ranked[last:][::-1]}
    return {title: rows for title, rows in groups.items() if rows}


def image_page(
    results: ImageResults,
    facts: Mapping[str, str],
    plots: Sequence[bytes],
    groups: Mapping[str, list[tuple[Row, str]]],
    by: str,
) -> str:
    """The page as HTML.

    The plots are those of ``histograms`` and ``style_content_plot``; the groups those that ``choose_shown`` has chosen
    by the metric ``by``, each row with HTML of its thumbnails.
    """
    title, about = "How good is it?", metric(by)
    direction = f"{about.better} is better" if about.better else "lowest first"
    body = [
        f"<h1>{title}</h1>{definitions(facts.items())}<h2>Figures</h2>",
        _figures(results, [name for name in results.metrics() if not is_detail(name)]),
        "<p class=small>sources: the same distance to the style measured of the sources, so how far it was to go.</p>",
        *_distribution(results),
        f"<h2>Not measured, and notes</h2>{definitions(remarks)}" if (remarks := results.remarks()) else "",
        "<h2>Spread</h2>",
        figure(image(plots[0], "png"), "How each figure is spread over the images; gray: the sources"),
        figure(image(plots[1], "png"), "Each image by its distances to source and style"),
        f"<h2>Images</h2><p>By {escape(about.label)} ({direction}): {escape(about.meaning)}.</p>",
    ]
    for name, rows in groups.items():
        body.append(f"<h3>{escape(name)}</h3><div class=rows>")
        for row, thumbnails in rows:
            names = [by] + [n for n in row if n != by and (n in _BELOW_IMAGES or n.startswith("content_"))]
            numbers = " &middot; ".join(f"{escape(metric(name).label)} {digits(row[name])}" for name in names)
            body.append(
                f"<div class=row><h4>{escape(row['name'])}</h4><div class=images>{thumbnails}</div>"
                f"<p class=small>{numbers}</p></div>"
            )
        body.append("</div>")
    if details := [name for name in results.metrics() if is_detail(name)]:
        body.append(f"<h2>Style figures by VGG layer</h2>{_figures(results, details)}")
    return page(title, body, "td:first-child { white-space: nowrap }")


def _figures(results: ImageResults, names: Iterable[str]) -> str:
    abouts = ((name, metric(name)) for name in names)
    rows = [(about.label, about.meaning, about.better, *_numbers(results, name)) for name, about in abouts]
    return table(("metric", "what it means", "better", *_NUMBERS), rows, range(3, 7))


def _distribution(results: ImageResults) -> Iterator[str]:
    if not results.distribution:
        return
    rows = [
        (
            f"Fréchet distance {tap}",
            *(digits(distance.outputs), digits(distance.sources)),
            "unknown" if distance.floor is None else digits(distance.floor),
            f"{distance.num_outputs:,} images, {distance.num_styles:,} styles, {distance.dimension} channels",
        )
        for tap, distance in results.distribution.items()
    ]
    heads = ("the set as a whole", "stylized", "sources", "two halves of the styles", "measured on")
    yield f"<h2>Distribution</h2>{table(heads, rows, range(1, 4))}"
    yield (
        "<p class=small>How far the set is from the set of style images, by the channel means of each image; "
        "lower is better, 0 the same, 1 a set without features. Two halves of the styles, compared in the "
        "same way, show what to expect of so few images.</p>"
    )
