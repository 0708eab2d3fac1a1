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
from torch.optim import AdamW

from nst_ops.config.errors import FatalError
from nst_ops.config.training import TrainConfig
from nst_ops.losses import LossTerms, PerceptualLoss
from nst_ops.losses.color import color_loss
from nst_ops.losses.structure import cel_shaded
from nst_ops.models.johnson import JohnsonNet
from nst_ops.training.checkerboard import remove_grid
from nst_ops.training.data import Crops
from nst_ops.training.discriminator import Rivalry
from nst_ops.training.networks import Network
from nst_ops.training.optim import Precision, Ranks, learning_rate

_MAX_CONSECUTIVE_SKIPS = 20


class DivergedError(FatalError):
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

    AdamW on the schedule of ``config``, gradients clipped. A step whose loss or gradient is not
    finite changes nothing; twenty in a row end the training. All that is random in a step is
    drawn from the seed and its number.

    Where the loss has an adversarial term, a second network learns beside the first, one step of
    each in turn, to tell its pictures from the style pictures.

    Args:
        model: the network to train, on its device: photographs in, or photographs and style pictures.
        loss: perceptual loss on the same device; frozen, and not part of the model.
        config: schedule, clipping, averaging, precision, seed.
        wrap: puts the network behind another module for training, such as
            ``DistributedDataParallel``; what is saved is the network itself.
        ranks: the workers that train together.
    """

    def __init__(
        self,
        model: Network,
        loss: PerceptualLoss,
        config: TrainConfig,
        wrap: Callable[[nn.Module], nn.Module] | None = None,
        ranks: Ranks | None = None,
    ) -> None:
        self.model, self.loss, self.config = model, loss, config
        self._remove_grid()
        self.ranks = ranks or Ranks()
        self.forward = wrap(model) if wrap else model
        self.device = next(model.parameters()).device
        self.precision = Precision(config.precision, self.device)
        trained = [parameter for parameter in model.parameters() if parameter.requires_grad]
        self.optimizer = AdamW(trained, config.learning_rate, config.betas, weight_decay=config.weight_decay)
        adversarial = loss.config.adversarial
        self.rivalry = (
            Rivalry(adversarial, config, self.precision, self.ranks) if adversarial.weight else None
        )
        self.averaged = copy.deepcopy(model).requires_grad_(False) if config.ema_decay else model
        self.takes_styles = loss.style_targets is None
        """Whether the network is handed a style picture with each photograph."""
        self._skips = 0

    def drawn(self, crops: Crops) -> Tensor | None:
        """What filters draw of the photographs before they are cut, cut as they are; None if nobody asks."""
        cel = self.loss.config.cel
        return crops.cut(cel_shaded(crops.whole(), cel)) if cel.weight else None

    def __call__(
        self,
        photos_bchw: Tensor,
        number: int,
        styles_bchw: Tensor | None = None,
        drawn_bchw: Tensor | None = None,
    ) -> StepFigures:
        """Train on this worker's share of step ``number``.

        Args:
            photos_bchw: (B, 3, H, W) photographs in [0, 1].
            number: of the step, from 1.
            styles_bchw: (B, 3, H, W) style pictures in [0, 1], where there is a set of them.
            drawn_bchw: (B, 3, H, W) as of ``drawn``; None if the crops are whole pictures.
        """
        rate = learning_rate(number, self.config)
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad(set_to_none=True)
        if self.rivalry:
            self.rivalry.forget()
        names, measured = self._backward((photos_bchw, styles_bchw, drawn_bchw), number)
        self.precision.scaler.unscale_(self.optimizer)
        # DDP has averaged the gradients, so their norm is the same on every worker, and so is the verdict.
        clip_norm = self.config.clip_norm or math.inf
        grad_norm = nn.utils.clip_grad_norm_(self.model.parameters(), clip_norm)
        figures = self.ranks.mean(torch.cat([measured, grad_norm.detach()[None]]))
        total, *terms, norm = figures.tolist()  # one transfer from the device for all of them
        skipped = not all(map(math.isfinite, (total, *terms, norm)))
        self._update(skipped, number, rate)
        return StepFigures(total, dict(zip(names, terms, strict=True)), norm, rate, skipped)

    def _backward(
        self, batch: tuple[Tensor, Tensor | None, Tensor | None], number: int
    ) -> tuple[list[str], Tensor]:
        """Gradients of the batch, taken in parts; names of the terms, and total and terms as one tensor."""
        seed = hash((self.config.seed, number, self.ranks.rank)) % 2**63
        generator = torch.Generator(self.device).manual_seed(seed)
        torch.manual_seed(seed)  # of what has no generator of its own, such as augmentations
        photos_bchw = batch[0]
        count = min(self.config.accumulate, len(photos_bchw))
        parts = [[None] * count if part is None else part.tensor_split(count) for part in batch]
        names: list[str] = []
        measured = torch.zeros(1, device=self.device)
        for index, (photos, styles, drawn) in enumerate(zip(*parts, strict=True)):
            assert photos is not None
            weight = len(photos) / len(photos_bchw)
            with self._no_sync() if index < count - 1 else contextlib.nullcontext():
                found, clean = self._losses(photos, styles, drawn, generator, number)
                self.precision.scaler.scale(found.total * weight).backward()
            terms = found.terms
            if self.rivalry and styles is not None and number > self.config.reconstruct_first:
                terms = terms | {"judge": self.rivalry.backward(clean.detach(), styles, weight)}
            names = list(terms)
            measured = measured + weight * torch.stack([found.total.detach(), *terms.values()])
        return names, measured

    def _losses(
        self,
        photos: Tensor,
        styles: Tensor | None,
        drawn: Tensor | None,
        generator: torch.Generator,
        number: int,
    ) -> tuple[LossTerms, Tensor]:
        """What is to be minimized, and the stylized photographs."""
        with self.precision.autocast():
            views = self.loss.views(photos, generator, styles if self.takes_styles else None, drawn)
            stylized = self.forward(*views.inputs())
            clean = views.split(stylized)["clean"]
            if number <= self.config.reconstruct_first:
                error = color_loss(clean, photos if drawn is None else drawn)
                return LossTerms(error, {"reconstruction": error.detach()}), clean
            found = self.loss(stylized, views)
            if self.rivalry:
                doubt = self.rivalry.loss(clean)
                total = found.total + self.loss.config.adversarial.weight * doubt
                found = LossTerms(total, found.terms | {"adversarial": doubt.detach()})
        return found, clean

    def _no_sync(self) -> contextlib.AbstractContextManager[Any]:
        """Parts of a batch need not be averaged over the workers one by one."""
        no_sync: Callable[[], contextlib.AbstractContextManager[Any]]
        no_sync = getattr(self.forward, "no_sync", contextlib.nullcontext)
        return no_sync()

    def _update(self, skipped: bool, number: int, rate: float) -> None:
        self._skips = self._skips + 1 if skipped else 0
        if self._skips >= _MAX_CONSECUTIVE_SKIPS:
            raise DivergedError(
                f"loss or gradient was not finite in {self._skips} steps in a row, up to step {number}: "
                "lower --train.learning_rate, or take --train.precision fp32"
            )
        if skipped:
            self.optimizer.zero_grad(set_to_none=True)  # Adam then leaves weights and moments alone
        self.precision.scaler.step(self.optimizer)
        if self.rivalry and not skipped:
            self.rivalry.step(rate)
        self.precision.scaler.update()
        if skipped:
            return
        self._remove_grid()
        if self.config.ema_decay:
            # A young average follows faster, else it would remember the random weights it began with.
            decay = min(self.config.ema_decay, (1 + number) / (10 + number))
            with torch.no_grad():
                for mean, now in zip(self.averaged.parameters(), self.model.parameters(), strict=True):
                    mean.lerp_(now, 1.0 - decay)

    def _remove_grid(self) -> None:
        if isinstance(self.model, JohnsonNet) and not self.model.skips:
            remove_grid(self.model)

    def state(self) -> dict[str, Any]:
        """All that the next step depends on, as tensors and plain values."""
        rivalry = {"rivalry": self.rivalry.state()} if self.rivalry else {}
        return {
            **rivalry,
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
        if self.rivalry:
            self.rivalry.restore(state["rivalry"])
