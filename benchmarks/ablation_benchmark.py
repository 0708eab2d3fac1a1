"""Train recipes of ViT-AdaIN on the same data, one after the other, and compare what they make.

Run it from the root of the repository: ``python benchmarks/ablation_benchmark.py --help``; see
configs/ablation.yaml.
"""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Self

import numpy as np
import torch
from pydantic import Field, PositiveInt, ValidationError, model_validator
from rich.console import Console
from rich.progress import track
from torch import Tensor

from nst_ops.config import ConfigError, FatalError, parse_config
from nst_ops.config.base import JobConfig
from nst_ops.config.evaluate import TapsConfig
from nst_ops.config.training import DataConfig, TrainVitAdainConfig
from nst_ops.evaluation.evaluator import Evaluator, load_vgg, make_pairs
from nst_ops.evaluation.metrics import ImageResults
from nst_ops.media.errors import MediaError
from nst_ops.media.formats import media_kind
from nst_ops.media.images import UInt8Array, decode_image
from nst_ops.storage import Folder
from nst_ops.stylizers import Style
from nst_ops.training.data import Batches, ImageSet, square, to_tensor
from nst_ops.training.grid import png_bytes, sheet, stylize, to_pixels
from nst_ops.training.loop import Recorder, Speed, train
from nst_ops.training.progress import ProgressTracker
from nst_ops.training.setup import read_setup
from nst_ops.training.step import StepFigures
from nst_ops.training.tracking import History

_EPILOG = """\
example:
  python benchmarks/ablation_benchmark.py --config configs/ablation.yaml --data.content faces \\
      --data.style anime --test other_faces --vgg_weights vgg19.safetensors --output runs/ablation

OUTPUT/ablation.md is the table, OUTPUT/ablation.png the same faces by every recipe; both grow with each.
exit codes: 0 done, 2 bad configuration, data or output, 1 diverged or fatal.
"""


class AblationConfig(JobConfig):
    """Train recipes of ViT-AdaIN on the same data for the same steps, and measure them alike."""

    epilog: ClassVar[str] = _EPILOG

    data: DataConfig
    """Images that all recipes learn from; those of data.style are also what they are compared with."""
    test: str = Field(min_length=1)
    """Folder of content images that no recipe has seen, a path or a URI."""
    test_limit: PositiveInt = 100
    """Number of those that are measured; of more, an evenly spread choice."""
    references: PositiveInt = 128
    """Images of data.style that outputs are compared with; of more, an evenly spread choice."""
    output: str = Field(min_length=1)
    """Folder to write: ablation.md, ablation.json, ablation.png."""
    vgg_weights: str | None = None
    """File with the weights of the VGG19 for training and measuring. Default: torchvision's."""
    base: dict[str, Any] = Field(default={})
    """Sections of the first recipe, keys as in configs/train_vit_adain.yaml."""
    recipes: dict[str, dict[str, Any]] = Field(min_length=1)
    """Changes of each recipe, by its name, to the recipe before it."""
    threads: PositiveInt | None = None
    """CPU threads. Default: all cores."""

    def runs(self) -> dict[str, TrainVitAdainConfig]:
        """Return the configuration of each recipe by its name."""
        common = {"data": self.data.model_dump(), "loss": {"weights": self.vgg_weights}, "output": self.output}
        recipe, runs = merged(self.base, common), {}
        for name, changes in self.recipes.items():
            recipe = merged(recipe, changes)
            runs[name] = TrainVitAdainConfig.model_validate(recipe)
        return runs

    @model_validator(mode="after")
    def _recipes_are_valid(self) -> Self:
        try:
            sizes = {run.train.image_size for run in self.runs().values()}
        except ValidationError as error:
            reasons = "; ".join(f"{'.'.join(map(str, e['loc']))}: {e['msg']}" for e in error.errors())
            raise ValueError(f"recipes: {reasons}") from error
        if len(sizes) > 1:
            raise ValueError("recipes: all must have one train.image_size, or they cannot be compared")
        return self


