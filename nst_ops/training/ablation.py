"""What each change of a recipe is worth: train them all alike, judge them alike, put them side by side.

The bare loop, in this process and without Ray: what is compared is what comes out.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.progress import track
from torch import Tensor

from nst_ops.config import ConfigError
from nst_ops.config.ablation import AblationConfig
from nst_ops.config.train_vit_adain import TrainVitAdainConfig
from nst_ops.evaluation.features import load_judge
from nst_ops.evaluation.judge import Taps, judge, pairs_of
from nst_ops.evaluation.report import Report
from nst_ops.media.errors import MediaError
from nst_ops.media.formats import media_kind
from nst_ops.media.images import decode_image
from nst_ops.storage import Folder
from nst_ops.stylizers import Style
from nst_ops.training.grid import png_bytes, sheet, stylize
from nst_ops.training.history import History
from nst_ops.training.loop import Speed, train
from nst_ops.training.material import read_material
from nst_ops.training.photos import Batches, Photos, UInt8Array, square, to_tensor
from nst_ops.training.progress import TrainingProgress
from nst_ops.training.step import StepFigures

_log = logging.getLogger(__name__)

TABLE, FIGURES, PICTURE = "ablation.md", "ablation.json", "ablation.png"
PHOTOGRAPHS = "the photographs themselves"
_SHOWN = 8
_METRICS = {"gram": "Gram error ↓", "palette": "palette ↓", "content_relu3_1": "content ↓", "ssim": "SSIM ↑"}


@dataclass(frozen=True)
class Result:
    """A recipe, and what it came to on the photographs of the test.

    Attributes:
        recipe: its name.
        metrics: by name, means over the photographs, and ``frechet_<tap>`` of the set.
        images_per_s: of its training.
        parameters: of its network.
    """

    recipe: str
    metrics: dict[str, float]
    images_per_s: float
    parameters: int


def ablate(config: AblationConfig) -> str:
    """Train and judge every recipe of ``config``.

    Returns:
        The table, as Markdown; it is in the output too, with the figures and a picture, after every recipe.

    Raises:
        ConfigError: data, weights or output that cannot be used.
        nst_ops.training.step.DivergedError: a recipe's losses stayed non-finite.
    """
    runs, output = config.runs(), Folder(config.output)
    first = next(iter(runs.values()))
    torch.set_num_threads(config.threads or torch.get_num_threads())
    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    photos = _photos(config.data.content, first.resize, config.data.limit, "data.content")
    styles = _photos(config.data.style or "", first.style_resize, config.data.limit, "data.style")
    side = first.train.image_size
    tested = to_tensor(np.stack(list(_squares(config.test, side, config.test_limit, "test").values())))
    pictures = _squares(config.data.style or "", side, config.references, "data.style")
    references = [Style(name, picture) for name, picture in pictures.items()]
    drawn = np.random.default_rng(0).integers(len(references), size=len(tested))
    shown_styles = to_tensor(np.stack([references[index].pixels_hwc for index in drawn]))
    try:
        vgg, lacking = load_judge(Taps().all(), config.vgg_weights)
    except FileNotFoundError as error:
        raise ConfigError(f"vgg_weights: {error}") from error

    def figures(stylized: Tensor) -> dict[str, float]:
        found = judge(pairs_of(tested, stylized), references, vgg, lacking=lacking, device=device)
        return _figures(found)

    results = [Result(PHOTOGRAPHS, figures(tested), 0.0, 0)]
    rows: dict[str, Tensor] = {"content": tested[:_SHOWN], "style": shown_styles[:_SHOWN]}
    for name, run in runs.items():
        _log.info("recipe '%s'", name)
        stylized, speed, parameters = _train(run, photos, styles, tested, shown_styles, device)
        results.append(Result(name, figures(stylized), speed, parameters))
        rows[name] = stylized[:_SHOWN]
        output.write_bytes(PICTURE, png_bytes(sheet(rows)))
        output.write_bytes(FIGURES, json.dumps([vars(result) for result in results], indent=2).encode())
        output.write_bytes(TABLE, table(results).encode())
    return table(results)


def table(results: Sequence[Result]) -> str:
    """A row for each recipe, in Markdown."""
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
    photos: Photos,
    styles: Photos,
    tested: Tensor,
    shown_styles: Tensor,
    device: torch.device,
) -> tuple[Tensor, float, int]:
    """The test's photographs by the trained recipe, (N, 3, H, W); its speed; its parameters."""
    step = read_material(run).step(run, device, styles=styles)
    settings = run.train
    batches = Batches(
        photos, settings.batch_size, settings.image_size, settings.seed, styles=styles, zoom=run.data.zoom
    )
    watch = _Watch()
    with TrainingProgress(settings.steps, settings.batch_size, watch.get):
        speed = train(step, batches, settings, watch)
    pairs = zip(tested.split(8), shown_styles.split(8), strict=True)
    stylized = torch.cat([stylize(step.averaged, *pair) for pair in pairs])
    return stylized, float(f"{speed.images_per_s:.4g}"), sum(p.numel() for p in step.model.parameters())


class _Watch:
    """The recorder of a recipe: says how far it is, and keeps nothing."""

    def __init__(self) -> None:
        self._history = History()
        self._latest: dict[str, Any] = {}

    def get(self) -> dict[str, Any]:
        """For the progress bar; empty before the first step."""
        return self._latest

    def step(self, number: int, figures: StepFigures, speed: Speed) -> None:
        """A step is done."""
        self._history.append(number, figures.flat())
        losses = {term: self._history.recent(term) for term in figures.terms}
        self._latest = {"since": 0, "step": number, "losses": losses, "images_per_s": speed.images_per_s}

    def validate(self, number: int) -> float:
        """Judged after the last step, by what all recipes have in common."""
        return 0.0

    def save(self, number: int, state: dict[str, Any], speed: Speed) -> None:
        """Nothing to go on from: a recipe is short."""


def _figures(report: Report) -> dict[str, float]:
    frechet = {f"frechet_{tap}": distance.outputs for tap, distance in report.distribution.items()}
    means = {name: report.spread(name).mean for name in _METRICS if name in report.metrics()}
    return {name: float(f"{value:.5g}") for name, value in (frechet | means).items()}


def _photos(uri: str, side: int, limit: int, key: str) -> Photos:
    block = np.stack(list(_squares(uri, side, limit, key).values()))
    return Photos([block], [(0, row) for row in range(len(block))])


def _squares(uri: str, side: int, limit: int, key: str) -> dict[str, UInt8Array]:
    """By name the middle squares, uint8 (side, side, 3), of at most ``limit`` readable pictures."""
    folder = Folder(uri)
    if not folder.exists():
        raise ConfigError(f"{key}: there is no folder '{folder.uri()}'")
    names = sorted(file.relpath for file in folder.files() if media_kind(file.relpath) == "image")
    chosen = [names[i] for i in np.linspace(0, len(names) - 1, min(limit, len(names))).astype(int)]
    pictures: dict[str, Any] = {}
    console = Console(stderr=True)
    for name in track(chosen, f"reading {key}", console=console, disable=not console.is_terminal):
        try:
            pictures[name] = square(decode_image(folder.read_bytes(name)).rgb_hwc, side)
        except (MediaError, OSError) as error:
            _log.warning("%s: skipped %s: %s", key, name, error)
    if not pictures:
        raise ConfigError(f"{key}: no readable pictures in '{folder.uri()}'")
    return pictures
