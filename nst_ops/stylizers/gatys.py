"""Gatys: optimize the pixels of each image until VGG sees its content and the style of a style image.

L. Gatys, A. Ecker, M. Bethge, "Image Style Transfer Using Convolutional Neural Networks", CVPR 2016. Shapes: S steps, B
batch, T terms of the loss, H and W pixels.
"""

from __future__ import annotations

import logging
import math
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from weakref import WeakKeyDictionary

import torch
import torch.nn.functional as F
from torch import Tensor

from nst_ops.config.stylize import GatysConfig
from nst_ops.losses import content_loss, gram_loss, gram_matrix, total_variation
from nst_ops.media.images import UInt8Array
from nst_ops.media.style_images import Style
from nst_ops.models.vgg import VGGFeatures, WeightsError, smallest_side
from nst_ops.stylizers.device import choose_device, pad, to_frames, to_network
from nst_ops.stylizers.memory import stylize_in_parts

Objective = Callable[[Tensor], Tensor]
"""From images, (B, 3, H, W) in [0, 1], to a scalar to minimize."""
Features = dict[tuple[float, str], Tensor]
"""Activations or their Gram matrices, by the scale of the image and the VGG layer."""

_TERMS = ("content", "gram", "variation")
# L-BFGS starts so far from black and white: where the sigmoid is flat it sees no slope, then jumps.
_MARGIN = 0.05
_HISTORY = 50  # gradients that L-BFGS remembers, each as large as the images
_TIMED_STEPS = 5  # after so many the rest is estimated
# Maps of 64 channels alive at once: activations of all layers, which the gradient needs, their padded
# copies, those for the Gram matrices, and gradients (measured 15.6), and the memory of L-BFGS (4.7).
_LIVE_MAPS = 21

_log = logging.getLogger(__name__)


def adam(start: Tensor, objective: Objective, steps: int, learning_rate: float) -> Tensor:
    """Minimize by Adam (D. Kingma, J. Ba, ICLR 2015) from ``start`` in [0, 1], put back into it after every step.

    Pixels do not meet: images whose losses are added come out as they would one by one. The rate, in units of the
    range, falls to 0 along a cosine, so that the last steps settle what the first ones threw about.
    """
    x_bchw = start.clone(memory_format=torch.contiguous_format).requires_grad_()
    optimizer = torch.optim.Adam([x_bchw], lr=learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=steps)
    for _ in range(steps):
        optimizer.zero_grad()
        objective(x_bchw).backward()
        optimizer.step()
        schedule.step()
        with torch.no_grad():
            x_bchw.clamp_(0, 1)
    return x_bchw.detach()


def lbfgs(start: Tensor, objective: Objective, steps: int) -> Tensor:
    """Minimize by L-BFGS (D. Liu, J. Nocedal, Math. Programming 1989) over a sigmoid's argument.

    The line search (strong Wolfe) never takes a step up; the last one may take a few more than ``steps``.
    """
    z_bchw = torch.logit(start, _MARGIN).clone(memory_format=torch.contiguous_format).requires_grad_()
    optimizer = torch.optim.LBFGS(
        [z_bchw],
        max_iter=steps,
        max_eval=steps,
        tolerance_grad=0,
        tolerance_change=0,
        history_size=_HISTORY,
        line_search_fn="strong_wolfe",
    )

    def evaluate() -> Tensor:
        optimizer.zero_grad()
        loss = objective(z_bchw.sigmoid())
        loss.backward()
        return loss

    optimizer.step(evaluate)
    return z_bchw.detach().sigmoid()


