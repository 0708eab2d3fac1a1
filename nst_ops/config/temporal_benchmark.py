"""Configuration of ``jobs/benchmark_temporal.py``."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field, NonNegativeFloat, PositiveInt

from nst_ops.config.base import JobConfig
from nst_ops.config.evaluate import VGGConfig
from nst_ops.config.stylize import ModelConfig, TemporalConfig

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