def merged(base: dict[str, Any], changes: dict[str, Any]) -> dict[str, Any]:
    """Lay ``changes`` on ``base``, section by section; what is no section, such as taps, is replaced."""
    result = dict(base)
    for key, value in changes.items():
        old = result.get(key)
        section = isinstance(old, dict) and isinstance(value, dict) and key not in ("taps", "scales")
        result[key] = merged(old, value) if section else value  # type: ignore[arg-type]
    return result


_log = logging.getLogger(__name__)

TABLE, FIGURES, PICTURE = "ablation.md", "ablation.json", "ablation.png"
CONTENT = "the content images themselves"
_SHOWN = 8
_METRICS = {"gram": "Gram error ↓", "palette": "palette ↓", "content_relu3_1": "content ↓", "ssim": "SSIM ↑"}


@dataclass(frozen=True)
class Result:
    """Results of a recipe on the images of the test.

    Attributes:
        recipe: name of the recipe.
        metrics: by name, means over the images, and ``frechet_<tap>`` of the set.
        images_per_s: speed of its training.
        parameters: number of parameters of its network.
    """

    recipe: str
    metrics: dict[str, float]
    images_per_s: float
    parameters: int


def ablate(config: AblationConfig) -> str:
    """Train and measure every recipe of ``config``.

    Returns:
        The table, as Markdown; it is in the output too, with the figures and an image, after every recipe.

    Raises:
        ConfigError: data, weights or output that cannot be used.
        nst_ops.training.step.DivergedError: a recipe's losses stayed non-finite.
    """
    runs, output = config.runs(), Folder(config.output)
    first = next(iter(runs.values()))
    torch.set_num_threads(config.threads or torch.get_num_threads())
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    content = _images(config.data.content, first.resize, config.data.limit, "data.content")
    styles = _images(config.data.style or "", first.style_resize, config.data.limit, "data.style")
    side = first.train.image_size
    tested = to_tensor(np.stack(list(_squares(config.test, side, config.test_limit, "test").values())))
    squares = _squares(config.data.style or "", side, config.references, "data.style")
    references = [Style(name, picture) for name, picture in squares.items()]
    drawn = np.random.default_rng(0).integers(len(references), size=len(tested))
    shown_styles = to_tensor(np.stack([references[index].pixels_hwc for index in drawn]))
    try:
        taps = TapsConfig()
        vgg, missing = load_vgg({*taps.style, *taps.content, *taps.distribution}, config.vgg_weights)
    except FileNotFoundError as error:
        raise ConfigError(f"vgg_weights: {error}") from error

    evaluator = Evaluator(references, vgg, missing=missing, device=device)

    def figures(stylized: Tensor) -> dict[str, float]:
        return _figures(evaluator(make_pairs(tested, stylized)))

    results = [Result(CONTENT, figures(tested), 0.0, 0)]
    rows: dict[str, Tensor] = {"content": tested[:_SHOWN], "style": shown_styles[:_SHOWN]}
    for name, run in runs.items():
        _log.info("recipe '%s'", name)
        stylized, speed, parameters = _train(run, content, styles, tested, shown_styles, device)
        results.append(Result(name, figures(stylized), speed, parameters))
        rows[name] = stylized[:_SHOWN]
        output.write_bytes(PICTURE, png_bytes(sheet({name: to_pixels(images) for name, images in rows.items()})))
        output.write_bytes(FIGURES, json.dumps([vars(result) for result in results], indent=2).encode())
        output.write_bytes(TABLE, table(results).encode())
    return table(results)


