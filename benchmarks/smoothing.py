"""Compare the smoothing modes of a stylizer on clips: how steady, how faithful, how sharp, how costly.

Run it from the root of the repository: ``python benchmarks/smoothing.py --help``.
"""

from __future__ import annotations

import io
import itertools
import json
import logging
import math
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar, Literal

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from pydantic import Field, NonNegativeFloat, PositiveInt
from rich.console import Console
from rich.table import Table

from benchmarks.stylizer_metrics import StylizeFrames, noise_gain, shift_error
from benchmarks.synthetic_clips import make_clips
from nst_ops.collection.styles import NamedStyles
from nst_ops.config import ConfigError, TemporalConfig, parse_config
from nst_ops.config.base import JobConfig
from nst_ops.config.evaluate import VGGConfig
from nst_ops.config.stylize import ModelConfig, StyleConfig
from nst_ops.evaluation.evaluator import load_vgg
from nst_ops.evaluation.image_report import png
from nst_ops.evaluation.video_metrics import GAPS, SOURCE, Excerpt, VideoEvaluator, ratio
from nst_ops.evaluation.video_report import busiest_crop, strip
from nst_ops.media.errors import MediaError, UnsupportedMediaError
from nst_ops.media.formats import media_kind
from nst_ops.media.images import UInt8Array, decode_image
from nst_ops.media.style_images import Style, read_styles
from nst_ops.media.video.reader import VideoReader
from nst_ops.media.video.segments import Selection
from nst_ops.models.checkpoint import CheckpointError
from nst_ops.models.checkpoint_files import read_styles as read_named_styles
from nst_ops.models.device import find_device
from nst_ops.models.host_copies import host_copies
from nst_ops.report.text import console, digits
from nst_ops.storage import Folder
from nst_ops.stylizers import load_stylizer
from nst_ops.stylizers.registry import kind_of
from nst_ops.temporal.metrics import psnr
from nst_ops.temporal.smoothing import load_smoother

_EPILOG = """\
examples:
  python benchmarks/smoothing.py --style starry_night.jpg --output out/stability
  python benchmarks/smoothing.py --style starry_night.jpg --videos clips --output out/stability
  ... --temporal.radius 3 --temporal.detail 0.8    # another default, held against all others

Each clip is stylized once, frame by frame, and then smoothed in every mode. Written are stability.png,
strips of frames for each clip, and stability.json with the figures of every clip and mode.
"""


class SmoothingBenchmarkConfig(JobConfig):
    """Compare the smoothing modes of a stylizer: how steady, how faithful, how sharp, how costly."""

    epilog: ClassVar[str] = _EPILOG
    renamed: ClassVar[dict[str, str]] = {"picture": "image"}

    output: str = Field(min_length=1)
    """Folder to write: stability.json, stability.png, strips/."""
    style: str = Field(min_length=1)
    """Style image: a path or a URI. Networks that take any style are given it, too; one of named styles is in the style
    that model.checkpoint names."""
    model: ModelConfig = ModelConfig()
    temporal: TemporalConfig = TemporalConfig()
    """The setting that is marked as the default; the others take from it what they do not vary."""
    gate_weights: tuple[float, ...] = (0.7,)
    """Weights at which gate is tried."""
    ema_weights: tuple[float, ...] = (0.5, 0.7, 0.8)
    """Weights at which ema is tried."""
    window_radii: tuple[int, ...] = (1, 2, 3)
    """Radii at which window is tried."""
    smooth_on: Literal["auto", "host", "device"] = "auto"
    """host: by OpenCV; device: by torch, on model.device, a CPU included; auto: device where that is a GPU."""
    synthetic: bool = True
    """Use clips whose motion is known exactly: pans, zoom, sprites, exposure, noise, cut."""
    image: str | None = None
    """Image that the synthetic clips are made of. Default: a texture drawn for it."""
    videos: str | None = None
    """Video, or folder of them, to use too; their motion is estimated."""
    start_s: NonNegativeFloat = 1.0
    """Seconds into each video; shorter videos are used from their beginning."""
    num_frames: int = Field(default=24, ge=12)
    """Frames of each clip."""
    max_side: int = Field(default=320, ge=64)
    """Longer side of the clips in pixels."""
    cost_size: tuple[PositiveInt, PositiveInt] = (854, 480)
    """Width and height in pixels of the frames whose cost is measured."""
    vgg: VGGConfig = VGGConfig()
    taps: tuple[str, ...] = ("relu1_1", "relu2_1", "relu3_1")
    """Layers of VGG19 at which the distance to the style is measured."""
    seed: int = 0
    """Seed of textures and noise."""


