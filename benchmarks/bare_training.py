"""Training of a network of one style as its paper's many implementations do it, for comparison.

One loop, torch's own layers in fp32, the loss read at every step; the same network, images, VGG, content and Gram loss.
"""

from __future__ import annotations

import time

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from benchmarks.seed_way import as_plain
from nst_ops.config import TrainJohnsonConfig
from nst_ops.models.vgg import IMAGENET_MEAN, IMAGENET_STD, VGGFeatures
from nst_ops.training.data import Batches, to_tensor
from nst_ops.training.setup import TrainingSetup


def train_plainly(setup: TrainingSetup, batches: Batches, config: TrainJohnsonConfig, steps: int) -> float:
    """Train for some steps, after one that does not count; return the seconds of each image."""
    assert setup.style_image is not None, "one style"
    network, layers = as_plain(setup.network).train(), _layers(setup.vgg)
    optimizer = torch.optim.Adam(network.parameters(), config.train.learning_rate)
    style = to_tensor(setup.style_image)
    grams = {tap: _gram(activation).detach() for tap, activation in _features(layers, setup.vgg, style).items()}
    terms, started = config.loss, time.perf_counter()
    for number in range(1, steps + 2):
        if number == 2:
            started = time.perf_counter()
        content = batches(number)[0].cut().contiguous()
        stylized = network(content)
        features = _features(layers, setup.vgg, stylized)
        with torch.no_grad():
            targets = _features(layers, setup.vgg, content)
        loss = total = torch.zeros(())
        for tap, weight in terms.content.taps.items():
            loss = F.mse_loss(features[tap], targets[tap]) / targets[tap].square().mean()
            total = total + terms.content.weight * weight * loss
        for tap, weight in terms.gram.taps.items():
            loss = F.mse_loss(_gram(features[tap]), grams[tap].expand(len(content), -1, -1))
            total = total + terms.gram.weight * weight * loss / grams[tap].square().mean()
        optimizer.zero_grad()
        total.backward()
        optimizer.step()
        total.item()
    return (time.perf_counter() - started) / steps / batches.batch_size


def _layers(vgg: VGGFeatures) -> nn.Sequential:
    """Return the layers of VGG with torch's own padding."""
    layers: list[nn.Module] = []
    for layer in vgg.features:
        if isinstance(layer, nn.Conv2d):
            plain = nn.Conv2d(layer.in_channels, layer.out_channels, 3, padding=1)
            plain.padding_mode = "reflect" if layer.padding == (0, 0) else "zeros"
            plain.weight, plain.bias = layer.weight, layer.bias
            layer = plain
        layers.append(nn.ReLU() if isinstance(layer, nn.ReLU) else layer)
    return nn.Sequential(*layers)


def _features(layers: nn.Sequential, vgg: VGGFeatures, x_bchw: Tensor) -> dict[str, Tensor]:
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (IMAGENET_MEAN, IMAGENET_STD))
    x_bchw = (x_bchw - mean) / std
    found = {}
    for index, layer in enumerate(layers):
        x_bchw = layer(x_bchw)
        if index in vgg.taps:
            found[vgg.taps[index]] = x_bchw
    return found


def _gram(activation: Tensor) -> Tensor:
    flat = activation.flatten(2)
    return flat @ flat.transpose(1, 2) / activation[0].numel()