def table(results: Sequence[Result]) -> str:
    """Write a row for each recipe, in Markdown."""
    frechet = [name for name in results[0].metrics if name.startswith("frechet_")]
    measured = [name for name in _METRICS if name in results[0].metrics]
    heads = [f"Fréchet {name.removeprefix('frechet_')} ↓" for name in frechet]
    heads += [_METRICS[name] for name in measured]
    lines = [f"| recipe | {' | '.join(heads)} | parameters | images/s |"]
    lines.append("|---|" + "---:|" * (len(heads) + 2))
    for result in results:
        cells = [f"{result.metrics[name]:.3g}" for name in (*frechet, *measured)]
        cells += [f"{result.parameters / 1e6:.2f} M", f"{result.images_per_s:.1f}"]
        if not result.parameters:
            cells[-2:] = ["", ""]
        lines.append(f"| {result.recipe} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _train(
    run: TrainVitAdainConfig,
    content: ImageSet,
    styles: ImageSet,
    tested: Tensor,
    shown_styles: Tensor,
    device: torch.device,
) -> tuple[Tensor, float, int]:
    """Return the test's images by the trained recipe, (N, 3, H, W), its speed and number of parameters."""
    step = read_setup(run).step(run, device, styles=styles)
    settings = run.train
    batches = Batches(
        content, settings.batch_size, settings.image_size, settings.seed, styles=styles, zoom=run.data.zoom
    )
    with ProgressTracker(settings.steps, settings.batch_size) as progress:
        speed = train(step, batches, settings, _Recorder(progress))
    pairs = zip(tested.split(8), shown_styles.split(8), strict=True)
    stylized = torch.cat([stylize(step.averaged, *pair) for pair in pairs])
    return stylized, float(f"{speed.images_per_s:.4g}"), sum(p.numel() for p in step.network.parameters())


class _Recorder(Recorder):
    """Recorder of a recipe: reports how far it is, and keeps nothing."""

    def __init__(self, progress: ProgressTracker) -> None:
        self._progress = progress
        self._history = History()

    def step(self, number: int, figures: StepFigures, speed: Speed) -> None:
        """Report a finished step."""
        self._history.append(number, figures.flat())
        losses = {term: self._history.recent(term) for term in figures.terms}
        self._progress.update({"since": 0, "step": number, "losses": losses, "images_per_s": speed.images_per_s})


def _figures(report: ImageResults) -> dict[str, float]:
    frechet = {f"frechet_{tap}": distance.outputs for tap, distance in report.distribution.items()}
    means = {name: report.spread(name).mean for name in _METRICS if name in report.metrics()}
    return {name: float(f"{value:.5g}") for name, value in (frechet | means).items()}


def _images(uri: str, side: int, limit: int, key: str) -> ImageSet:
    block = np.stack(list(_squares(uri, side, limit, key).values()))
    return ImageSet([block], [(0, row) for row in range(len(block))])


def _squares(uri: str, side: int, limit: int, key: str) -> dict[str, UInt8Array]:
    """Return by name the middle squares, uint8 (side, side, 3), of at most ``limit`` readable images."""
    folder = Folder(uri)
    if not folder.exists():
        raise ConfigError(f"{key}: there is no folder '{folder.uri()}'")
    names = sorted(file.relpath for file in folder.files() if media_kind(file.relpath) == "image")
    chosen = [names[i] for i in np.linspace(0, len(names) - 1, min(limit, len(names))).astype(int)]
    images: dict[str, UInt8Array] = {}
    console = Console(stderr=True)
    for name in track(chosen, f"reading {key}", console=console, disable=not console.is_terminal):
        try:
            images[name] = square(decode_image(folder.read_bytes(name)).rgb_hwc, side)
        except (MediaError, OSError) as error:
            _log.warning("%s: skipped %s: %s", key, name, error)
    if not images:
        raise ConfigError(f"{key}: no readable images in '{folder.uri()}'")
    return images


def main() -> int:
    """Train and measure; the exit code is 0 done, 1 fatal, 2 bad configuration."""
    config = parse_config(AblationConfig)
    logging.basicConfig(format="%(message)s")
    logging.getLogger("nst_ops").setLevel(logging.INFO)  # of others, such as S3 clients, only warnings
    try:
        print(ablate(config))
    except (ConfigError, FatalError) as error:
        print(f"error: {error}", file=sys.stderr)
        return 2 if isinstance(error, ConfigError) else 1
    return 0


if __name__ == "__main__":
    raise SystemExit(main())
