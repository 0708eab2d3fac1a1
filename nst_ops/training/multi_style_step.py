"""A step of training of a network of many styles: its convolutions, and the rows that the step draws.

Shapes: B batch, S styles, R numbers in a row.
"""

from __future__ import annotations

import copy
import io
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image
from torch import Tensor, nn

from nst_ops.config.losses import PaintingLossConfig
from nst_ops.config.training import TrainManyStylesConfig
from nst_ops.losses import LossTerms
from nst_ops.losses.painting import PaintingLoss, StyleTarget
from nst_ops.losses.temporal import unsteadiness
from nst_ops.media.images import UInt8Array
from nst_ops.models.conditional import ConditionalNet
from nst_ops.models.style_facts import IDENTITY, StyleFacts
from nst_ops.training.data import ROW_STREAM, shuffled, square
from nst_ops.training.grid import ValidationImages, sheet, stylize, to_pixels
from nst_ops.training.step import StepFigures, TrainingStep, remove_upsampling_grid


class SeparateRows(nn.Module):
    """A network of many styles whose rows are parameters of their own: a step moves only those that it draws."""

    stride = ConditionalNet.stride

    def __init__(self, network: ConditionalNet) -> None:
        super().__init__()
        self.base = copy.deepcopy(network)
        self.base.rows.requires_grad_(False)
        self.rows = nn.ParameterList(row.detach().clone() for row in network.rows)

    def forward(self, x_bchw: Tensor, styles_b: Tensor) -> Tensor:
        """Stylize (B, 3, H, W) each in the style of a number, int64 (B,)."""
        stylized: Tensor = self.base(x_bchw, torch.stack([self.rows[number] for number in styles_b.tolist()]))
        return stylized

    def joined(self) -> ConditionalNet:
        """Return the network with these rows, on the CPU."""
        return self.base.with_rows(dict(zip(self.base.names, self.rows, strict=True)))


@dataclass(frozen=True)
class PaintedStyles:
    """The styles to learn, in the order of the rows."""

    targets: StyleTarget
    facts: dict[str, StyleFacts]
    """What is known of each, by name, with a thumbnail."""
    digest: str
    """Hash of names and paintings."""

    @property
    def names(self) -> list[str]:
        """Names of the styles that have a painting."""
        return list(self.facts)


