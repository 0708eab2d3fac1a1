"""Configuration of ``jobs/benchmark_temporal.py``."""

from __future__ import annotations

import io
import json
import math
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any, ClassVar

import numpy as np
from pydantic import Field, NonNegativeFloat, PositiveInt
from rich.table import Table

from benchmarks.synthetic_clips import make_clips
from nst_ops.config import ConfigError, TemporalConfig
from nst_ops.config.base import JobConfig
from nst_ops.config.evaluate import VGGConfig
from nst_ops.config.stylize import ModelConfig, StyleConfig
from nst_ops.evaluation.distribution import load_judge
from nst_ops.evaluation.image_report import show
from nst_ops.evaluation.video_metrics import GAPS, SOURCE, Excerpt, Gauge, of_clip, ratio, read_excerpt
from nst_ops.evaluation.video_report import busiest_crop, stability_plot, strip
from nst_ops.media.errors import MediaError
from nst_ops.media.formats import media_kind
from nst_ops.media.images import UInt8Array, decode_image
from nst_ops.models.checkpoint import CheckpointError
from nst_ops.storage import Folder
from nst_ops.stylizers import load_stylizer
from nst_ops.stylizers.device import choose_device
from nst_ops.stylizers.style_images import read_styles
from nst_ops.temporal.metrics import StylizeFrames, noise_gain, psnr, shift_error
from nst_ops.temporal.smoothing import load_smoother

_EPILOG = """\
examples:
  python jobs/benchmark_temporal.py --style starry_night.jpg --output out/stability
  python jobs/benchmark_temporal.py --style starry_night.jpg --videos clips --output out/stability
  ... --temporal.radius 3 --temporal.detail 0.8    # another default, held against all others

Each clip is stylized once, frame by frame, and then smoothed in every mode. Written are stability.png,
strips of frames for each clip, and stability.json with the figures of every clip and mode.
"""


class TemporalBenchmarkConfig(JobConfig):
    """Compare the smoothing modes of a stylizer: how still, how faithful, how sharp, how dear."""

    epilog: ClassVar[str] = _EPILOG

    output: str = Field(min_length=1)
    """Folder to write: stability.json, stability.png, strips/."""
    style: str = Field(min_length=1)
    """Picture of the style: a path or a URI. Networks that take any style get it, too."""
    model: ModelConfig = ModelConfig()
    temporal: TemporalConfig = TemporalConfig()
    """The setting that is marked as the default; what the others do not vary is taken from it."""
    gate_weights: tuple[float, ...] = (0.7,)
    """Weights at which gate is tried."""
    ema_weights: tuple[float, ...] = (0.5, 0.7, 0.8)
    """Weights at which ema is tried."""
    window_radii: tuple[int, ...] = (1, 2, 3)
    """Radii at which window is tried."""
    synthetic: bool = True
    """Take clips whose motion is known exactly: pans, zoom, sprites, exposure, noise, cut."""
    picture: str | None = None
    """Picture that the synthetic clips are made of. Default: a texture drawn for it."""
    videos: str | None = None
    """Video, or folder of them, to take too; their motion is estimated."""
    start_s: NonNegativeFloat = 1.0
    """Seconds into each video; of shorter ones the beginning."""
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
    """Of textures and noise."""


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
    """What the benchmark found.

    Attributes:
        default: name of the version that is marked.
        by_clip: figures of every clip and version; nan for a share of nothing, as of a flicker that a
            clip does not have.
        cost: of every version the seconds for a frame, and as a share of the network's.
        model: of the stylizer alone: seconds a frame, noise gain, shift error.
        skipped: why, by video.
        not_measured: why, by figure.
    """

    default: str
    by_clip: dict[str, dict[str, Figures]] = field(default_factory=dict)
    cost: dict[str, Figures] = field(default_factory=dict)
    model: Figures = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    not_measured: dict[str, str] = field(default_factory=dict)

    def mean(self) -> dict[str, Figures]:
        """Of every version the mean of its figures over the clips that have them."""
        return self._over_clips(np.mean)

    def worst(self) -> dict[str, Figures]:
        """Of every version its highest figures, but the lowest of what should be high."""
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
        """All of it, as JSON takes it."""
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
        """For a terminal: the means, a line for each version."""
        table = Table(title=f"means over {len(self.by_clip)} clips; shares are of {PER_FRAME}")
        for head in ("version", *(label for label, _ in _COLUMNS), "cost"):
            table.add_column(head, justify="left" if head == "version" else "right")
        for name, figures in self.mean().items():
            marked = f"{name} (default)" if name == self.default else name
            cells = [show(figures[key]) if math.isfinite(figures[key]) else "" for _, key in _COLUMNS]
            table.add_row(marked, *cells, f"{self.cost[name]['share']:.0%}" if name in self.cost else "")
        return table


