"""One step of training. It does not know who calls it, nor on how many machines."""

import contextlib
import copy
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from dataclasses import InitVar, dataclass, field
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn

from nst_ops.config import FatalError
from nst_ops.config.training import TrainConfig
from nst_ops.losses import LossTerms
from nst_ops.media.images import UInt8Array
from nst_ops.models.conditional import ConditionalNet
from nst_ops.models.host_copies import Download, host_copies
from nst_ops.models.johnson import ConvLayer, JohnsonNet, TransformNet
from nst_ops.models.style_facts import StyleFacts
from nst_ops.models.vit_adain import ViTAdaIN
from nst_ops.training.data import Crops
from nst_ops.training.grid import ValidationImages
from nst_ops.training.optim import Precision, Ranks, adamw, learning_rate, not_finite, step_unless

Network = JohnsonNet | ViTAdaIN

_MAX_CONSECUTIVE_SKIPS = 20


class DivergedError(FatalError):
    """Losses or gradients stayed non-finite."""


@dataclass(frozen=True)
class StepFigures:
    """Figures of one step, as means over all workers."""

    total: float
    terms: dict[str, float]  # unweighted; beside adversarial the discriminators' own loss, discriminator
    grad_norm: float  # norm of the gradient before clipping
    learning_rate: float
    skipped: bool  # whether a loss or gradient was not finite, so that the step changed nothing

    def flat(self) -> dict[str, float | bool]:
        """Return all figures by name."""
        figures = dict(vars(self))
        return {"total": figures.pop("total"), **figures.pop("terms"), **figures}


