"""The smoothing modes of a stylizer beside each other: how still, how faithful, how sharp, how dear."""

from __future__ import annotations

import io
import json
import math
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator

import numpy as np

from nst_ops.config import ConfigError, TemporalConfig
from nst_ops.config.stylize import StyleConfig
from nst_ops.config.temporal_benchmark import TemporalBenchmarkConfig
from nst_ops.evaluation.features import load_judge
from nst_ops.evaluation.temporal.comparison import PER_FRAME, Comparison, Figures
from nst_ops.evaluation.temporal.excerpts import Excerpt, of_clip, read_excerpt
from nst_ops.evaluation.temporal.figures import GAPS, SOURCE, Gauge, ratio
from nst_ops.evaluation.temporal.plots import stability_plot
from nst_ops.evaluation.temporal.strips import busiest_crop, strip
from nst_ops.media.errors import MediaError
from nst_ops.media.formats import media_kind
from nst_ops.media.images import UInt8Array, decode_image
from nst_ops.models.checkpoint import CheckpointError
from nst_ops.storage import Folder
from nst_ops.stylizers import load_stylizer
from nst_ops.stylizers.device import choose_device
from nst_ops.stylizers.styles import read_styles
from nst_ops.temporal.metrics import Paint, noise_gain, psnr, shift_error
from nst_ops.temporal.smoothing import load_smoother
from nst_ops.temporal.synthetic import make_clips

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
    labelled = {f"{name}\n(default)" if name == default else name: versions[name] for name in versions}
    buffer = io.BytesIO()
    strip({SOURCE: excerpt.source_thwc, **labelled}, crop, max(0, middle - 2)).save(buffer, "PNG")
    return buffer.getvalue()


def _measure_cost(
    config: TemporalBenchmarkConfig, paint: Paint, versions: dict[str, TemporalConfig], into: Comparison
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
