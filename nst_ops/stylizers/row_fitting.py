"""What all fitting of rows shares: crops of photographs, and the descent to the least of a loss."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from nst_ops.media.images import UInt8Array
from nst_ops.stylizers.device import to_network

_WARM_UP, _CLIP, _STEADY = 10, 1.0, 0.98  # steps; norm of a gradient; weight of the past in the mean of the weights
_SKIPPED = 0.1  # share of the steps whose loss may be no number
_EVEN, _DRAWS = 20.0, 20  # standard deviation in levels of a crop that shows nothing; crops that are tried for another

Progress = Callable[[int, Mapping[str, float]], None]
"""Called after each step with its number, from 1, and the losses."""
Losses = Callable[[int], tuple[Tensor, Mapping[str, Tensor]]]
"""Returns the loss at a step, from 1, and the terms that are told of it."""


def descend(
    name: str, groups: Sequence[tuple[Sequence[Tensor], float]], steps: int, losses_at: Losses, progress: Progress
) -> tuple[list[Tensor], dict[str, float]]:
    """Lower a loss by Adam; return the means of the weights over the last steps, and the terms of the last one.

    Args:
        name: name of the style, for the message.
        groups: weights that change, each group with its learning rate.
        steps: number of steps.
        losses_at: the loss at a step.
        progress: hears of each step.

    Raises FloatingPointError where the loss is no number any more.
    """
    weights_now = [weight for weights, _ in groups for weight in weights]
    optimizer = torch.optim.Adam([{"params": weights} for weights, _ in groups], betas=(0.9, 0.99))
    means = [weight.detach().clone() for weight in weights_now]
    losses: dict[str, float] = {}
    num_skipped = 0
    for step in range(1, steps + 1):
        for group, (_, rate) in zip(optimizer.param_groups, groups, strict=True):
            group["lr"] = rate * _schedule(step, steps)
        total, terms = losses_at(step)
        optimizer.zero_grad()
        total.backward()
        norms = [torch.nn.utils.clip_grad_norm_(weights, _CLIP) for weights, _ in groups]
        if not torch.stack([total, *norms]).isfinite().all():  # a crop with next to nothing in it
            num_skipped += 1
            if num_skipped > _SKIPPED * steps:
                raise FloatingPointError(f"{name}: the loss is no number at step {step}: take a smaller learning rate")
            continue
        optimizer.step()
        past = min(_STEADY, step / (step + 10))
        for mean, value in zip(means, weights_now, strict=True):
            mean.lerp_(value.detach(), 1 - past)
        losses = {term: value.item() for term, value in terms.items()}
        progress(step, losses)
    return means, losses


def crop_photo(photos: Sequence[UInt8Array], size: int, rng: np.random.Generator, device: torch.device) -> Tensor:
    """Return a square of a photograph, (1, 3, size, size), of random place and size, mirrored at random.

    Not one that is even, such as sky: normalization would make a picture of its noise.
    """
    for _ in range(_DRAWS):
        photo_hwc = photos[int(rng.integers(len(photos)))]
        short = min(photo_hwc.shape[:2])
        side = round(min(short, size) + max(0, short - size) * rng.random() ** 1.3)
        top, left = (rng.integers(length - side + 1) for length in photo_hwc.shape[:2])
        cut_hwc = photo_hwc[top : top + side, left : left + side, :]
        if cut_hwc.std() >= _EVEN:
            break
    cut_hwc = np.ascontiguousarray(cut_hwc[:, ::-1] if rng.random() < 0.5 else cut_hwc)
    cut = to_network(cut_hwc[None], device, torch.float32)
    cut = F.interpolate(cut, (size, size), mode="bicubic", antialias=True).clamp_(0, 1)
    return cut.contiguous(memory_format=torch.channels_last)


def _schedule(step: int, steps: int) -> float:
    """Return the share of the rate at a step, from 1: a linear rise, times half a cosine."""
    return min(1.0, step / _WARM_UP) * 0.5 * (1 + math.cos(math.pi * (step - 1) / steps))