@dataclass(eq=False)
class MultiStyleStep(TrainingStep):
    """Step with ``PaintingLoss``: each image of the batch in a style of its own, drawn in a shuffled order.

    Every few steps all images go through the row of the identity, too, which learns to give them back.
    """

    network: SeparateRows
    loss: PaintingLoss
    config: TrainManyStylesConfig
    weights: PaintingLossConfig = field(kw_only=True)
    styles: PaintedStyles = field(kw_only=True)

    def __post_init__(self, wrap: Callable[[nn.Module], nn.Module] | None) -> None:
        super().__post_init__(wrap)
        self.styles = replace(self.styles, targets=self.styles.targets.to(self.device))
        contents = [self.weights.contents.get(name, self.weights.content) for name in self.styles.names]
        self._contents = torch.tensor(contents, device=self.device)

    def parameter_groups(self) -> list[tuple[list[nn.Parameter], float]]:
        """Return the convolutions, and each row by itself."""
        convolutions = [weights for weights in self.network.base.parameters() if weights.requires_grad]
        factor = self.config.row_learning_rate / self.config.learning_rate
        return [(convolutions, 1.0), *(([row], factor) for row in self.network.rows)]

    def start(
        self, content_bchw: Tensor, number: int, styles_bchw: Tensor | None = None, drawing_bchw: Tensor | None = None
    ) -> Callable[[], StepFigures]:
        """Draw a style for each image, and train on this worker's share."""
        drawn = shuffled(self.config.seed, ROW_STREAM, len(self.styles.names), number, self.config.batch_size)
        styles_b = torch.from_numpy(drawn[self.ranks.rank :: self.ranks.world].copy())
        return super().start(content_bchw, number, styles_b)

    def losses(
        self, content: Tensor, styles: Tensor | None, drawing: Tensor | None, generator: torch.Generator, number: int
    ) -> tuple[LossTerms, Tensor]:
        """Return the loss to minimize, and the stylized images; ``styles`` are their numbers, (B,) on the CPU."""
        assert styles is not None, "drawn by start"
        images, numbers = {"clean": content}, {"clean": styles}
        motion, identity = self.weights.motion, self.weights.identity
        shift = (0, 0)
        if motion.weight:
            images["moved"], shift = self._moved(content, generator)
            numbers["moved"] = styles
        if identity.weight and number % identity.every == 0:
            images[IDENTITY] = content
            numbers[IDENTITY] = torch.full_like(styles, len(self.styles.names))
        with self.precision.autocast():
            inputs = torch.cat([*images.values()]).contiguous(memory_format=torch.channels_last)
            outputs = self.forward(inputs, torch.cat([*numbers.values()])).chunk(len(images))
            stylized = dict(zip(images, outputs, strict=True))
            of_each = self.loss(stylized["clean"], content, self.styles.targets.take(styles.to(self.device)))
        terms = {name: values.mean() for name, values in of_each.items()}
        total = self._weighted(of_each, styles).mean()
        if "moved" in stylized:
            terms["motion"] = unsteadiness(stylized["clean"], stylized["moved"], shift).mean()
            total = total + motion.weight * terms["motion"]
        if IDENTITY in stylized:
            terms[IDENTITY] = F.l1_loss(stylized[IDENTITY].float(), content)
            total = total + identity.weight * terms[IDENTITY]
        return LossTerms(total, {name: term.detach() for name, term in terms.items()}), stylized["clean"]

    def _weighted(self, of_each: Mapping[str, Tensor], styles_b: Tensor) -> Tensor:
        contents = self._contents[styles_b.to(self.device)]
        return of_each["style"] + self.weights.palette * of_each["palette"] + contents * of_each["content"]

    def _moved(self, content: Tensor, generator: torch.Generator) -> tuple[Tensor, tuple[int, int]]:
        """Return the images with noise, and moved by numbers of pixels that the network's stride does not divide."""
        most, stride = self.weights.motion.max_shift, self.network.stride
        shifts = [pixels for pixels in range(-most, most + 1) if pixels % stride]
        place = torch.randint(len(shifts), (2,), generator=generator, device=generator.device).tolist()
        down, right = (shifts[index] for index in place)
        noise = torch.randn(content.shape, generator=generator, device=content.device) * self.weights.motion.noise
        return (torch.roll(content, (down, right), (2, 3)) + noise).clamp(0, 1), (down, right)

    def remove_grid(self, share: Tensor | float = 1.0) -> None:
        """Remove the grid of the upsampling, which is the same for all rows."""
        remove_upsampling_grid(self.network.base.in_style(self.network.base.rows[0]), share)

    def validate(self, shown: ValidationImages, when: str) -> tuple[dict[str, float], UInt8Array]:
        """Return the losses of the averaged network, each style on one image in turn, and a sheet of all styles."""
        content, num_styles = shown.content, len(self.styles.names)
        side = content.shape[-1]
        blank: UInt8Array = np.full((side, side, 3), 255, np.uint8)
        rows: dict[str, list[UInt8Array]] = {when: [blank, *to_pixels(content)]}
        found: list[dict[str, Tensor]] = []
        for number, (name, facts) in enumerate(self.styles.facts.items()):
            stylized = stylize(self.averaged, content, torch.full((len(content),), number))
            rows[name] = [_tile(facts.thumbnail, side), *to_pixels(stylized)]
            one, style_b = number % len(content), torch.tensor([number])
            with torch.no_grad(), self.precision.autocast():
                images = (stylized[one : one + 1].to(self.device), content[one : one + 1].to(self.device))
                of_each = self.loss(*images, self.styles.targets.take(style_b.to(self.device)))
            found.append({"total": self._weighted(of_each, style_b), **of_each})
        figures = {term: float(torch.cat([each[term] for each in found]).mean()) for term in found[0]}
        if self.weights.identity.weight:
            same = stylize(self.averaged, content, torch.full((len(content),), num_styles))
            rows[IDENTITY] = [blank, *to_pixels(same)]
            figures[IDENTITY] = float(F.l1_loss(same, content))
            figures["total"] += self.weights.identity.weight * figures[IDENTITY]
        return figures, sheet(rows)

    def result(self) -> tuple[ConditionalNet, Mapping[str, StyleFacts]]:
        """Return the averaged network, and what is known of its styles."""
        assert isinstance(self.averaged, SeparateRows)
        return self.averaged.joined(), self.styles.facts


def _tile(thumbnail: bytes, side: int) -> UInt8Array:
    return square(np.asarray(Image.open(io.BytesIO(thumbnail)).convert("RGB")), side)