def _without_nan(figures: Any) -> Any:
    """JSON has no nan and no infinity."""
    if isinstance(figures, dict):
        return {key: _without_nan(value) for key, value in figures.items()}
    return None if isinstance(figures, float) and not math.isfinite(figures) else figures


PLOT, FIGURES_FILE = "stability.png", "stability.json"
_COST_FRAMES = 10
_NOTHING = (0.5 / 255) ** 2
"""Warping error of single frames that already hold still: a share of it would be one of rounding."""


def compare_modes(
    config: TemporalBenchmarkConfig, progress: Callable[[str], None] = lambda _: None
) -> Comparison:
    """Smooth clips in every mode, measure them, and write what came out to ``config.output``.

    Args:
        config: of the benchmark.
        progress: told what is done next.

    Raises:
        ConfigError: no such model, style, weights or clip; nothing was written.
    """
    try:
        styles = read_styles(StyleConfig(images=config.style))
        vgg, lacking = load_judge(config.taps, config.vgg.weights)
        stylizer = load_stylizer(config.model)
        device = choose_device(config.model.device, "fp32")[0]
        output = Folder(config.output)
    except (OSError, ValueError, CheckpointError) as error:
        raise ConfigError(str(error)) from error
    gauge = Gauge(styles, vgg, [tap for tap in config.taps if tap not in lacking], device)

    def paint(frames_nhwc: UInt8Array) -> UInt8Array:
        starts = range(0, len(frames_nhwc), config.model.batch_size)
        batches = (frames_nhwc[start : start + config.model.batch_size] for start in starts)
        return np.concatenate([stylizer(batch, styles[:1] * len(batch)) for batch in batches])

    default, versions = smoothing_versions(config)
    comparison = Comparison(default)
    comparison.not_measured.update({f"gram {tap}": reason for tap, reason in lacking.items()})
    for excerpt in _excerpts(config, comparison.skipped):
        progress(excerpt.name)
        painted = paint(excerpt.source_thwc)
        smoothed = {
            name: smooth(excerpt.source_thwc, painted, temporal, config.model.device)
            for name, temporal in versions.items()
        }
        comparison.by_clip[excerpt.name] = _measure(gauge, excerpt, smoothed)
        relpath = f"strips/{excerpt.name.replace(' ', '_')}.png"
        output.write_bytes(relpath, _strip(excerpt, smoothed, default))
        if not comparison.model:
            comparison.model["noise_gain"] = noise_gain(paint, excerpt.source_thwc[:1], seed=config.seed)
            comparison.model["shift_error"] = shift_error(paint, excerpt.source_thwc[0])
    if not comparison.by_clip:
        raise ConfigError(f"no clip to measure: {comparison.skipped or 'give --videos, or --synthetic'}")
    progress("cost")
    _measure_cost(config, paint, versions, comparison)
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


def smoothing_versions(config: TemporalBenchmarkConfig) -> tuple[str, dict[str, TemporalConfig]]:
    """Settings to compare, by the name of each, the unsmoothed one first; and the name of the default."""
    base = config.temporal
    changes: list[dict[str, object]] = [{"mode": "none"}]
    changes += [{"mode": "gate", "weight": weight} for weight in config.gate_weights]
    changes += [{"mode": "ema", "weight": weight} for weight in config.ema_weights]
    changes += [{"mode": "window", "radius": radius} for radius in config.window_radii]
    settings = [TemporalConfig.model_validate(base.model_dump() | change) for change in changes]
    return _name(base), {_name(each): each for each in (*settings, base)}