@dataclass(eq=False)
class TrainingStep(ABC):
    """Images in, updated network and figures out; what the loss is, subclasses say.

    AdamW on the schedule of ``config``, gradients clipped. A step whose loss or gradient is not finite changes nothing,
    which is decided on the device; twenty in a row end the training. All that is random in a step is drawn from the
    seed and its number.
    """

    network: nn.Module  # takes content images, or content images and styles; lies on its device
    loss: Any  # on the same device; frozen, and not part of the network
    config: TrainConfig
    wrap: InitVar[Callable[[nn.Module], nn.Module] | None] = None  # such as DDP; what is saved is the network itself
    ranks: Ranks = field(default_factory=Ranks)

    def __post_init__(self, wrap: Callable[[nn.Module], nn.Module] | None) -> None:
        network, config = self.network, self.config
        self.remove_grid()
        self.forward = wrap(network) if wrap else network
        self.device = next(network.parameters()).device
        self.precision = Precision(config.precision, self.device)
        self.groups = self.parameter_groups()
        grouped = [{"params": weights} for weights, _ in self.groups]
        self.optimizer = adamw(grouped, config.learning_rate, config, config.weight_decay)
        self.averaged = copy.deepcopy(network).requires_grad_(False) if config.ema_decay else network
        self._parts: dict[str, Any] = {"model": network, "averaged": self.averaged, "optimizer": self.optimizer}
        self._parts["scaler"] = self.precision.scaler
        self._skips = 0

    def parameter_groups(self) -> list[tuple[list[nn.Parameter], float]]:
        """Return the trained weights in groups, each clipped apart, with the factor of its learning rate."""
        return [([weights for weights in self.network.parameters() if weights.requires_grad], 1.0)]

    @abstractmethod
    def losses(
        self, content: Tensor, styles: Tensor | None, drawing: Tensor | None, generator: torch.Generator, number: int
    ) -> tuple[LossTerms, Tensor]:
        """Return the loss to minimize, and the stylized images."""

    @abstractmethod
    def validate(self, shown: ValidationImages, when: str) -> tuple[dict[str, float], UInt8Array]:
        """Return ``total`` and the terms of the averaged network on validation images, and a sheet that shows them."""

    @abstractmethod
    def result(self) -> tuple[ConditionalNet | Network, Mapping[str, StyleFacts]]:
        """Return the network as it is saved, and what is known of its styles, if it has many."""

    def drawing(self, crops: Crops) -> Tensor | None:
        """Return the drawing to compare with, filtered before it is cropped; None where there is none."""
        return None

    def __call__(
        self, content_bchw: Tensor, number: int, styles_bchw: Tensor | None = None, drawing_bchw: Tensor | None = None
    ) -> StepFigures:
        """Train as ``start`` does, and wait for the figures."""
        return self.start(content_bchw, number, styles_bchw, drawing_bchw)()

    def start(
        self, content_bchw: Tensor, number: int, styles_bchw: Tensor | None = None, drawing_bchw: Tensor | None = None
    ) -> Callable[[], StepFigures]:
        """Train on this worker's share, images in [0, 1], of step ``number``, counted from 1; do not wait for a GPU.

        ``styles_bchw`` are given where there is a set of style images; ``drawing_bchw`` is what ``drawing`` returns,
        None if the crops are whole images. What is returned waits for the figures; it is called once, in the order of
        the steps, and raises DivergedError. The next step may have begun by then.
        """
        rate = learning_rate(number, self.config)
        for group, (_, factor) in zip(self.optimizer.param_groups, self.groups, strict=True):
            group["lr"] = rate * factor
        self.zero_grad()
        names, measured = self._backward((content_bchw, styles_bchw, drawing_bchw), number)
        self.precision.scaler.unscale_(self.optimizer)
        # DDP has averaged the gradients, so their norm is the same on every worker, and so is what follows.
        norms = [nn.utils.clip_grad_norm_(weights, self.config.clip_norm or math.inf) for weights in self._taught()]
        grad_norm = torch.linalg.vector_norm(torch.stack(norms)).detach()
        figures = self.ranks.mean(torch.cat([measured, grad_norm[None]]))
        self._update(not_finite(figures), number, rate)
        return partial(self._settle, number, names, rate, host_copies(self.device).down(figures))

    def zero_grad(self) -> None:
        """Forget the gradients of the step before."""
        self.optimizer.zero_grad(set_to_none=True)

    def _taught(self) -> list[list[nn.Parameter]]:
        """Return the groups that have a gradient in this step."""
        groups = [[weight for weight in weights if weight.grad is not None] for weights, _ in self.groups]
        return [weights for weights in groups if weights]

    def _settle(self, number: int, names: list[str], rate: float, copied: Download) -> StepFigures:
        """Return the figures of a step, once they have come from the device."""
        total, *terms, norm = copied.result().tolist()
        skipped = not all(map(math.isfinite, (total, *terms, norm)))
        self._skips = self._skips + 1 if skipped else 0
        if self._skips >= _MAX_CONSECUTIVE_SKIPS:
            raise DivergedError(
                f"loss or gradient was not finite in {self._skips} steps in a row, up to step {number}: "
                "lower --train.learning_rate, or take --train.precision fp32"
            )
        return StepFigures(total, dict(zip(names, terms, strict=True)), norm, rate, skipped)

    def _backward(self, batch: tuple[Tensor, Tensor | None, Tensor | None], number: int) -> tuple[list[str], Tensor]:
        """Take the gradients of the batch in parts; return names of terms, and total and terms as tensor."""
        seed = hash((self.config.seed, number, self.ranks.rank)) % 2**63
        generator = torch.Generator(self.device).manual_seed(seed)
        torch.manual_seed(seed)  # for what has no generator of its own, such as augmentations
        # Workers average what all parts come to, not each part.
        no_sync = getattr(self.forward, "no_sync", contextlib.nullcontext)
        assert batch[0] is not None
        count = min(self.config.accumulate, batch_size := len(batch[0]))
        parts = [[None] * count if part is None else part.tensor_split(count) for part in batch]
        names: list[str] = []
        measured = torch.zeros(1, device=self.device)
        for index, (content, styles, drawing) in enumerate(zip(*parts, strict=True)):
            assert content is not None
            weight = len(content) / batch_size
            with no_sync() if index < count - 1 else contextlib.nullcontext():
                found, stylized = self.losses(content, styles, drawing, generator, number)
                self.precision.scaler.scale(found.total * weight).backward()
            terms = found.terms | self.after_backward(stylized.detach(), styles, weight, number)
            names = list(terms)
            measured = measured + weight * torch.stack([found.total.detach(), *terms.values()])
        return names, measured

    def after_backward(self, stylized: Tensor, styles: Tensor | None, weight: float, number: int) -> dict[str, Tensor]:
        """Learn what is learned beside the network from a part of a batch, a share ``weight`` of it; return terms."""
        return {}

    @torch.no_grad()
    def _update(self, skipped: Tensor, number: int, rate: float) -> None:
        """Update weights and average; where ``skipped``, a scalar on the device, is 1 they stay as they are."""
        self.step_optimizers(skipped, rate)
        self.precision.scaler.update()
        self.remove_grid(1 - skipped)
        if self.config.ema_decay:
            # A young average follows faster, else it would remember the random weights it began with.
            decay = min(self.config.ema_decay, (1 + number) / (10 + number))
            means, weights = (list[Tensor](network.parameters()) for network in (self.averaged, self.network))
            changes = list(torch._foreach_sub(weights, means))
            torch._foreach_mul_(changes, (1 - skipped) * (1 - decay))
            torch._foreach_add_(means, changes)

    def step_optimizers(self, skipped: Tensor, rate: float) -> None:
        """Update the weights, while the network learns at ``rate``, unless ``skipped``."""
        step_unless(skipped, self.optimizer)

    @abstractmethod
    def remove_grid(self, share: Tensor | float = 1.0) -> None:
        """Call ``remove_upsampling_grid`` where the network has such a grid."""

    def state(self) -> dict[str, Any]:
        """Return all that the next step depends on, as tensors and plain values; every step has its figures."""
        return {name: part.state_dict() for name, part in self._parts.items()} | {"skips": self._skips}

    def restore(self, state: dict[str, Any]) -> None:
        """Take up where ``state`` was taken."""
        for name, part in self._parts.items():
            part.load_state_dict(state[name])
        self._skips = state["skips"]


@torch.no_grad()
def remove_upsampling_grid(network: TransformNet, share: Tensor | float = 1.0) -> None:
    """Make the last convolution of ``network`` blind to the grid of its own upsampling, in place.

    ``share`` of 0, a scalar on its device, leaves it as it is.

    Resize-convolutions avoid most checkerboards (A. Odena et al., Distill 2016), but two doublings still leave a faint
    weave with periods of 2 and 4 pixels in even areas. The last convolution has 9x9 taps: enough to be blind to such a
    weave and to little else. A kernel sees no pattern that repeats every 4 pixels, but for its mean, when the taps at
    each of the 4x4 places in the period add up to the same. Each kernel becomes the nearest one of that kind; what it
    makes of an even area stays as it was.
    """
    weight, period = cast(ConvLayer, network.decoder[-1]).conv.weight, network.stride
    place = torch.arange(weight.shape[-1], device=weight.device) % period
    places = (place[:, None] * period + place).flatten()
    taps_at = (places[:, None] == torch.arange(period * period, device=weight.device)).to(weight.dtype)
    sums = weight.flatten(2) @ taps_at  # taps_at: (taps, places)
    missing = (sums.mean(dim=-1, keepdim=True) - sums) / taps_at.sum(dim=0)
    weight.add_(share * (missing @ taps_at.T).view_as(weight))
