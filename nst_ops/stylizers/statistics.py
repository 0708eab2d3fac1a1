"""Statistics of whole frames for networks that normalise by them: measured once, used again."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any, TypeVar

import torch
from torch import Tensor

from nst_ops.models.johnson import InstanceNorm, JohnsonNet, Moments

T = TypeVar("T")
Statistics = tuple[Moments, ...]
"""Of every normalising layer, in the order of the pass; none for norm ``batch`` and ``none``."""


def frozen_twin(model: JohnsonNet, statistics: Statistics) -> JohnsonNet:
    """A network of the same weights that normalises every picture by ``statistics``."""
    twin = model.twin()
    for norm, moments in zip(twin.norms(), statistics, strict=True):
        norm.statistics = moments
    return twin


def measuring_twin(model: JohnsonNet) -> JohnsonNet:
    """A network of the same weights that keeps the statistics of the first pictures it paints.

    All of them count as one large picture, so every layer is measured on what it will see once the
    layers before it are frozen.
    """
    twin = model.twin()
    for norm in twin.norms():
        norm.dims = (0, *norm.dims)
        norm.register_forward_hook(_keep)
    return twin


def kept_statistics(twin: JohnsonNet) -> Statistics:
    """What a measuring twin has kept."""
    return tuple(norm.statistics for norm in twin.norms() if norm.statistics)


def input_of(norm: InstanceNorm, run: Callable[[T], object], argument: T) -> Tensor:
    """What comes to ``norm`` in ``run(argument)``, which goes no further."""

    def stop(_: object, args: tuple[Tensor]) -> None:
        raise _Reached(args[0])

    with norm.register_forward_pre_hook(stop):
        try:
            run(argument)
        except _Reached as reached:
            return reached.x_bchw
    raise ValueError("the layer is no part of what ran")


def merge(parts: Iterable[tuple[int, Moments]]) -> Moments:
    """Mean and variance of the whole from those of its parts, each with its count of values.

    T. Chan, G. Golub, R. LeVeque, "Updating Formulae and a Pairwise Algorithm for Computing Sample
    Variances", 1979.
    """
    counts, moments = zip(*parts, strict=True)
    means = torch.stack([mean for mean, _ in moments]).double()
    variances = torch.stack([var for _, var in moments]).double()
    shares = torch.tensor(counts, dtype=torch.float64, device=means.device)
    shares = (shares / shares.sum()).view(-1, 1, 1, 1, 1)
    mean = (shares * means).sum(0)
    var = (shares * (variances + (means - mean) ** 2)).sum(0)
    return mean.float(), var.float()


class _Reached(Exception):
    def __init__(self, x_bchw: Tensor) -> None:
        self.x_bchw = x_bchw


def _keep(norm: Any, args: tuple[Tensor], _: Tensor) -> None:
    if norm.statistics is None:
        norm.statistics = norm.moments(args[0])
