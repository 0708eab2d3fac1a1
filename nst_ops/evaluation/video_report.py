"""Show the results for videos: tables for a terminal, a plot, strips of frames, a page."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from html import escape
from typing import NamedTuple

import cv2
import numpy as np
from PIL import Image, ImageDraw, ImageFont
from rich.table import Table

from nst_ops.evaluation.image_report import png
from nst_ops.evaluation.run import Row
from nst_ops.evaluation.video_metrics import FIGURES, GAPS, SOURCE, VideoResults
from nst_ops.media.images import UInt8Array
from nst_ops.report.html import definitions, image, page, table
from nst_ops.report.text import digits, text_table
from nst_ops.temporal.metrics import Motion
from nst_ops.temporal.warp import warp

_MOST_IN_PLOT = 40
_COLORS = "#2b6cb0", "#c98a1b"
_IN_TABLE = ("warping_ratio_1", "warping_ratio_10", "luminance_flicker", "high_frequency_energy", "gram")


def terminal_tables(results: VideoResults) -> list[Table]:
    """The means, then the notes."""
    figures = Table(title=f"{len(results.rows):,} videos, means")
    for column in ("figure", "better", "stylized", "source"):
        figures.add_column(column, justify="left" if column in ("figure", "better") else "right")
    for label, _, *cells in _figures(results):
        figures.add_row(label, *cells)
    return [figures, *text_table("notes", [(note,) for note in results.notes])]


def _figures(results: VideoResults) -> Iterator[tuple[str, ...]]:
    """Label, meaning, direction, and means of the stylized videos and their sources."""
    means = results.means()
    for name, about in FIGURES.items():
        yield *about, digits(means[name]), digits(means[f"{SOURCE}_{name}"])


def videos_plot(rows: Sequence[Row]) -> bytes:
    """PNG: each video by how much more it changes along its motion than its source, the steadiest first."""
    from matplotlib.figure import Figure  # slow to import
    from matplotlib.ticker import LogLocator, NullLocator

    shown = steadiest_first(rows)[-_MOST_IN_PLOT:]
    names = [str(row["name"]) for row in shown]
    plot = Figure(figsize=(10, 1.4 + 0.24 * len(shown)), layout="constrained")
    left, right = plot.subplots(1, 2, sharey=True, width_ratios=(2, 1))
    for gap, color in zip(GAPS, _COLORS, strict=True):
        ratios = [row[f"warping_ratio_{gap}"] for row in shown]
        left.plot(ratios, names, "o", color=color, label=f"{gap} frame{'s' * (gap > 1)} apart")
    left.axvline(1, color="#555555", linewidth=1)
    left.set(xscale="log", xlabel="warping error, times the source's own; 1 is as steady as filmed")
    left.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    left.xaxis.set_major_formatter("{x:g}")
    left.xaxis.set_minor_locator(NullLocator())
    left.legend(fontsize=8, frameon=False)
    right.plot([row["luminance_flicker"] for row in shown], names, "o", color="#c0392b")
    right.set(xlim=(0, None), xlabel="luminance flicker, gray levels")
    for axes in (left, right):
        axes.grid(axis="y", color="#eeeeee")
        axes.tick_params(labelsize=8)
    return png(plot)


def steadiest_first(rows: Sequence[Row]) -> list[Row]:
    """Sort videos by their warping error as a ratio to the source's; those without one come first."""
    return sorted(rows, key=lambda row: np.nan_to_num(row["warping_ratio_1"]))


_CELL, _GAP, _TEXT, _LABEL = 168, 4, 20, 104
_GROUND, _INK, _MARK = (255, 255, 255), (40, 40, 40), (220, 40, 40)


class Crop(NamedTuple):
    """A square part of a frame, in pixels."""

    x: int
    y: int
    side: int

    def cut(self, frames: UInt8Array) -> UInt8Array:
        """Cut the square out of frames (..., H, W, 3)."""
        return frames[..., self.y : self.y + self.side, self.x : self.x + self.side, :]