PER_FRAME = "per frame"
"""The version that is not smoothed."""

Figures = dict[str, float]

_COLUMNS = (
    *((f"warping {gap} apart", f"warping_share_{gap}") for gap in GAPS),
    ("fine texture", "high_frequency_share"),
    ("Gram error", "gram_share"),
    ("PSNR dB", "psnr"),
    ("flicker", "luminance_flicker"),
)


@dataclass(frozen=True)
class Comparison:
    """The figures of all clips and versions.

    Attributes:
        default: name of the version that is marked.
        by_clip: figures by clip and version; nan for a share of nothing, such as of a flicker that a
            clip does not have.
        cost: of every version the seconds per frame, and their share of the network's.
        model: figures of the stylizer alone: seconds per frame, noise gain, shift error.
        skipped: reasons, by video.
        not_measured: reasons, by figure.
    """

    default: str
    by_clip: dict[str, dict[str, Figures]] = field(default_factory=dict)
    cost: dict[str, Figures] = field(default_factory=dict)
    model: Figures = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    not_measured: dict[str, str] = field(default_factory=dict)

    def mean(self) -> dict[str, Figures]:
        """Mean of the figures of every version over the clips that have them."""
        return self._over_clips(np.mean)

    def worst(self) -> dict[str, Figures]:
        """Highest figures of every version, but the lowest of those that should be high."""
        highest, lowest = self._over_clips(np.max), self._over_clips(np.min)
        low = ("psnr", "high_frequency_share")
        return {name: highest[name] | {key: lowest[name][key] for key in low} for name in highest}

    def _over_clips(self, merge: Callable[[list[float]], Any]) -> dict[str, Figures]:
        clips = list(self.by_clip.values())
        merged: dict[str, Figures] = {}
        for version in clips[0]:
            merged[version] = {}
            for key in clips[0][version]:
                known = [clip[version][key] for clip in clips if math.isfinite(clip[version][key])]
                merged[version][key] = float(merge(known)) if known else math.nan
        return merged

    def record(self) -> dict[str, Any]:
        """All figures, ready for JSON."""
        figures: dict[str, Any] = {
            "default": self.default,
            "model": self.model,
            "cost": self.cost,
            "mean": self.mean(),
            "worst": self.worst(),
            "by_clip": self.by_clip,
            "skipped": self.skipped,
            "not_measured": self.not_measured,
        }
        return dict(_without_nan(figures))

    def table(self) -> Table:
        """The means for a terminal, a line for each version."""
        table = Table(title=f"means over {len(self.by_clip)} clips; shares are of {PER_FRAME}")
        for head in ("version", *(label for label, _ in _COLUMNS), "cost"):
            table.add_column(head, justify="left" if head == "version" else "right")
        for name, figures in self.mean().items():
            marked = f"{name} (default)" if name == self.default else name
            cells = [digits(figures[key]) for _, key in _COLUMNS]
            table.add_row(marked, *cells, f"{self.cost[name]['share']:.0%}" if name in self.cost else "")
        return table


def _without_nan(figures: Any) -> Any:
    """Replace nan and infinity, which JSON does not have, by None."""
    if isinstance(figures, dict):
        return {key: _without_nan(value) for key, value in figures.items()}
    return None if isinstance(figures, float) and not math.isfinite(figures) else figures


PLOT, FIGURES_FILE = "stability.png", "stability.json"
_COST_FRAMES = 10
_NOTHING = (0.5 / 255) ** 2
"""Warping error of single frames that already hold still: a share of it would be one of rounding."""


def named_style(model: ModelConfig) -> Style | None:
    """Return the style that ``model.checkpoint`` names, or its first; None for a model of no named styles."""
    kind = kind_of(model)
    if not (kind.has_named_styles and (path := kind.weights_file(model))):
        return None
    named = NamedStyles.choose(StyleConfig(), [*read_named_styles(path)], model.checkpoint)
    return named.style(named.names[0], {})


