"""The bottleneck of a run: the stage that its workers were busy with longest, and the keys that would help."""

from __future__ import annotations

from dataclasses import asdict

from nst_ops.config import StylizeConfig
from nst_ops.pipeline.prefetch import Timings

_FEW = 0.5  # share of the time below which no stage is to blame


def bottleneck(timings: Timings, worker_s: float, config: StylizeConfig, on_gpu: bool, has_videos: bool) -> str:
    """Return a line that names the slowest stage, its share of the workers' time, and what would make it quicker.

    ``timings`` are of all workers together, ``worker_s`` the seconds that they had. Stages run side by side, so that a
    run takes as long as its slowest one; empty without work.
    """
    seconds = asdict(timings)
    del seconds["wait_s"]
    stage = max(seconds, key=lambda name: seconds[name])
    share = seconds[stage] / max(worker_s, 1e-9)
    if not seconds[stage]:
        return ""
    if share < _FEW:
        return f"no stage: workers had nothing to do for {1 - share:.0%} of the time, by starting or with too few files"
    name = {"decode_s": "decoding", "stylize_s": "the network", "smooth_s": "smoothing", "encode_s": "encoding"}[stage]
    remedies = " or ".join(_remedies(stage, config, on_gpu, has_videos))
    return f"{name}, {min(share, 1):.0%} of the time; quicker with {remedies}"


def _remedies(stage: str, config: StylizeConfig, on_gpu: bool, has_videos: bool) -> list[str]:
    """Return what would make a stage quicker, most effective first: keys with values that this run does not have."""
    # Decoder, smoothing and encoder run on CPU cores. A second worker on the same GPU gives them a second set.
    more_workers = ["--workers.gpus 0.5"] if on_gpu and config.workers.gpus is None else []
    smaller = ["a smaller --resize.max_side"]
    if stage == "stylize_s":
        return [*smaller, "more GPUs" if on_gpu else "a GPU"]
    if stage == "smooth_s":
        mode = ["--temporal.mode ema"] if config.temporal.mode == "window" else ["--temporal.mode none"]
        return [*mode, *smaller, *more_workers]
    if stage == "encode_s" and has_videos and config.video.preset not in ("ultrafast", "veryfast"):
        return ["--video.preset veryfast", *more_workers]
    if stage == "encode_s":
        return [*smaller, *more_workers]
    return more_workers or ["more CPU cores"]
