"""One step of training. Who calls it, and on how many machines, is not known here."""

from __future__ import annotations

import contextlib
import copy
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.optim import Adam

from nst_ops.config.train_johnson import TrainConfig
from nst_ops.losses import PerceptualLoss
from nst_ops.models.johnson import JohnsonNet
from nst_ops.training.checkerboard import remove_grid
from nst_ops.training.precision import Precision
from nst_ops.training.ranks import Ranks
from nst_ops.training.schedule import learning_rate

_MAX_CONSECUTIVE_SKIPS = 20


class DivergedError(RuntimeError):
    """Losses or gradients stayed non-finite."""


@dataclass(frozen=True)
class StepFigures:
    """What one step measured, as means over all workers."""

    total: float
    terms: dict[str, float]
    """Each term of the loss, unweighted."""
    grad_norm: float
    """Before clipping."""
    learning_rate: float
    skipped: bool
    """Whether a loss or gradient was not finite, so that the step changed nothing."""

    def flat(self) -> dict[str, float | bool]:
        """All figures by name."""
        return {
            "total": self.total,
            **self.terms,
            "grad_norm": self.grad_norm,
            "learning_rate": self.learning_rate,
            "skipped": self.skipped,
        }


class PerceptualStep:
    """Photographs in, updated network and figures out.

    Adam on the schedule of ``config``, gradients clipped. A step whose loss or gradient is not
    finite changes nothing; twenty in a row end the training. Noise and motion of the temporal
    losses are drawn from the seed and the number of the step.

    Args:
        model: the network to train, on its device.
        loss: perceptual loss on the same device; frozen, and not part of the model.
        config: schedule, clipping, averaging, precision, seed.
        wrap: puts the network behind another module for training, such as
            ``DistributedDataParallel``; what is saved is the network itself.
        ranks: the workers that train together.
    """

    def __init__(
        self,
        model: JohnsonNet,
        loss: PerceptualLoss,
        config: TrainConfig,
        wrap: Callable[[nn.Module], nn.Module] | None = None,
        ranks: Ranks | None = None,
    ) -> None:
        remove_grid(model)
        self.model, self.loss, self.config = model, loss, config
        self.ranks = ranks or Ranks()
        self.forward = wrap(model) if wrap else model
        self.device = next(model.parameters()).device
        self.precision = Precision(config.precision, self.device)
        self.optimizer = Adam(model.parameters(), lr=config.learning_rate)
        self.averaged = copy.deepcopy(model).requires_grad_(False) if config.ema_decay else model
        self._skips = 0

    def __call__(self, photos_bchw: Tensor, number: int) -> StepFigures:
        """Train on (B, 3, H, W) photographs in [0, 1], this worker's share of step ``number``."""
        rate = learning_rate(number, self.config)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad(set_to_none=True)
        names, measured = self._backward(photos_bchw, number)
        self.precision.scaler.unscale_(self.optimizer)
        # DDP has averaged the gradients, so their norm is the same on every worker, and so is the verdict.
        clip_norm = self.config.clip_norm or math.inf
        grad_norm = nn.utils.clip_grad_norm_(self.model.parameters(), clip_norm)
        figures = self.ranks.mean(torch.cat([measured, grad_norm.detach()[None]]))
        total, *terms, norm = figures.tolist()  # one transfer from the device for all of them
        skipped = not (math.isfinite(total) and math.isfinite(norm))
        self._update(skipped, number)
        return StepFigures(total, dict(zip(names, terms, strict=True)), norm, rate, skipped)

    def _backward(self, photos_bchw: Tensor, number: int) -> tuple[list[str], Tensor]:
        """Gradients of the batch, taken in parts; names of the terms, and total and terms as one tensor."""
        generator = torch.Generator(self.device)
        generator.manual_seed(hash((self.config.seed, number, self.ranks.rank)) % 2**63)
        parts = photos_bchw.tensor_split(min(self.config.accumulate, len(photos_bchw)))
        names: list[str] = []
        measured = torch.zeros(1, device=self.device)
        for index, part in enumerate(parts):
            weight = len(part) / len(photos_bchw)
            with self._no_sync() if index < len(parts) - 1 else contextlib.nullcontext():
                with self.precision.autocast():
                    views = self.loss.views(part, generator)
                    stylized = self.forward(views.batch())
                    terms = self.loss(stylized, views)
                self.precision.scaler.scale(terms.total * weight).backward()
            names = list(terms.terms)
            measured = measured + weight * torch.stack([terms.total.detach(), *terms.terms.values()])
        return names, measured

    def _no_sync(self) -> contextlib.AbstractContextManager[Any]:
        """Parts of a batch need not be averaged over the workers one by one."""
        no_sync: Callable[[], contextlib.AbstractContextManager[Any]]
        no_sync = getattr(self.forward, "no_sync", contextlib.nullcontext)
        return no_sync()

    def _update(self, skipped: bool, number: int) -> None:
        self._skips = self._skips + 1 if skipped else 0
        if self._skips >= _MAX_CONSECUTIVE_SKIPS:
            raise DivergedError(
                f"loss or gradient was not finite in {self._skips} steps in a row, up to step {number}: "
                "lower --train.learning_rate, or take --train.precision fp32"
            )
        if skipped:
            self.optimizer.zero_grad(set_to_none=True)  # Adam then leaves weights and moments alone
        self.precision.scaler.step(self.optimizer)
        self.precision.scaler.update()
        if skipped:
            return
        remove_grid(self.model)
        if self.config.ema_decay:
            # A young average follows faster, else it would remember the random weights it began with.
            decay = min(self.config.ema_decay, (1 + number) / (10 + number))
            with torch.no_grad():
                for mean, now in zip(self.averaged.parameters(), self.model.parameters(), strict=True):
                    mean.lerp_(now, 1.0 - decay)

    def state(self) -> dict[str, Any]:
        """All that the next step depends on, as tensors and plain values."""
        return {
            "model": self.model.state_dict(),
            "averaged": self.averaged.state_dict(),
            "optimizer": self.optimizer.state_dict(),
            "scaler": self.precision.scaler.state_dict(),
            "skips": self._skips,
        }

    def restore(self, state: dict[str, Any]) -> None:
        """Take up where ``state`` was taken."""
        self.model.load_state_dict(state["model"])
        self.averaged.load_state_dict(state["averaged"])
        self.optimizer.load_state_dict(state["optimizer"])
        self.precision.scaler.load_state_dict(state["scaler"])
        self._skips = state["skips"]
