"""Configuration of ``jobs/evaluate.py``."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveInt

from nst_ops.config.base import JobConfig, StrictModel


class VGGConfig(StrictModel):
    """The VGG19 whose features judge; each tap that its weights lack is reported as not measured."""

    weights: str | None = None
    """A local file (.safetensors, .pth) with torchvision's keys. Default: torchvision's own ImageNet
    weights, downloaded once."""


class TapsConfig(StrictModel):
    """Layers of VGG19 at which pictures are compared."""

    style: tuple[str, ...] = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1")
    """Gram, mean/std and sliced Wasserstein errors; the defaults are those of Gatys et al. 2016."""
    content: tuple[str, ...] = ("relu3_1", "relu4_2")
    """Content errors."""
    distribution: tuple[str, ...] = ("relu2_2", "relu3_4")
    """Fréchet distances, of the channel means: 128 and 256 numbers for each picture."""


class PageConfig(StrictModel):
    """What the page shows."""

    pictures: NonNegativeInt = 4
    """Pictures shown of the best, of those around the median, and of the worst."""
    rank_by: str = "gram"
    """Metric that says which are the best: gram, mean_std, swd, palette, ssim, edge_f1, content_relu3_1."""


class ExcerptConfig(StrictModel):
    """What of each video is looked at, with --temporal."""

    start_s: NonNegativeFloat = 0.0
    """Seconds into each stylized video."""
    num_frames: int = Field(default=60, ge=3)
    """Frames from there on, at most."""


_EPILOG = """\
Any key may stand in a YAML file (--config) or on the command line; the command line wins.

examples:
  python jobs/evaluate.py --run out/photos --style starry_night.jpg --output out/photos_judged
  python jobs/evaluate.py --run out/anime --style anime_faces --style_side 96 --output out/anime_judged
  python jobs/evaluate.py --temporal --run out/clips --style starry_night.jpg --output out/clips_judged
  ... --vgg.weights vgg19.safetensors --device cuda --batch_size 16

Every picture of the run whose row in the manifest is ok is judged; videos are left out, and counted.
With --temporal it is the other way round: how still each video holds, frame against frame.
A picture whose row names a style that is among the references is held against that one alone, every
other one against their average.
exit codes: 0 all judged, 3 finished with some files that could not be read, 2 bad configuration,
run or style, 1 fatal (disk full).
"""


class EvaluateConfig(JobConfig):
    """Judge a finished run: the look of its pictures, or with --temporal how still its videos hold."""

    epilog: ClassVar[str] = _EPILOG

    run: str = Field(min_length=1)
    """OUTPUT folder of jobs/stylize_dataset.py: a path or a URI."""
    style: str = Field(min_length=1)
    """Reference style picture, or a folder of them: a path or a URI."""
    output: str = Field(min_length=1)
    """Folder to write: index.html, metrics.parquet, summary.json, plots."""
    temporal: bool = False
    """Judge the videos of the run instead of its pictures: do they flicker?"""
    excerpt: ExcerptConfig = ExcerptConfig()
    vgg: VGGConfig = VGGConfig()
    taps: TapsConfig = TapsConfig()
    page: PageConfig = PageConfig()
    max_side: int = Field(default=512, ge=32)
    """Longer side in pixels at which pictures and frames are judged; smaller ones stay as they are."""
    style_side: int | None = Field(default=None, ge=32)
    """Shorter side in pixels to which style pictures are resized: their strokes should be as large as
    the outputs'. Default: as they are, but at most 512."""
    style_limit: PositiveInt = 256
    """Style pictures used at most; of more, an evenly spread choice."""
    limit: PositiveInt | None = None
    """Pictures or videos judged at most; of more, an evenly spread choice. Default: all."""
    batch_size: PositiveInt = 4
    """Pictures of one size that the network takes at once."""
    device: str = "auto"
    """auto (a GPU if there is one), cpu, cuda, cuda:1."""
    threads: PositiveInt = 2
    """Threads that read and decode pictures ahead."""
    seed: int = 0
    """Of random projections and halves."""
