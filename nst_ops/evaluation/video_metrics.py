"""Frames of videos, a few seconds of each, at the size at which they are judged."""

from __future__ import annotations

import contextlib
import csv
import itertools
import math
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import cv2
import numpy as np
import torch

from benchmarks.synthetic_clips import Clip
from nst_ops.config import VideoConfig
from nst_ops.evaluation.image_metrics import gram_error
from nst_ops.evaluation.metrics import Metric
from nst_ops.evaluation.references import StyleSet
from nst_ops.media.errors import UnsupportedMediaError
from nst_ops.media.images import UInt8Array, decode_image, fit_size
from nst_ops.media.video import Selection, VideoReader
from nst_ops.media.video.reader import ALL_FRAMES
from nst_ops.models.vgg import VGGFeatures
from nst_ops.storage import Folder
from nst_ops.stylizers import Style
from nst_ops.temporal.flow import DisFlow
from nst_ops.temporal.metrics import (
    Motion,
    estimated_motion,
    high_frequency_energy,
    luminance_flicker,
    warping_errors,
)
from nst_ops.temporal.scenes import is_scene_cut

SMALLEST = 32
"""Pixels of a side below which neither motion nor style can be measured."""
FEWEST = 3


@dataclass(frozen=True)
class Excerpt:
    """Frames of a source, and how they move.

    Attributes:
        name: for tables.
        source_thwc: uint8 RGB (T, H, W, 3).
        motion: exact or estimated.
        cuts: numbers of the frames that begin another scene.
        exact: whether motion and cuts are known, not estimated.
    """

    name: str
    source_thwc: UInt8Array = field(repr=False)
    motion: Motion = field(repr=False)
    cuts: Sequence[int] = ()
    exact: bool = False


def of_clip(clip: Clip) -> Excerpt:
    """A synthetic clip: nothing of its motion has to be estimated."""
    return Excerpt(clip.name, clip.frames_thwc, clip.motion, clip.cuts, exact=True)


def of_frames(name: str, source_thwc: UInt8Array) -> Excerpt:
    """Frames of a real video: flow by DIS at their own size.

    Raises:
        UnsupportedMediaError: they are too few or too small.
    """
    num_frames, height, width = source_thwc.shape[:3]
    if num_frames < FEWEST:
        raise UnsupportedMediaError(f"{num_frames} frames: flicker shows in {FEWEST} or more")
    if min(height, width) < SMALLEST:
        raise UnsupportedMediaError(f"{width}x{height} px: sides below {SMALLEST} cannot be judged")
    cuts = [t for t in range(1, num_frames) if is_scene_cut(source_thwc[t - 1], source_thwc[t])]
    return Excerpt(name, source_thwc, estimated_motion(source_thwc, DisFlow(), cuts), cuts)


def read_excerpt(path: str, name: str, start_s: float, num_frames: int, max_side: int) -> Excerpt:
    """An excerpt of a local video; of one that ends before ``start_s`` its beginning.

    Raises:
        MediaError: it cannot be read, or not be judged.
    """
    for start in (start_s, 0.0):
        try:
            with VideoReader(path, max_side, keep_damaged=True, selection=Selection(start)) as reader:
                frames = [frame.rgb_hwc for frame in itertools.islice(reader.frames(), num_frames)]
        except UnsupportedMediaError:
            if start == 0:
                raise
            continue
        if len(frames) == num_frames or start == 0:
            break
    return of_frames(name, np.stack(frames))