def busiest_crop(frames_thwc: UInt8Array, motion: Motion, share: float = 0.4) -> Crop:
    """Find where a version of a clip, T at least 2, changes most along the source's motion: look there for flicker.

    The side of the crop is a ``share`` of the frame's shorter side.
    """
    height, width = frames_thwc.shape[1:3]
    change = np.zeros((height, width), np.float32)
    for t in range(1, len(frames_thwc)):
        flow, mask = motion(t, t - 1)
        moved = warp(frames_thwc[t - 1].astype(np.float32), flow)
        change += mask * np.square(frames_thwc[t] - moved).mean(axis=2)
    side = max(8, round(share * min(height, width)))
    sums = cv2.boxFilter(change, -1, (side, side), anchor=(0, 0), borderType=cv2.BORDER_CONSTANT)
    inside = sums[: height - side + 1, : width - side + 1]
    y, x = np.unravel_index(np.argmax(inside), inside.shape)
    return Crop(int(x), int(y), side)


def strip(versions: Mapping[str, UInt8Array], crop: Crop, start: int = 0, columns: int = 5) -> Image.Image:
    """Draw for each version a whole frame, a crop of ``columns`` frames from ``start`` on, one line of it over time.

    In the last column time runs downwards: what holds still or moves evenly draws clean lines, what flickers is ragged,
    and a ghost is a second line beside the first. Versions are frames (T, H, W, 3) by name, all of one shape.
    """
    num_frames, height, width = next(iter(versions.values())).shape[:3]
    columns = min(columns, num_frames - start)
    whole = round(_CELL * width / height)
    lefts = [_LABEL, *(_LABEL + whole + _GAP + n * (_CELL + _GAP) for n in range(columns + 1))]
    sheet = Image.new("RGB", (lefts[-1] + _CELL, _TEXT + len(versions) * (_CELL + _GAP)), _GROUND)
    draw, font = ImageDraw.Draw(sheet), ImageFont.load_default(15)
    heads = ["whole frame", *(f"frame {start + n}" for n in range(columns)), "one line over time"]
    for left, head in zip(lefts, heads, strict=True):
        draw.text((left, 1), head, _INK, font)
    scale = _CELL / height
    for row, (name, frames) in enumerate(versions.items()):
        top = _TEXT + row * (_CELL + _GAP)
        draw.multiline_text((0, top + 2), name, _INK, font)
        sheet.paste(_scaled(frames[start], (whole, _CELL)), (lefts[0], top))
        corner = lefts[0] + crop.x * scale, top + crop.y * scale
        draw.rectangle((*corner, corner[0] + crop.side * scale, corner[1] + crop.side * scale), outline=_MARK)
        for n, left in enumerate(lefts[1:-1]):
            sheet.paste(_scaled(crop.cut(frames[start + n]), (_CELL, _CELL)), (left, top))
        over_time = Image.fromarray(crop.cut(frames)[:, crop.side // 2])
        sheet.paste(over_time.resize((_CELL, _CELL), Image.Resampling.NEAREST), (lefts[-1], top))
    return sheet


def _scaled(frame_hwc: UInt8Array, size: tuple[int, int]) -> Image.Image:
    return Image.fromarray(frame_hwc).resize(size, Image.Resampling.BICUBIC)


def video_page(
    results: VideoResults, facts: Mapping[str, str], plot: bytes, strips: Sequence[tuple[str, bytes]]
) -> str:
    """The page as HTML, with the plot as PNG, and of videos to show the name and the strip as JPEG."""
    title = "Are the videos steady?"
    notes = "".join(f"<li>{escape(note)}</li>" for note in results.notes)
    videos = [
        (
            row["name"],
            f"{row['num_frames']} frames, {row['width']}x{row['height']}, {row['num_cuts']} cuts",
            *(digits(row[name]) for name in _IN_TABLE),
        )
        for row in sorted(results.rows, key=lambda row: str(row["name"]))
    ]
    body = [
        f"<h1>{title}</h1>{definitions(facts.items())}<h2>Figures</h2>",
        table(("figure", "what it means", "better", "stylized", "source"), _figures(results), range(3, 5)),
        f"<h2>Notes</h2><ul>{notes}</ul>" if notes else "",
        f"<h2>Videos</h2>{image(plot, 'png')}",
        table(("video", "", *(FIGURES[name].label for name in _IN_TABLE)), videos, range(2, 7)),
        "<h2>Strips</h2><p>The most restless first. The square is where the stylized video changes most "
        "along the motion. In the last image time runs downwards: what holds still or moves evenly draws "
        "clean lines, what flickers is ragged, a ghost is a second line beside the first.</p>",
        *(f"<h3>{escape(name)}</h3>{image(jpeg, 'jpeg')}" for name, jpeg in strips),
    ]
    return page(title, body)