def compare_modes(config: SmoothingBenchmarkConfig, progress: Callable[[str], None] = lambda _: None) -> Comparison:
    """Smooth clips in every mode, measure them, and write what came out to ``config.output``.

    Args:
        config: settings of the benchmark.
        progress: called with what is done next.

    Raises:
        ConfigError: no such model, style, weights or clip; nothing was written.
    """
    try:
        styles = read_styles(StyleConfig(images=config.style))
        vgg, missing = load_vgg(config.taps, config.vgg.weights)
        stylizer = load_stylizer(config.model)
        style = named_style(config.model) or styles[0]
        device = find_device(config.model.device)
        output = Folder(config.output)
    except (OSError, ValueError, CheckpointError) as error:
        raise ConfigError(str(error)) from error
    evaluator = VideoEvaluator(styles, vgg, [tap for tap in config.taps if tap not in missing], device)

    def stylize(frames_nhwc: UInt8Array) -> UInt8Array:
        size = config.model.batch_size or 4
        batches = (frames_nhwc[start : start + size] for start in range(0, len(frames_nhwc), size))
        return np.concatenate([stylizer(batch, [style] * len(batch)) for batch in batches])

    default, versions = smoothing_versions(config)
    comparison = Comparison(default)
    comparison.not_measured.update({f"gram {tap}": reason for tap, reason in missing.items()})
    for excerpt in _excerpts(config, comparison.skipped):
        progress(excerpt.name)
        stylized = stylize(excerpt.source_thwc)
        smoothed = {
            name: smooth(excerpt.source_thwc, stylized, temporal, config.model.device, config.smooth_on)
            for name, temporal in versions.items()
        }
        comparison.by_clip[excerpt.name] = _measure(evaluator, excerpt, smoothed)
        relpath = f"strips/{excerpt.name.replace(' ', '_')}.png"
        output.write_bytes(relpath, _strip(excerpt, smoothed, default))
        if not comparison.model:
            comparison.model["noise_gain"] = noise_gain(stylize, excerpt.source_thwc[:1], seed=config.seed)
            comparison.model["shift_error"] = shift_error(stylize, excerpt.source_thwc[0])
    if not comparison.by_clip:
        raise ConfigError(f"no clip to measure: {comparison.skipped or 'give --videos, or --synthetic'}")
    progress("cost")
    _measure_cost(config, stylize, versions, comparison)
    output.write_bytes(PLOT, stability_plot(comparison))
    record = {
        "command": " ".join(["python", *sys.argv]),
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        **comparison.record(),
    }
    output.write_bytes(FIGURES_FILE, (json.dumps(record, indent=2) + "\n").encode())
    output.remove_scratch()
    return comparison


def smoothing_versions(config: SmoothingBenchmarkConfig) -> tuple[str, dict[str, TemporalConfig]]:
    """The name of the default, and the settings to compare by name, the unsmoothed one first."""
    base = config.temporal
    changes: list[dict[str, object]] = [{"mode": "none"}]
    changes += [{"mode": "gate", "weight": weight} for weight in config.gate_weights]
    changes += [{"mode": "ema", "weight": weight} for weight in config.ema_weights]
    changes += [{"mode": "window", "radius": radius} for radius in config.window_radii]
    settings = [TemporalConfig.model_validate(base.model_dump() | change) for change in changes]
    return _name(base), {_name(each): each for each in (*settings, base)}


def smooth(
    source_thwc: UInt8Array,
    stylized_thwc: UInt8Array,
    temporal: TemporalConfig,
    device: str = "auto",
    smooth_on: str = "auto",
) -> UInt8Array:
    """Smooth a stylized clip; source, stylized and smoothed frames are (T, H, W, 3)."""
    smoother, copies = load_smoother(temporal, device), host_copies(find_device(device))
    if smooth_on == "host" or (smooth_on == "auto" and copies.device.type == "cpu"):
        smoothed = [f for pair in zip(source_thwc, stylized_thwc, strict=True) for f in smoother.push(*pair)]
        return np.stack(smoothed + smoother.flush())
    pairs = zip(map(copies.up, source_thwc), map(copies.up, stylized_thwc), strict=True)
    smoothed = [frame for pair in pairs for frame in smoother.push(*pair)] + smoother.flush()
    return np.stack([download.result() for download in map(copies.down, smoothed)])


def _name(temporal: TemporalConfig) -> str:
    if temporal.mode == "none":
        return PER_FRAME
    how_much = f"±{temporal.radius}" if temporal.mode == "window" else f"{temporal.weight:g}"
    return f"{temporal.mode} {how_much}"