class GatysStylizer:
    """Stylizer of any style: gives an image the features of its content and of a style image.

    Every image has losses of its own, so a batch gives what its images give one by one. L-BFGS, whose step depends on
    all that it optimizes, takes them one by one.

    Args:
        config: network, terms and optimizer.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.
        precision: precision of the network; ``auto`` is fp32. Pixels and losses are always fp32.

    Attributes:
        last_losses: for each image of the last call a row per step: ``step`` (from 1), ``total`` (weighted) and the
            unweighted ``content``, ``gram`` and ``variation``; coarse levels first.

    Raises:
        WeightsError: the weights are not there, or do not reach the taps asked for.
        ValueError: no such device or tap, or a precision that gradients do not survive.
    """

    def __init__(self, config: GatysConfig, device: str = "auto", precision: str = "auto") -> None:
        if precision == "fp16":
            raise ValueError("model.precision: the gradients of gatys vanish in fp16, use auto, fp32 or bf16")
        self.device, self.dtype = choose_device(device, "fp32" if precision == "auto" else precision)
        self.config = config
        self.vgg = _load_vgg(config).to(self.device).to(memory_format=torch.channels_last)
        self.last_losses: list[list[dict[str, float]]] = []
        self._content_weights = _shares({1.0: 1.0}, config.content.taps)
        self._gram_weights = _shares(config.gram.scales, config.gram.taps)
        terms = (config.content, config.gram, config.variation)
        self._weights = torch.tensor([term.weight for term in terms], device=self.device)
        compared = (*self._content_weights, *self._gram_weights)
        self._smallest = max(math.ceil(smallest_side(tap) / scale) for scale, tap in compared)
        # Styles of a run may be many thousands: what is known of one goes when it goes.
        self._grams: WeakKeyDictionary[Style, dict[int, Features]] = WeakKeyDictionary()

    def __call__(self, frames_nhwc: UInt8Array, styles: Sequence[Style] = ()) -> UInt8Array:
        """See ``Stylizer``.

        Raises ValueError where there are not as many styles as frames, FloatingPointError where the losses left the
        range of numbers.
        """
        if len(styles) != len(frames_nhwc):
            raise ValueError(f"{len(frames_nhwc)} frames and {len(styles)} styles: each frame takes one")
        count, height, width, _ = frames_nhwc.shape
        pixels = max(height, self._smallest) * max(width, self._smallest)
        elements = round(64 * pixels * max({1.0, *self.config.gram.scales}) ** 2)
        pixels *= sum(scale**2 for scale in {1.0, *self.config.gram.scales})
        self.last_losses = []
        stylized_nhwc: UInt8Array = stylize_in_parts(
            lambda some: self._stylize(frames_nhwc[some], styles[some]),
            count,
            (height, width),
            round(_LIVE_MAPS * 64 * 4 * pixels),
            elements,
            self.device,
            at_most=count if self.config.optimizer == "adam" else 1,
        )
        return stylized_nhwc

    def _stylize(self, frames_nhwc: UInt8Array, styles: Sequence[Style]) -> UInt8Array:
        """Stylize frames that the memory holds at once, from coarse to fine."""
        _, height, width, _ = frames_nhwc.shape
        x_bchw = content = self._pixels(frames_nhwc, self._smallest)
        if self.config.start == "noise":  # the same for every image of a size, wherever it stands in a batch
            generator = torch.Generator().manual_seed(self.config.seed)
            x_bchw = torch.rand(content.shape[1:], generator=generator).to(self.device).expand_as(content)
        halvings = int(math.log2(min(content.shape[2:]) / self._smallest))  # that the taps can bear
        levels = range(min(self.config.levels - 1, halvings), -1, -1)
        estimate = _TimeEstimate(f"{len(styles)} x {width}x{height} px", self.config.steps, levels)
        steps = []
        for level in levels:
            content_here = _scaled(content, 0.5**level)
            x_bchw = F.interpolate(x_bchw, content_here.shape[2:], mode="bilinear", antialias=True).clamp(0, 1)
            grams = [self._style_grams(style, level) for style in styles]
            x_bchw, losses_sbt = self._optimize(x_bchw, content_here, grams, estimate)
            steps.append(losses_sbt)
        self._keep_losses(torch.cat(steps))
        return to_frames(x_bchw[:, :, :height, :width])

    def _optimize(
        self, start: Tensor, content: Tensor, grams: Sequence[Features], estimate: _TimeEstimate
    ) -> tuple[Tensor, Tensor]:
        """Return images after ``config.steps``, in [0, 1], and their losses on the way: (S, B, T)."""
        with torch.no_grad():
            targets = self._features(content, [1.0])
        losses_sbt: list[Tensor] = []

        def objective(x_bchw: Tensor) -> Tensor:
            losses_bt = self._losses(x_bchw, targets, grams)
            losses_sbt.append(losses_bt.detach())
            estimate.tick()
            return (losses_bt @ self._weights).sum()

        if self.config.optimizer == "adam":
            stylized = adam(start, objective, self.config.steps, self.config.learning_rate)
        else:
            stylized = lbfgs(start, objective, self.config.steps)
        return stylized, torch.stack(losses_sbt)

    def _losses(self, x_bchw: Tensor, content: Features, grams: Sequence[Features]) -> Tensor:
        """Return the unweighted terms of each image, (B, T), independent of its neighbors'."""
        seen = self._features(x_bchw, {1.0, *self.config.gram.scales})
        losses = []
        for b in range(len(x_bchw)):
            alone = slice(b, b + 1)
            here = {key: activations[alone] for key, activations in seen.items()}
            of_content = [w * content_loss(here[key], content[key][alone]) for key, w in self._content_weights.items()]
            of_gram = [w * gram_loss(here[key], grams[b][key]) for key, w in self._gram_weights.items()]
            variation = total_variation(x_bchw[alone])
            losses.append(torch.stack([torch.stack(of_content).sum(), torch.stack(of_gram).sum(), variation]))
        return torch.stack(losses)

    def _style_grams(self, style: Style, level: int) -> Features:
        """Return the Gram matrices for images halved ``level`` times; computed once for each style."""
        kept = self._grams.setdefault(style, {})
        if level not in kept:
            pixels = self._pixels(style.pixels_hwc[None], self._smallest << level)
            with torch.no_grad():
                seen = self._features(_scaled(pixels, 0.5**level), self.config.gram.scales)
            kept[level] = {key: gram_matrix(seen[key]) for key in self._gram_weights}
        return kept[level]

    def _features(self, x_bchw: Tensor, scales: Iterable[float]) -> Features:
        features: Features = {}
        for scale in scales:
            scaled = _scaled(x_bchw, scale).contiguous(memory_format=torch.channels_last)
            with torch.autocast(self.device.type, self.dtype, enabled=self.dtype != torch.float32):
                seen = self.vgg(scaled)
            features |= {(scale, tap): activations for tap, activations in seen.items()}
        return features

    def _pixels(self, frames_nhwc: UInt8Array, smallest: int) -> Tensor:
        """Return (B, 3, H, W) in [0, 1], mirrored at the right and the bottom up to ``smallest`` pixels."""
        x_bchw = to_network(frames_nhwc, self.device, torch.float32)
        return pad(x_bchw, smallest) if min(x_bchw.shape[2:]) < smallest else x_bchw

    def _keep_losses(self, losses_sbt: Tensor) -> None:
        """Add the losses of a batch to ``last_losses``."""
        totals = (losses_sbt @ self._weights).T.tolist()
        if not all(math.isfinite(total) for image in totals for total in image):
            raise FloatingPointError("gatys: the losses are no numbers: lower model.gatys.learning_rate or use fp32")
        for of_image, terms in zip(totals, losses_sbt.transpose(0, 1).tolist(), strict=True):
            steps = enumerate(zip(of_image, terms, strict=True), 1)
            rows = [{"step": n, "total": total, **dict(zip(_TERMS, row, strict=True))} for n, (total, row) in steps]
            self.last_losses.append(rows)


