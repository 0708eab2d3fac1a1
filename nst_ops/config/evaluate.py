"""Configuration of ``nst-ops evaluate``."""

from __future__ import annotations

from typing import ClassVar

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveInt

from nst_ops.config.base import JobConfig, StrictModel
from nst_ops.config.text import ClipConfig, StyleText


class VGGConfig(StrictModel):
    """VGG19, whose features are compared; each tap that its weights lack is reported as not measured."""

    weights: str | None = None
    """File (.safetensors, .pth) with torchvision's keys. Default: torchvision's own for ImageNet, downloaded once."""


class ClassifierConfig(StrictModel):
    """Classifier of ImageNet that tells whether images still show what they showed: for stylized training sets."""

    weights: str | None = None
    """File (.safetensors, .pth) with torchvision's keys. Default: labels are not measured."""
    architecture: str = "squeezenet1_0"
    """Network that the weights are of, by torchvision's name: resnet50, vit_b_16."""


class TapsConfig(StrictModel):
    """Layers of VGG19 at which images are compared."""

    style: tuple[str, ...] = ("relu1_1", "relu2_1", "relu3_1", "relu4_1", "relu5_1")
    """Layers of the Gram, mean/std and sliced Wasserstein errors; by default those of Gatys et al. 2016."""
    content: tuple[str, ...] = ("relu3_1", "relu4_2")
    """Layers of the content errors."""
    distribution: tuple[str, ...] = ("relu2_2", "relu3_4")
    """Layers of the Fréchet distances of channel means: 128 and 256 numbers for each image."""


class PageConfig(StrictModel):
    """Contents of the page."""

    renamed: ClassVar[dict[str, str]] = {"pictures": "images"}
    images: NonNegativeInt = 4
    """Images shown of the best, of those around the median, and of the worst."""
    rank_by: str = "gram"
    """Metric that ranks the images: gram, mean_std, swd, palette, ssim, edge_f1, content_relu3_1."""


class ExcerptConfig(StrictModel):
    """Part of each video that is measured, with --temporal."""

    start_s: NonNegativeFloat = 0.0
    """Begin this many seconds into each stylized video."""
    num_frames: int = Field(default=60, ge=3)
    """Frames from there on, at most."""


class EvaluateConfig(JobConfig):
    """Evaluate a finished run: the look of its images, or with --temporal how steady its videos are."""

    epilog: ClassVar[str] = """\
    examples:
      nst-ops evaluate --run out/photos --style starry_night.jpg --output out/photos_evaluated
      nst-ops evaluate --run out/anime --style anime_faces --style_side 96 --output out/anime_evaluated
      nst-ops evaluate --temporal --run out/clips --style starry_night.jpg --output out/clips_evaluated
      ... --vgg.weights vgg19.safetensors --device cuda --batch_size 16
      ... --classifier.weights resnet50.pth --classifier.architecture resnet50     (are labels kept?)
      ... --text "an oil painting of waves" --clip.weights open_clip_model.safetensors     (do they fit the words?)

    Every image of the run whose row in the manifest is ok is evaluated; videos are left out, and counted.
    With --temporal it is the other way round: how steady each video is, frame against frame.
    An image whose row names a style that is among the references is compared with that one alone, every
    other image with their average.
    exit codes: 0 all evaluated, 3 finished with some files that could not be read, 2 bad configuration,
    run or style, 1 stopped or fatal (disk full)."""
    run: str = Field(min_length=1)
    """OUTPUT folder of nst-ops stylize: a path or a URI."""
    style: str | None = Field(default=None, min_length=1)
    """Reference style image, or a folder of them: a path or a URI. Default, for a checkpoint of many styles: the small
    pictures of the paintings that it holds, whose colors can be trusted more than their textures."""
    output: str = Field(min_length=1)
    """Folder to write: index.html, metrics.parquet, summary.json, plots."""
    temporal: bool = False
    """Evaluate the videos of the run instead of its images: do they flicker?"""
    excerpt: ExcerptConfig = ExcerptConfig()
    vgg: VGGConfig = VGGConfig()
    classifier: ClassifierConfig = ClassifierConfig()
    text: StyleText | None = None
    """Words that the images are compared with, by CLIP, if clip.weights are given. Default: style.text of the run."""
    clip: ClipConfig = ClipConfig()
    taps: TapsConfig = TapsConfig()
    page: PageConfig = PageConfig()
    max_side: int = Field(default=512, ge=32)
    """Longer side in pixels at which images and frames are evaluated; smaller ones keep their size."""
    style_side: int | None = Field(default=None, ge=32)
    """Shorter side in pixels of style images, for strokes as large as the outputs'. Default: their own, at most 512."""
    style_limit: PositiveInt = 256
    """Style images used at most; of more, an evenly spread choice."""
    limit: PositiveInt | None = None
    """Images or videos evaluated at most; of more, an evenly spread choice. Default: all."""
    batch_size: PositiveInt = 4
    """Images of one size that VGG takes at once."""
    device: str = "auto"
    """Device of VGG: auto (a GPU if there is one), cpu, cuda, cuda:1."""
    threads: PositiveInt = 2
    """Threads that read and decode images ahead."""
    seed: int = 0
    """Seed of the random projections of the sliced Wasserstein error and of the random halves."""
