"""One step of training. It does not know who calls it, nor on how many machines."""

import contextlib
import copy
import math
from collections.abc import Callable
from dataclasses import InitVar, dataclass, field
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn

from nst_ops.config import FatalError
from nst_ops.config.training import TrainConfig
from nst_ops.losses import LossTerms, PerceptualLoss
from nst_ops.losses.color import color_loss
from nst_ops.losses.structure import cel_shaded
from nst_ops.models.host_copies import Download, host_copies
from nst_ops.models.johnson import ConvLayer, JohnsonNet, TransformNet
from nst_ops.models.vit_adain import ViTAdaIN
from nst_ops.training.data import Crops
from nst_ops.training.discriminator import DiscriminatorTraining
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
class TrainingStep:
    """Images in, updated network and figures out.

    AdamW on the schedule of ``config``, gradients clipped. A step whose loss or gradient is not finite changes nothing,
    which is decided on the device; twenty in a row end the training. All that is random in a step is drawn from the
    seed and its number. Where the loss has an adversarial term, discriminators learn beside the network, one step of
    each in turn, to tell its images from the style images.
    """

    network: Network  # takes content images, or content and style images; lies on its device
    loss: PerceptualLoss  # on the same device; frozen, and not part of the network
    config: TrainConfig
    wrap: InitVar[Callable[[nn.Module], nn.Module] | None] = None  # such as DDP; what is saved is the network itself
    ranks: Ranks = field(default_factory=Ranks)

    def __post_init__(self, wrap: Callable[[nn.Module], nn.Module] | None) -> None:
        network, loss, config = self.network, self.loss, self.config
        self._remove_grid()
        self.forward = wrap(network) if wrap else network
        self.device = next(network.parameters()).device
        self.precision = Precision(config.precision, self.device)
        trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
        self.optimizer = adamw(trained, config.learning_rate, config, config.weight_decay)
        adversarial = loss.config.adversarial
        self.discriminator = (
            DiscriminatorTraining(adversarial, config, self.precision, self.ranks) if adversarial.weight else None
        )
        self.averaged = copy.deepcopy(network).requires_grad_(False) if config.ema_decay else network
        self.takes_styles = loss.style_targets is None  # a style image with each content image
        self._parts: dict[str, Any] = {"model": network, "averaged": self.averaged, "optimizer": self.optimizer}
        self._parts["scaler"] = self.precision.scaler
        self._skips = 0

    def drawing(self, crops: Crops) -> Tensor | None:
        """Return the drawing of ``loss.cel``, filtered before it is cropped; None without weight."""
        cel = self.loss.config.cel
        return crops.cut(cel_shaded(crops.whole(), cel)) if cel.weight else None

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
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad(set_to_none=True)
        if self.discriminator:
            self.discriminator.zero_grad()
        names, measured = self._backward((content_bchw, styles_bchw, drawing_bchw), number)
        self.precision.scaler.unscale_(self.optimizer)
        # DDP has averaged the gradients, so their norm is the same on every worker, and so is what follows.
        grad_norm = nn.utils.clip_grad_norm_(self.network.parameters(), self.config.clip_norm or math.inf)
        figures = self.ranks.mean(torch.cat([measured, grad_norm.detach()[None]]))
        self._update(not_finite(figures), number, rate)
        return partial(self._settle, number, names, rate, host_copies(self.device).down(figures))

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
                found, stylized = self._losses(content, styles, drawing, generator, number)
                self.precision.scaler.scale(found.total * weight).backward()
            terms = found.terms
            if self.discriminator and styles is not None and number > self.config.reconstruct_first:
                loss = self.discriminator.backward(stylized.detach(), styles, weight)
                terms = terms | {"discriminator": loss}
            names = list(terms)
            measured = measured + weight * torch.stack([found.total.detach(), *terms.values()])
        return names, measured

    def _losses(
        self, content: Tensor, styles: Tensor | None, drawing: Tensor | None, generator: torch.Generator, number: int
    ) -> tuple[LossTerms, Tensor]:
        """Return the loss to minimize, and the stylized images."""
        with self.precision.autocast():
            views = self.loss.views(content, generator, styles if self.takes_styles else None, drawing)
            outputs = self.forward(*views.inputs())
            stylized = views.split(outputs)["clean"]
            if number <= self.config.reconstruct_first:
                error = color_loss(stylized, content if drawing is None else drawing)
                return LossTerms(error, {"reconstruction": error.detach()}), stylized
            found = self.loss(outputs, views)
            if self.discriminator:
                adversarial = self.discriminator.generator_loss(stylized)
                total = found.total + self.loss.config.adversarial.weight * adversarial
                found = LossTerms(total, found.terms | {"adversarial": adversarial.detach()})
        return found, stylized

    @torch.no_grad()
    def _update(self, skipped: Tensor, number: int, rate: float) -> None:
        """Update weights and average; where ``skipped``, a scalar on the device, is 1 they stay as they are."""
        step_unless(skipped, self.optimizer)
        if self.discriminator:
            self.discriminator.step(rate, skipped)
        self.precision.scaler.update()
        self._remove_grid(1 - skipped)
        if self.config.ema_decay:
            # A young average follows faster, else it would remember the random weights it began with.
            decay = min(self.config.ema_decay, (1 + number) / (10 + number))
            means, weights = (list[Tensor](network.parameters()) for network in (self.averaged, self.network))
            changes = list(torch._foreach_sub(weights, means))
            torch._foreach_mul_(changes, (1 - skipped) * (1 - decay))
            torch._foreach_add_(means, changes)

    def _remove_grid(self, share: Tensor | float = 1.0) -> None:
        if isinstance(self.network, JohnsonNet) and not self.network.skips:
            remove_upsampling_grid(self.network, share)

    def state(self) -> dict[str, Any]:
        """Return all that the next step depends on, as tensors and plain values; every step has its figures."""
        discriminator = {"discriminator": self.discriminator.state()} if self.discriminator else {}
        return discriminator | {name: part.state_dict() for name, part in self._parts.items()} | {"skips": self._skips}

    def restore(self, state: dict[str, Any]) -> None:
        """Take up where ``state`` was taken."""
        for name, part in self._parts.items():
            part.load_state_dict(state[name])
        self._skips = state["skips"]
        if self.discriminator:
            self.discriminator.restore(state["discriminator"])


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
