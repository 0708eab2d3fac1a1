"""Styles of a network of many, read before it is trained: paintings, their targets, rows to begin at."""

from __future__ import annotations

import hashlib
import logging
from dataclasses import replace

import torch

from nst_ops.config import ConfigError, TrainingConfig, TrainMultiStyleConfig
from nst_ops.losses.painting import TAPS, PaintingLoss, StyleTarget
from nst_ops.models.checkpoint import load_checkpoint
from nst_ops.models.checkpoint_files import resolve_checkpoint
from nst_ops.models.conditional import ConditionalNet
from nst_ops.models.style_facts import IDENTITY, StyleFacts
from nst_ops.models.vgg import VGGFeatures
from nst_ops.training.data import decode_squares, image_folder, list_images, to_tensor
from nst_ops.training.multi_style_step import PaintedStyles, SeparateRows
from nst_ops.training.nearest_row import NearestRow, resized
from nst_ops.training.optim import Precision
from nst_ops.training.paintings import name_paintings, read_painting, thumbnail

_log = logging.getLogger(__name__)

_STARTS, _START_SIDE = 2, 128  # photographs on which rows are compared, and their side in pixels


def read_painted_styles(config: TrainMultiStyleConfig) -> tuple[SeparateRows, VGGFeatures, PaintedStyles]:
    """Read paintings and VGG19, and make the network to begin from, the same for the same seed.

    Raises ConfigError for paintings, names or photographs that cannot be used, FileNotFoundError, CheckpointError or
    WeightsError for files of weights.
    """
    vgg = VGGFeatures("vgg19", TAPS, config.loss.weights)
    loss, autocast = PaintingLoss(vgg), Precision("auto", torch.device("cpu")).autocast
    uris = name_paintings(config.paintings)
    if IDENTITY in uris:
        raise ConfigError(f"paintings: '{uris[IDENTITY]}' has the name of the row of the photograph: rename it")
    if unknown := config.loss.contents.keys() - uris.keys():
        raise ConfigError(f"loss.contents: no painting is named {', '.join(unknown)}; there are {', '.join(uris)}")
    targets: dict[str, StyleTarget] = {}
    facts: dict[str, StyleFacts] = {}
    digest = hashlib.sha256()
    for name, uri in uris.items():
        painting_hwc = read_painting(uri, config.style_margin)
        digest.update(name.encode() + painting_hwc.tobytes())
        with autocast():
            targets[name] = loss.target(resized(painting_hwc, config.style_side))
        facts[name] = StyleFacts(title=name, source=uri.rsplit("/", 1)[-1], thumbnail=thumbnail(painting_hwc))
    names = [*uris, *([IDENTITY] if config.loss.identity.weight else [])]
    torch.manual_seed(config.train.seed)
    if config.network.start_from:
        base = load_checkpoint(resolve_checkpoint(config.network.start_from))
        facts |= {
            name: replace(base.styles[name], thumbnail=facts[name].thumbnail) for name in uris if name in base.styles
        }
        network = _begin_at(base.expect(ConditionalNet), names, targets, loss, config)
    else:
        network = ConditionalNet(names, **config.network.model_dump(exclude={"start_from"}))
    styles = PaintedStyles(StyleTarget.stack([*targets.values()]), facts, digest.hexdigest()[:16])
    return SeparateRows(network), vgg, styles


def _begin_at(
    network: ConditionalNet,
    names: list[str],
    targets: dict[str, StyleTarget],
    loss: PaintingLoss,
    config: TrainMultiStyleConfig,
) -> ConditionalNet:
    """Return ``network`` with rows of these names: its own of the same name, else the nearest; as identity the mean."""
    autocast = Precision("auto", torch.device("cpu")).autocast
    nearest = NearestRow(network, loss, _first_photos(config), autocast)
    rows = {}
    for name in names:
        if name in network.names:
            rows[name] = network.row(name)
        elif name == IDENTITY:
            rows[name] = network.rows.mean(0)
        else:
            start = nearest.find(targets[name], config.loss.palette)
            _log.info("%s: begins at the row %s", name, start)
            rows[name] = network.row(start)
    if left := [name for name in network.names if name not in rows]:
        _log.info("network.start_from: no painting for %s, so they are left out", ", ".join(left))
    return network.with_rows(rows)


def _first_photos(config: TrainingConfig) -> list[torch.Tensor]:
    """Return the first content images that can be read, (1, 3, S, S) each."""
    names, uri = list_images(config, "content")[:16], image_folder(config, "content").uri()
    decoded = decode_squares({"relpath": names}, uri, _START_SIDE)
    readable = [image for image, error in zip(decoded["pixels"], decoded["error"], strict=True) if not error]
    if not readable:
        raise ConfigError(f"data.content: none of the first {len(names)} images can be read")
    return [to_tensor(image) for image in readable[:_STARTS]]
