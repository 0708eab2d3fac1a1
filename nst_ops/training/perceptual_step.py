"""A step of training with the perceptual loss: of a Johnson network or of a ViT-AdaIN."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn

from nst_ops.losses import LossTerms, PerceptualLoss
from nst_ops.losses.color import color_loss
from nst_ops.losses.structure import cel_shaded
from nst_ops.media.images import UInt8Array
from nst_ops.models.johnson import JohnsonNet
from nst_ops.models.style_facts import StyleFacts
from nst_ops.training.data import Crops
from nst_ops.training.discriminator import DiscriminatorTraining
from nst_ops.training.grid import ValidationImages, stylize, validation_grid
from nst_ops.training.step import Network, TrainingStep, remove_upsampling_grid


@dataclass(eq=False)
class PerceptualStep(TrainingStep):
    """Step with ``PerceptualLoss``, which compares with one style image, or with one for each content image.

    Where the loss has an adversarial term, discriminators learn beside the network, one step of each in turn, to tell
    its images from the style images.
    """

    network: Network
    loss: PerceptualLoss

    def __post_init__(self, wrap: Callable[[nn.Module], nn.Module] | None) -> None:
        super().__post_init__(wrap)
        adversarial = self.loss.config.adversarial
        self.discriminator = (
            DiscriminatorTraining(adversarial, self.config, self.precision, self.ranks) if adversarial.weight else None
        )
        self.takes_styles = self.loss.style_targets is None  # a style image with each content image

    def drawing(self, crops: Crops) -> Tensor | None:
        """Return the drawing of ``loss.cel``, filtered before it is cropped; None without weight."""
        cel = self.loss.config.cel
        return crops.cut(cel_shaded(crops.whole(), cel)) if cel.weight else None

    def zero_grad(self) -> None:
        """Drop the gradients of the network and of discriminators."""
        super().zero_grad()
        if self.discriminator:
            self.discriminator.zero_grad()

    def losses(
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

    def after_backward(self, stylized: Tensor, styles: Tensor | None, weight: float, number: int) -> dict[str, Tensor]:
        """Take the gradients of the discriminators; return their own loss, beside adversarial, as discriminator."""
        if not self.discriminator or styles is None or number <= self.config.reconstruct_first:
            return {}
        return {"discriminator": self.discriminator.backward(stylized, styles, weight)}

    def step_optimizers(self, skipped: Tensor, rate: float) -> None:
        """Update the network, and the discriminators after it."""
        super().step_optimizers(skipped, rate)
        if self.discriminator:
            self.discriminator.step(rate, skipped)

    def remove_grid(self, share: Tensor | float = 1.0) -> None:
        """Remove the grid of a Johnson network that makes all of its image."""
        if isinstance(self.network, JohnsonNet) and not self.network.skips:
            remove_upsampling_grid(self.network, share)

    def validate(self, shown: ValidationImages, when: str) -> tuple[dict[str, float], UInt8Array]:
        """Return the losses of the averaged network on validation images, and a grid of them."""
        styles = shown.styles if self.takes_styles else None
        stylized = stylize(self.averaged, shown.content, styles)
        with torch.no_grad():
            styles = styles.to(self.device) if styles is not None else None
            found = self.loss.score(stylized.to(self.device), shown.content.to(self.device), styles)
        figures = {name: float(value) for name, value in {"total": found.total, **found.terms}.items()}
        return figures, validation_grid(shown, stylized, when)

    def result(self) -> tuple[Network, Mapping[str, StyleFacts]]:
        """Return the averaged network."""
        assert isinstance(self.averaged, Network)
        return self.averaged, {}

    def state(self) -> dict[str, Any]:
        """Return all that the next step depends on, of discriminators, too."""
        discriminator = {"discriminator": self.discriminator.state()} if self.discriminator else {}
        return discriminator | super().state()

    def restore(self, state: dict[str, Any]) -> None:
        """Take up where ``state`` was taken."""
        super().restore(state)
        if self.discriminator:
            self.discriminator.restore(state["discriminator"])