def _excerpts(config: SmoothingBenchmarkConfig, skipped: dict[str, str]) -> Iterator[Excerpt]:
    """Synthetic clips, then excerpts of the videos; ``skipped`` is filled with those that cannot be read."""
    if config.synthetic:
        size = (config.max_side, round(config.max_side * 9 / 16))
        for clip in make_clips(_image(config), size, config.num_frames, config.seed):
            yield Excerpt(clip.name, clip.frames_thwc, clip.motion, clip.cuts)
    if config.videos is None:
        return
    folder = Folder(config.videos)
    if folder.is_file():
        parent, name = os.path.split(config.videos)
        folder, relpaths = Folder(parent or "."), [name]
    elif not folder.exists():
        raise ConfigError(f"videos '{config.videos}' does not exist")
    else:
        relpaths = sorted(info.relpath for info in folder.files() if media_kind(info.relpath) == "video")
    for relpath in relpaths:
        try:
            with folder.local_copy(relpath) as path:
                name = relpath.replace("/", "_")
                excerpt = _read_excerpt(path, name, config)
        except (OSError, MediaError) as error:
            skipped[relpath] = f"{type(error).__name__}: {error}"
        else:
            yield excerpt


def _read_excerpt(path: str, name: str, config: SmoothingBenchmarkConfig) -> Excerpt:
    """An excerpt of a local video; of one that ends before ``start_s`` its beginning.

    Raises:
        MediaError: it cannot be read, or not be measured.
    """
    frames: list[UInt8Array] = []
    for start_s in (config.start_s, 0.0):
        try:
            with VideoReader(path, config.max_side, True, Selection(start_s)) as reader:
                frames = [frame.rgb_hwc for frame in itertools.islice(reader.frames(), config.num_frames)]
        except UnsupportedMediaError:
            if start_s == 0:
                raise
        if len(frames) == config.num_frames:
            break
    return Excerpt.estimate(name, np.stack(frames))


def _image(config: SmoothingBenchmarkConfig) -> UInt8Array | None:
    if config.image is None:
        return None
    folder, name = os.path.split(config.image)
    try:
        return decode_image(Folder(folder or ".").read_bytes(name)).rgb_hwc
    except (OSError, MediaError) as error:
        raise ConfigError(f"image '{config.image}' cannot be read: {error}") from error


def _measure(evaluator: VideoEvaluator, excerpt: Excerpt, versions: dict[str, UInt8Array]) -> dict[str, Figures]:
    """Measure each version, also as shares of the single frames' figures."""
    measured = evaluator(excerpt, versions)
    own = measured.pop(SOURCE)
    single = measured[PER_FRAME]
    for name, figures in measured.items():
        for gap in GAPS:
            key = f"warping_error_{gap}"
            flickers = single[key] > _NOTHING
            figures[f"warping_share_{gap}"] = ratio(figures[key], single[key]) if flickers else math.nan
            figures[f"source_{key}"] = own[key]
        figures["high_frequency_share"] = ratio(figures["high_frequency_energy"], single["high_frequency_energy"])
        figures["gram_share"] = ratio(figures["gram"], single["gram"])
        figures["psnr"] = psnr(versions[name], versions[PER_FRAME])
    return measured


def _strip(excerpt: Excerpt, versions: dict[str, UInt8Array], default: str) -> bytes:
    crop = busiest_crop(versions[PER_FRAME], excerpt.motion)
    middle = excerpt.cuts[0] if excerpt.cuts else len(excerpt.source_thwc) // 2
    labeled = {f"{name}\n(default)" if name == default else name: versions[name] for name in versions}
    buffer = io.BytesIO()
    drawn = strip({SOURCE: excerpt.source_thwc, **labeled}, crop, max(0, middle - 2))
    drawn.save(buffer, "PNG", compress_level=1)  # the default takes a third of the time of a small benchmark
    return buffer.getvalue()


def _measure_cost(
    config: SmoothingBenchmarkConfig,
    stylize: StylizeFrames,
    versions: dict[str, TemporalConfig],
    comparison: Comparison,
) -> None:
    """Measure seconds per frame of the network and of every smoother, one after the other."""
    clip = next(c for c in make_clips(None, config.cost_size, _COST_FRAMES) if c.name == "sprites")
    stylize(clip.frames_thwc[:1])  # the first call pays for what the others use
    started = time.perf_counter()
    stylized = stylize(clip.frames_thwc)
    model_s = (time.perf_counter() - started) / _COST_FRAMES
    comparison.model["seconds_per_frame"] = model_s
    for name, temporal in versions.items():
        if name != PER_FRAME:
            started = time.perf_counter()
            smooth(clip.frames_thwc, stylized, temporal, config.model.device, config.smooth_on)
            seconds = (time.perf_counter() - started) / _COST_FRAMES
            comparison.cost[name] = {"seconds_per_frame": seconds, "share": seconds / model_s}