class _TimeEstimate:
    """Logs how long images will take, once it has seen a few steps."""

    def __init__(self, what: str, steps: int, levels: Sequence[int]) -> None:
        self.what, self.steps = what, steps * len(levels)
        # a level has a quarter of the pixels of the next
        self.first_steps = steps * sum(4.0 ** (levels[0] - level) for level in levels)
        self.done, self.started = 0, 0.0

    def tick(self) -> None:
        """Count a step; to be called in every one."""
        if self.done == 0:
            self.started = time.monotonic()
        if self.done == min(_TIMED_STEPS, self.steps - 1) > 0:
            minutes = (time.monotonic() - self.started) / self.done * self.first_steps / 60
            _log.info("gatys: %s, %d steps: about %.1f minutes", self.what, self.steps, minutes)
        self.done += 1


def _load_vgg(config: GatysConfig) -> VGGFeatures:
    """Load the frozen VGG; WeightsError says what to set where it cannot be had."""
    taps = {*config.content.taps, *config.gram.taps}
    try:
        return VGGFeatures(config.network, taps, config.weights, config.padding)
    except WeightsError as error:
        raise WeightsError(
            f"{error}: set model.gatys.content.taps and model.gatys.gram.taps to those it can serve, "
            "or model.gatys.weights to a whole file"
        ) from error
    except OSError as error:  # no such file, or no network to download from
        raise WeightsError(
            f"no weights of {config.network} ({error}): set model.gatys.weights to a local file with "
            "torchvision's keys (.safetensors or .pth)"
        ) from error


def _shares(scales: Mapping[float, float], taps: Mapping[str, float]) -> dict[tuple[float, str], float]:
    """Return the weight of each comparison; they add up to 1."""
    product = {(scale, tap): s * t for scale, s in scales.items() for tap, t in taps.items()}
    whole = sum(product.values())
    return {key: part / whole for key, part in product.items()}


def _scaled(x_bchw: Tensor, scale: float) -> Tensor:
    return x_bchw if scale == 1 else F.interpolate(x_bchw, scale_factor=scale, mode="bilinear", antialias=True)
