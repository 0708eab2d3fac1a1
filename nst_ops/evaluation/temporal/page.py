"""The page about the videos of a run: one HTML file with everything in it."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from html import escape
from typing import Any

from nst_ops.evaluation.report import show
from nst_ops.evaluation.temporal.figures import FIGURES, SOURCE
from nst_ops.report.html import definitions, image, page

_SHOWN = ("warping_ratio_1", "warping_ratio_10", "luminance_flicker", "high_frequency_energy", "gram")


def write_page(
    rows: Sequence[Mapping[str, Any]],
    means: Mapping[str, float],
    notes: Sequence[str],
    facts: Mapping[str, str],
    plot: bytes,
    strips: Sequence[tuple[str, bytes]],
) -> str:
    """The page as HTML.

    Args:
        rows: of each video, as of ``StabilityReport``.
        means: of the figures.
        notes: what else a reader has to know.
        facts: what was judged, against what.
        plot: PNG.
        strips: names of videos, and their strips as JPEG.
    """
    remarks = "".join(f"<li>{escape(note)}</li>" for note in notes)
    body = [
        f"<h1>Do the videos hold still?</h1>{definitions(facts.items())}",
        f"<h2>Figures</h2>{_means(means)}",
        f"<h2>Notes</h2><ul>{remarks}</ul>" if notes else "",
        f"<h2>Videos</h2>{image(plot, 'png')}{_videos(rows)}",
        f"<h2>Strips</h2><p>{_ABOUT_STRIPS}</p>",
        *(f"<h3>{escape(name)}</h3>{image(jpeg, 'jpeg')}" for name, jpeg in strips),
    ]
    return page("Do the videos hold still?", body)


def _means(means: Mapping[str, float]) -> str:
    lines = []
    for name, about in FIGURES.items():
        cells = (f"<td>{_number(means[key])}</td>" for key in (name, f"{SOURCE}_{name}"))
        lines.append(
            f"<tr><td>{escape(about.label)}</td><td>{escape(about.meaning)}</td><td>{about.better}</td>"
            f"{''.join(cells)}</tr>"
        )
    heads = "<th>figure</th><th>what it means</th><th>better</th><th>stylized</th><th>source</th>"
    return f"<table><tr>{heads}</tr>{''.join(lines)}</table>"


def _videos(rows: Sequence[Mapping[str, Any]]) -> str:
    heads = "".join(f"<th>{escape(FIGURES[name].label)}</th>" for name in _SHOWN)
    lines = []
    for row in sorted(rows, key=lambda row: str(row["name"])):
        cells = "".join(f"<td>{_number(row[name])}</td>" for name in _SHOWN)
        about = f"{row['num_frames']} frames, {row['width']}x{row['height']}, {row['num_cuts']} cuts"
        lines.append(f"<tr><td>{escape(row['name'])}</td><td>{about}</td>{cells}</tr>")
    return f"<table><tr><th>video</th><th></th>{heads}</tr>{''.join(lines)}</table>"


def _number(figure: float) -> str:
    return show(figure) if math.isfinite(figure) else ""


_ABOUT_STRIPS = (
    "The most restless first. The square is where the paint changes most along the motion. In the last "
    "picture time runs downwards: what holds still or moves evenly draws clean lines, what flickers is "
    "ragged, a ghost is a second line beside the first."
)