_COLORS = {"per": "#555555", "gate": "#c98a1b", "ema": "#c0392b", "window": "#2b6cb0"}
_GOOD = "#e3f1e1"
STEADY, SHARP, STYLED = 0.35, 0.9, 1.05
"""A good setting's shares of the single frames' warping error, fine texture and Gram error."""


def stability_plot(comparison: Comparison) -> bytes:
    """PNG: every version by how steady it is, against the texture and the style that it keeps.

    Lower is steadier; the green corner has both. Lines join the settings of one mode.
    """
    means = comparison.mean()
    with_style = math.isfinite(means[PER_FRAME]["gram_share"])
    num_clips = len(comparison.by_clip)
    label = f"shares of {PER_FRAME}, means over {num_clips} clips; small dots: the default, clip by clip"
    figure = Figure(figsize=(11 if with_style else 6, 4.8), layout="constrained")
    panels = figure.subplots(1, 1 + with_style, sharey=True, squeeze=False)[0]
    _panel(panels[0], comparison, "high_frequency_share")
    panels[0].set_ylim(bottom=0)
    panels[0].set_ylabel("flicker left (warping error); lower is steadier")
    panels[0].set_xlabel("fine texture kept (high-frequency energy); right is sharper")
    _good_corner(panels[0], SHARP, panels[0].get_xlim()[1])
    if with_style:
        _panel(panels[1], comparison, "gram_share")
        panels[1].set_xlabel("distance to the style (Gram error); right is closer")
        panels[1].invert_xaxis()
        _good_corner(panels[1], STYLED, panels[1].get_xlim()[1])
    figure.suptitle(label, fontsize=10)
    return png(figure)


def _panel(axes: Axes, comparison: Comparison, key: str) -> None:
    means = comparison.mean()
    families: dict[str, list[str]] = {}
    for name in means:
        families.setdefault(name.split()[0], []).append(name)
    for family, names in families.items():
        points = [(means[name][key], means[name]["warping_share_1"]) for name in names]
        color = _COLORS[family]
        axes.plot(*zip(*points, strict=True), "-o", color=color, markersize=6, linewidth=1.2, zorder=3)
        right = family == "window"  # labels of neighboring lines keep out of each other's way
        for name, point in zip(names, points, strict=True):
            is_default = name == comparison.default
            axes.annotate(
                f"{name} (default)" if is_default else name,
                point,
                (9, -11) if right else (-9, 4),
                textcoords="offset points",
                ha="left" if right else "right",
                fontsize=9,
                fontweight="bold" if is_default else "normal",
                color=color,
                zorder=5,
            )
    for clip in comparison.by_clip.values():
        own = clip[comparison.default]
        axes.plot(own[key], own["warping_share_1"], ".", color=_COLORS["window"], alpha=0.3, markersize=5)
    best = means[comparison.default]
    axes.plot(best[key], best["warping_share_1"], "o", markersize=15, fillstyle="none", color="black", zorder=4)


def _good_corner(axes: Axes, threshold: float, edge: float) -> None:
    axes.add_patch(Rectangle((threshold, 0), edge - threshold, STEADY, color=_GOOD, zorder=0))
    axes.annotate("goal", (threshold, STEADY), (5, -12), textcoords="offset points", fontsize=9, color="#4b7a46")
    far = axes.get_xlim()[0]
    margin = 0.2 * (edge - threshold)  # the corner's end is in view, however good all points are
    axes.set_xlim(min(far, threshold - margin) if edge > threshold else max(far, threshold - margin), edge)


def main() -> int:
    """Compare; the exit code is 0 done, 2 bad configuration."""
    config = parse_config(SmoothingBenchmarkConfig)
    logging.basicConfig(format="%(message)s")
    try:
        with Console(stderr=True).status("reading") as status:
            comparison = compare_modes(config, status.update)
    except ConfigError as error:
        print(f"error: {error}", file=sys.stderr)
        return 2
    console().print(comparison.table())
    for video, reason in comparison.skipped.items():
        print(f"left out: {video}: {reason}")
    print(f"plot, strips and figures: {config.output}")
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