def smooth(
    source_thwc: UInt8Array, painted_thwc: UInt8Array, temporal: TemporalConfig, device: str = "auto"
) -> UInt8Array:
    """A stylized clip smoothed: (T, H, W, 3) of both to the same."""
    smoother = load_smoother(temporal, device)
    frames: list[UInt8Array] = []
    for source_hwc, painted_hwc in zip(source_thwc, painted_thwc, strict=True):
        frames += smoother.push(source_hwc, painted_hwc)
    return np.stack(frames + smoother.flush())


def _name(temporal: TemporalConfig) -> str:
    if temporal.mode == "none":
        return PER_FRAME
    how_much = f"±{temporal.radius}" if temporal.mode == "window" else f"{temporal.weight:g}"
    return f"{temporal.mode} {how_much}"


def _excerpts(config: TemporalBenchmarkConfig, skipped: dict[str, str]) -> Iterator[Excerpt]:
    """Synthetic clips, then excerpts of the videos; ``skipped`` learns of those that cannot be taken."""
    if config.synthetic:
        size = (config.max_side, round(config.max_side * 9 / 16))
        for clip in make_clips(_picture(config), size, config.num_frames, config.seed):
            yield of_clip(clip)
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
                excerpt = read_excerpt(path, name, config.start_s, config.num_frames, config.max_side)
        except (OSError, MediaError) as error:
            skipped[relpath] = f"{type(error).__name__}: {error}"
        else:
            yield excerpt


def _picture(config: TemporalBenchmarkConfig) -> UInt8Array | None:
    if config.picture is None:
        return None
    folder, name = os.path.split(config.picture)
    try:
        return decode_image(Folder(folder or ".").read_bytes(name)).rgb_hwc
    except (OSError, MediaError) as error:
        raise ConfigError(f"picture '{config.picture}' cannot be read: {error}") from error


def _measure(gauge: Gauge, excerpt: Excerpt, versions: dict[str, UInt8Array]) -> dict[str, Figures]:
    """Figures of each version, also as shares of those of the single frames."""
    measured = gauge(excerpt, versions)
    own = measured.pop(SOURCE)
    alone = measured[PER_FRAME]
    for name, figures in measured.items():
        for gap in GAPS:
            key = f"warping_error_{gap}"
            flickers = alone[key] > _NOTHING
            figures[f"warping_share_{gap}"] = ratio(figures[key], alone[key]) if flickers else math.nan
            figures[f"source_{key}"] = own[key]
        figures["high_frequency_share"] = ratio(
            figures["high_frequency_energy"], alone["high_frequency_energy"]
        )
        figures["gram_share"] = ratio(figures["gram"], alone["gram"])
        figures["psnr"] = psnr(versions[name], versions[PER_FRAME])
    return measured


def _strip(excerpt: Excerpt, versions: dict[str, UInt8Array], default: str) -> bytes:
    crop = busiest_crop(versions[PER_FRAME], excerpt.motion)
    middle = excerpt.cuts[0] if excerpt.cuts else len(excerpt.source_thwc) // 2
    labeled = {f"{name}\n(default)" if name == default else name: versions[name] for name in versions}
    buffer = io.BytesIO()
    strip({SOURCE: excerpt.source_thwc, **labeled}, crop, max(0, middle - 2)).save(buffer, "PNG")
    return buffer.getvalue()


def _measure_cost(
    config: TemporalBenchmarkConfig,
    paint: StylizeFrames,
    versions: dict[str, TemporalConfig],
    into: Comparison,
) -> None:
    """Seconds for a frame of the network and of every smoother, one after the other."""
    clip = next(c for c in make_clips(None, config.cost_size, _COST_FRAMES) if c.name == "sprites")
    paint(clip.frames_thwc[:1])  # the first call pays for what the others use
    started = time.perf_counter()
    painted = paint(clip.frames_thwc)
    model_s = (time.perf_counter() - started) / _COST_FRAMES
    into.model["seconds_per_frame"] = model_s
    for name, temporal in versions.items():
        if name != PER_FRAME:
            started = time.perf_counter()
            smooth(clip.frames_thwc, painted, temporal, config.model.device)
            seconds = (time.perf_counter() - started) / _COST_FRAMES
            into.cost[name] = {"seconds_per_frame": seconds, "share": seconds / model_s}