def read_row(
    row: Mapping[str, Any], video: VideoConfig, start_s: float, num_frames: int, max_side: int
) -> tuple[Excerpt, UInt8Array]:
    """Source and stylized frames of a video of a run, frame by frame the same instants.

    Args:
        row: of the manifest.
        video: how the run wrote its videos.
        start_s: into the stylized video.
        num_frames: at most.
        max_side: longer side in pixels to which both are reduced.

    Returns:
        The source, and the stylized frames (T, H, W, 3) of the same shape.

    Raises:
        MediaError: one of them cannot be read, or not be judged.
        OSError: one of them is not there.
    """
    sources, outputs = [], []
    selection = Selection(video.start_s, video.duration_s, video.max_frame_rate)
    as_pictures = row["output_uri"].endswith(".csv")  # a table of them, which lie beside it
    with _local(row["source_uri"]) as source_path, _local(row["output_uri"]) as output_path:
        before = _frames(source_path, selection, video.keep_damaged, upright=as_pictures)
        after = _pictures(row["output_uri"]) if as_pictures else _frames(output_path)
        for (_, source), (time_s, output) in zip(before, after, strict=False):
            if time_s < start_s:
                continue
            if video.side_by_side:
                output = output[:, output.shape[1] // 2 :]
            size = fit_size((output.shape[1], output.shape[0]), max_side)
            sources.append(_resized(source, size))
            outputs.append(_resized(output, size))
            if len(outputs) == num_frames:
                break
    if not outputs:
        raise UnsupportedMediaError(f"it is over before excerpt.start_s, {start_s:g} s")
    name = row["source_uri"].rsplit("/", 1)[-1]
    return of_frames(name, np.stack(sources)), np.stack(outputs)


def _frames(
    path: str, selection: Selection = ALL_FRAMES, keep_damaged: bool = True, upright: bool = False
) -> Iterator[tuple[float, UInt8Array]]:
    """Frames of a film with their times in seconds from its first."""
    with VideoReader(path, None, keep_damaged, selection) as reader:
        turns = round(reader.info.rotation / 90) if upright else 0
        first_pts: int | None = None
        for frame in reader.frames():
            first_pts = frame.pts if first_pts is None else first_pts
            time_s = float((frame.pts - first_pts) * reader.info.time_base)
            yield time_s, np.rot90(frame.rgb_hwc, turns)


def _pictures(table_uri: str) -> Iterator[tuple[float, UInt8Array]]:
    """Frames of a film that was written as pictures, which are upright, likewise."""
    parent, name = os.path.split(table_uri)
    folder = Folder(parent)
    rows = list(csv.DictReader(folder.read_bytes(name).decode().splitlines()))
    for row in rows:
        picture = decode_image(folder.read_bytes(row["name"])).rgb_hwc
        yield float(row["pts_s"]) - float(rows[0]["pts_s"]), picture


@contextlib.contextmanager
def _local(uri: str) -> Iterator[str]:
    folder, name = os.path.split(uri)
    with Folder(folder).local_copy(name) as path:
        yield path


def _resized(frame_hwc: UInt8Array, size: tuple[int, int]) -> UInt8Array:
    return np.asarray(
        cv2.resize(np.ascontiguousarray(frame_hwc), size, interpolation=cv2.INTER_AREA), np.uint8
    )


SOURCE = "source"
GAPS = (1, 10)
"""Frames apart: what flickers, and what drifts away."""

FIGURES = {
    **{
        f"warping_error_{gap}": Metric(
            f"warping error, {gap} apart",
            "mean squared change along the motion, in [0, 1]; of the source it is what no painter adds",
            "lower",
        )
        for gap in GAPS
    },
    **{
        f"warping_ratio_{gap}": Metric(
            f"... to the source's, {gap} apart",
            "how often the source's own: 1 is as still as filmed",
            "lower",
        )
        for gap in GAPS
    },
    "luminance_flicker": Metric(
        "luminance flicker",
        "how much whole frames jump in brightness beyond the source, in gray levels",
        "lower",
    ),
    "high_frequency_energy": Metric("high-frequency energy", "fine texture, luma squared in [0, 1]", ""),
    "gram": Metric("Gram error", "feature correlations against the style's: 0 the same, 1 none", "lower"),
}

_STYLE_FRAMES = 4


class Gauge:
    """Measures versions of a clip.

    Args:
        styles: pictures of the style.
        vgg: network of the features; None leaves out the distance to the style.
        taps: its taps at which that is measured.
        device: where to work.
    """

    def __init__(
        self,
        styles: Sequence[Style],
        vgg: VGGFeatures | None,
        taps: Sequence[str],
        device: torch.device | str = "cpu",
    ) -> None:
        self._vgg, self._taps, self._device = vgg, list(taps) if vgg else [], device
        with torch.inference_mode():
            self._styles = StyleSet(styles, vgg.to(device) if vgg else None, self._taps, device=device)

    def __call__(
        self, excerpt: Excerpt, versions: Mapping[str, UInt8Array], style: str = ""
    ) -> dict[str, dict[str, float]]:
        """Measure.

        Args:
            excerpt: the source.
            versions: frames (T, H, W, 3) of what became of it, by name.
            style: the name of its style; where it is not among the pictures, their average.

        Returns:
            Of each version the figures of ``FIGURES``; and the source's own, by ``source``, which has
            no distance to the style. nan stands for what cannot be measured.
        """
        every = {SOURCE: excerpt.source_thwc, **versions}
        figures: dict[str, dict[str, float]] = {name: {} for name in every}
        for gap in GAPS:
            errors = warping_errors(every, excerpt.motion, gap)
            for name, error in errors.items():
                figures[name][f"warping_error_{gap}"] = error
                figures[name][f"warping_ratio_{gap}"] = ratio(error, errors[SOURCE])
        for name, frames in every.items():
            of_frames = figures[name]
            of_frames["luminance_flicker"] = luminance_flicker(frames, excerpt.source_thwc, excerpt.cuts)
            of_frames["high_frequency_energy"] = high_frequency_energy(frames)
            of_frames["gram"] = self.gram(frames, style)
        return figures

    def gram(self, frames_thwc: UInt8Array, style: str = "") -> float:
        """Mean Gram error over taps and a few frames, evenly spread; nan without a network."""
        if self._vgg is None:
            return math.nan
        chosen = frames_thwc[:: max(1, len(frames_thwc) // _STYLE_FRAMES)]
        target = self._styles.target(style)
        errors = []
        with torch.inference_mode():
            for frame in chosen:
                picture = torch.from_numpy(frame).to(self._device).permute(2, 0, 1)[None].float() / 255
                features = self._vgg(picture)
                errors += [gram_error(features[tap], target.taps[tap]) for tap in self._taps]
        return float(torch.cat(errors).mean())


def ratio(figure: float, to: float) -> float:
    """A share; nan of nothing."""
    return figure / to if to else math.nan
