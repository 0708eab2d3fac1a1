"""One step of training. Who calls it, and on how many machines, is not known here."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.optim import Adam
from torch.optim.lr_scheduler import OneCycleLR

from nst_ops.losses import PerceptualLoss
from nst_ops.models.johnson import JohnsonNet
from nst_ops.training.checkerboard import remove_grid

_MAX_CONSECUTIVE_SKIPS = 10


class DivergedError(RuntimeError):
    """Losses or gradients stayed non-finite."""


@dataclass(frozen=True)
class StepFigures:
    """What one step measured; losses are unweighted but for ``total``."""

    total: float
    content: float
    style: float
    variation: float
    grad_norm: float
    learning_rate: float
    skipped: bool


class PerceptualStep:
    """Batch of photographs in, updated network and figures out.

    Adam on a one-cycle schedule, gradients clipped. A step whose loss or gradient is not
    finite changes nothing; ten in a row end the training.

    Args:
        model: the network to train.
        loss: perceptual loss on the same device; it is frozen and not part of the model.
        steps: length of the one-cycle schedule.
        learning_rate: its peak.
        clip_norm: upper bound of the gradient's norm.
        ema_decay: 0 for none, else how slowly the averaged copy in ``averaged`` follows.
        bf16: run the loss network, most of the work, in bfloat16; the trained one stays in fp32.
        wrap: puts the network behind another module for training, such as
            ``DistributedDataParallel``; what is saved is the network itself.
    """

    def __init__(
        self,
        model: JohnsonNet,
        loss: PerceptualLoss,
        steps: int,
        learning_rate: float = 2e-3,
        clip_norm: float = 1.0,
        ema_decay: float = 0.0,
        bf16: bool = False,
        wrap: Callable[[nn.Module], nn.Module] | None = None,
    ) -> None:
        remove_grid(model)
        self.model = model
        self.forward = wrap(model) if wrap else model
        self.loss = loss
        self.clip_norm = clip_norm
        self.ema_decay = ema_decay
        self.bf16 = bf16
        self.device = next(model.parameters()).device
        self.optimizer = Adam(model.parameters(), lr=learning_rate)
        self.scheduler = OneCycleLR(self.optimizer, learning_rate, total_steps=steps, pct_start=0.15)
        self.averaged = copy.deepcopy(model).requires_grad_(False) if ema_decay else model
        self._skips = 0

    def __call__(self, photos_bchw: Tensor) -> StepFigures:
        """Train on uint8 (B, 3, H, W) photographs."""
        photos = photos_bchw.to(self.device, non_blocking=True).float().div_(255.0)
        photos = photos.contiguous(memory_format=torch.channels_last)
        stylized = self.forward(photos)
        with torch.autocast(self.device.type, torch.bfloat16, enabled=self.bf16):
            terms = self.loss(stylized, photos)
        self.optimizer.zero_grad(set_to_none=True)
        terms.total.backward()
        grad_norm = nn.utils.clip_grad_norm_(self.model.parameters(), self.clip_norm)
        # one transfer from the device for all figures
        total, content, style, variation, norm = torch.stack([*terms, grad_norm]).detach().tolist()
        learning_rate = float(self.scheduler.get_last_lr()[0])
        skipped = not (math.isfinite(total) and math.isfinite(norm))
        self._update(skipped)
        return StepFigures(total, content, style, variation, norm, learning_rate, skipped)

    def _update(self, skipped: bool) -> None:
        self._skips = self._skips + 1 if skipped else 0
        if self._skips >= _MAX_CONSECUTIVE_SKIPS:
            raise DivergedError(f"{self._skips} steps in a row were not finite; lower the learning rate")
        if skipped:
            self.optimizer.zero_grad(set_to_none=True)  # Adam then leaves weights and moments alone
        self.optimizer.step()
        self.scheduler.step()
        if skipped:
            return
        remove_grid(self.model)
        if self.ema_decay:
            with torch.no_grad():
                for mean, now in zip(self.averaged.parameters(), self.model.parameters(), strict=True):
                    mean.lerp_(now, 1.0 - self.ema_decay)
