"""Johnson's image transformation network.

J. Johnson, A. Alahi, L. Fei-Fei, "Perceptual Losses for Real-Time Style Transfer and Super-Resolution", ECCV 2016;
layer sizes from its supplementary material, instance normalization from D. Ulyanov et al., arXiv:1607.08022, and
resize-convolutions against checkerboards from A. Odena et al., Distill 2016. Shapes: B batch, C channels, H and W
pixels.
"""

from __future__ import annotations

import copy
import functools
from typing import Any, Literal, Self, cast

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from nst_ops.models.convolution import convolve

Upsampling = Literal["nearest", "bilinear", "transposed"]
Norm = Literal["instance", "batch", "layer", "none"]
Head = Literal["sigmoid", "linear"]
Moments = tuple[Tensor, Tensor]
"""Mean and variance in fp32, broadcastable to (B, C, H, W)."""

_LARGE_MAP = 1 << 20  # elements of an image's map whose normalization on a GPU takes longer than to start it
_FUSED_ERROR = 0.05  # in deviations: some steps of bf16 at 4 deviations, which are 1/64
_NEAR_BLACK = 0.01  # input of the logit with skips: black and white stay this far from 0 and 1


class InstanceNorm(nn.Module):
    """Instance normalization with fp32 statistics that keeps the memory layout.

    ``nn.InstanceNorm2d`` reshapes and so leaves channels-last (pytorch#72341); this form does not, and Inductor fuses
    it with what follows.
    """

    dims: tuple[int, ...] = (2, 3)
    statistics: Moments | None = None
    """Statistics to normalize by instead of the image's own; no part of the weights."""

    def __init__(self, channels: int, eps: float = 1e-5) -> None:
        super().__init__()
        self.weight, self.bias = nn.Parameter(torch.ones(channels)), nn.Parameter(torch.zeros(channels))
        self.eps = eps

    def forward(self, x_bchw: Tensor) -> Tensor:
        """Normalize over ``dims`` of every image, or by ``statistics``; same shape, type and layout."""
        weight, bias = self.weight.float(), self.bias.float()
        is_fused = has_fused_norm(x_bchw) and weight.dim() == 1
        if self.statistics is None and self.dims == InstanceNorm.dims and is_fused:
            return normalize_each(x_bchw, weight, bias, self.eps)
        mean, var = self.statistics or self.moments(x_bchw)
        if self.statistics and len(mean) == 1 and is_fused:
            mean, var = (moment.flatten().expand(len(weight)) for moment in (mean, var))
            return F.batch_norm(x_bchw, mean, var, weight, bias, eps=self.eps)
        scale = weight[..., None, None] * torch.rsqrt(var + self.eps)
        shift = bias[..., None, None] - mean * scale
        # In fp32: the scale of an even area is 300, and with a mean of some hundreds the shift is beyond fp16.
        return torch.addcmul(shift, x_bchw, scale).to(x_bchw.dtype)

    def moments(self, x_bchw: Tensor) -> Moments:
        """Return mean and variance over ``dims``."""
        var, mean = torch.var_mean(x_bchw.float(), dim=self.dims, correction=0, keepdim=True)
        return mean, var


def has_fused_norm(x_bchw: Tensor) -> bool:
    """Return whether batch normalization is the way for ``x_bchw``, in half precision.

    On a CPU it is ten times as fast as by mean and variance. Its sums are good to 1e-5: enough for half precision, not
    for fp32. On a GPU it moves half as many bytes, but takes a kernel or two for each image: large ones get it, at
    inference, where it has been tried.
    """
    if x_bchw.dtype == torch.float32 or x_bchw.is_cpu:
        return x_bchw.is_cpu and x_bchw.dtype != torch.float32
    is_large = x_bchw[0].numel() >= _LARGE_MAP and not torch.is_grad_enabled()
    return x_bchw.is_cuda and is_large and fused_norm_agrees(x_bchw.device, x_bchw.dtype)


@functools.cache
def fused_norm_agrees(device: torch.device, dtype: torch.dtype) -> bool:
    """Try on a device whether batch normalization gives what mean and variance give, for rough and nearly even maps."""
    with torch.inference_mode(False), torch.no_grad():
        generator = torch.Generator().manual_seed(0)
        noise = torch.randn(1, 32, 96, 128, generator=generator).to(device)
        maps = torch.cat([100 * noise, 3 + noise / 64, 250 + 4 * noise, torch.full_like(noise, 7)])
        maps = maps.to(dtype).contiguous(memory_format=torch.channels_last)
        norm = InstanceNorm(32).to(device)
        mean, var = norm.moments(maps)
        expected = (maps.float() - mean) * torch.rsqrt(var + norm.eps)
        got = normalize_each(maps, norm.weight, norm.bias, norm.eps)
        return bool((got - expected).abs().max() < _FUSED_ERROR) and got.is_contiguous(
            memory_format=torch.channels_last
        )


def normalize_each(x_bchw: Tensor, weight: Tensor, bias: Tensor, eps: float) -> Tensor:
    """Normalize every channel of every image, then scale and shift it by (C,), fp32; same shape, type and layout.

    The statistics of a batch of one image are its own. Not by ``F.group_norm``, whose variance of a channels-last map
    is E[x^2] - E[x]^2: nothing but rounding where the map is nearly even. On a GPU not by cuDNN, which may add up in
    integers and overflow.
    """
    if x_bchw.is_cuda:
        images = [torch.native_batch_norm(x, weight, bias, None, None, True, 0.0, eps)[0] for x in x_bchw.split(1)]
    else:
        images = [F.batch_norm(x, None, None, weight, bias, training=True, eps=eps) for x in x_bchw.split(1)]
    return images[0] if len(images) == 1 else torch.cat(images)


class LayerNorm(InstanceNorm):
    """Normalization of all channels of an image together: group normalization of one group."""

    dims = (1, 2, 3)


_NORMS = {"instance": InstanceNorm, "batch": nn.BatchNorm2d, "layer": LayerNorm, "none": nn.Identity}


class ConvLayer(nn.Module):
    """Convolution with reflection padding, after resize or as transposed upsampling."""

    def __init__(
        self, before: int, after: int, kernel: int, stride: int = 1, upsampling: Upsampling | None = None
    ) -> None:
        super().__init__()
        self.upsampling = upsampling
        self.conv: nn.Conv2d | nn.ConvTranspose2d = (
            nn.ConvTranspose2d(before, after, kernel, 2, padding=1, output_padding=1)
            if upsampling == "transposed"
            else nn.Conv2d(before, after, kernel, stride)
        )

    def forward(self, x_bchw: Tensor) -> Tensor:
        """Convolve (B, C, H, W); H and W are divided by the stride, or doubled by upsampling."""
        if isinstance(self.conv, nn.ConvTranspose2d):
            return cast(Tensor, self.conv(x_bchw))
        assert self.upsampling != "transposed"
        return convolve(self.conv, x_bchw, self.upsampling)


def _relu(x_bchw: Tensor) -> Tensor:
    """Return the ReLU, in the memory of its input where no gradient needs that."""
    return F.relu(x_bchw, inplace=not torch.is_grad_enabled())


class ConvNormReLU(nn.Module):
    """Convolution, normalization and ReLU; ``layer`` holds further arguments of ``ConvLayer``."""

    def __init__(self, before: int, after: int, kernel: int, norm: Norm, **layer: Any) -> None:
        super().__init__()
        self.conv = ConvLayer(before, after, kernel, **layer)
        self.norm = _NORMS[norm](after)

    def forward(self, x_bchw: Tensor) -> Tensor:
        """Run the three layers in turn; sizes change as in ``ConvLayer``."""
        return _relu(self.norm(self.conv(x_bchw)))


class ResidualBlock(nn.Module):
    """Two normalized 3x3 convolutions around an identity, no ReLU after the sum."""

    def __init__(self, channels: int, norm: Norm) -> None:
        super().__init__()
        self.conv1, self.norm1 = ConvLayer(channels, channels, 3), _NORMS[norm](channels)
        self.conv2, self.norm2 = ConvLayer(channels, channels, 3), _NORMS[norm](channels)

    def forward(self, x_bchw: Tensor) -> Tensor:
        """Return (B, C, H, W) of the same shape."""
        return cast(Tensor, x_bchw + self.norm2(self.conv2(_relu(self.norm1(self.conv1(x_bchw))))))


class TransformNet(nn.Module):
    """Image transformation network from RGB in [0, 1] to stylized RGB, both (B, 3, H, W).

    H and W must be multiples of ``stride`` and at least 16. ``config`` has at least ``width``, the channels at full
    size, and ``norm``.
    """

    stride = 4
    config: dict[str, Any]
    encoder: nn.Sequential
    residuals: nn.Sequential
    decoder: nn.Sequential
    head: Head = "sigmoid"
    skips: bool = False

    def forward(self, x_bchw: Tensor) -> Tensor:
        """Stylize (B, 3, H, W)."""
        deep, finer = self.encode(x_bchw)
        return self.decode(self.residuals(deep), finer)

    def encode(self, x_bchw: Tensor) -> tuple[Tensor, tuple[Tensor, ...]]:
        """Return the deepest map, (B, 4 x width, H / 4, W / 4), and with skips all finer ones, input last."""
        if not self.skips:
            return self.encoder(x_bchw), ()
        full = self.encoder[0](x_bchw)
        half = self.encoder[1](full)
        return self.encoder[2](half), (half, full, x_bchw)

    def decode(self, deep: Tensor, finer: tuple[Tensor, ...]) -> Tensor:
        """Return the image, (B, 3, H, W), from the output of the residual blocks and ``finer`` of ``encode``."""
        if not self.skips:
            out: Tensor = self.decoder(deep)
            return out.sigmoid() if self.head == "sigmoid" else out
        half, full, x_bchw = finer
        change: Tensor = self.decoder[2](self.decoder[1](self.decoder[0](deep) + half) + full)
        # The inverse of the sigmoid, bounded so that black and white can still be left.
        return (change + torch.logit(x_bchw, eps=_NEAR_BLACK)).sigmoid()

    def without_idle_biases(self) -> Self:
        """Drop biases of convolutions before an instance norm, which takes them off with the mean; returns itself."""
        return self

    def shared_copy(self) -> Self:
        """Return a network that shares the weights and has ``statistics`` and hooks of its own."""
        return copy.deepcopy(self, {id(weight): weight for weight in (*self.parameters(), *self.buffers())})

    def norms(self) -> list[InstanceNorm]:
        """Return the layers that normalize by an image's statistics, in the order of the pass."""
        return [module for module in self.modules() if isinstance(module, InstanceNorm)]


class JohnsonNet(TransformNet):
    """The network of one style.

    Args:
        width: channels of the first layer; the residual blocks have four times as many. 32 is the published network
            (1.68 M parameters).
        num_blocks: residual blocks.
        upsampling: ``nearest`` or ``bilinear`` resize then convolution, or ``transposed`` convolution.
        norm: ``instance`` (Ulyanov), ``batch`` (Johnson), ``layer`` over all channels of an image at once, which keeps
            their relations and so flat colors; or ``none``, which keeps their level too, and makes every pixel's result
            independent of what lies far from it.
        head: ``sigmoid`` keeps the output in [0, 1]; ``linear`` leaves it to the caller to clamp, as in the layout of
            pytorch/examples.
        skips: hand the two finer levels of the encoder to the decoder (O. Ronneberger et al., MICCAI 2015), which then
            gives a change of the image, not the whole of it: small forms survive, such as eyes in a small face. Needs
            the head ``sigmoid``.
    """

    architecture = "johnson"

    def __init__(
        self,
        width: int = 32,
        num_blocks: int = 5,
        upsampling: Upsampling = "nearest",
        norm: Norm = "instance",
        head: Head = "sigmoid",
        skips: bool = False,
    ) -> None:
        super().__init__()
        if skips and head != "sigmoid":
            raise ValueError(f"skips need the head sigmoid, not {head}")
        self.config = dict(width=width, num_blocks=num_blocks, upsampling=upsampling, norm=norm, head=head, skips=skips)
        self.encoder = nn.Sequential(
            ConvNormReLU(3, width, 9, norm),
            ConvNormReLU(width, 2 * width, 3, norm, stride=2),
            ConvNormReLU(2 * width, 4 * width, 3, norm, stride=2),
        )
        self.residuals = nn.Sequential(*(ResidualBlock(4 * width, norm) for _ in range(num_blocks)))
        self.decoder = nn.Sequential(
            ConvNormReLU(4 * width, 2 * width, 3, norm, upsampling=upsampling),
            ConvNormReLU(2 * width, width, 3, norm, upsampling=upsampling),
            ConvLayer(width, 3, 9),
        )
        self.head, self.skips = head, skips
        if norm == "none":  # initial weights that need no normalization: K. He et al., ICCV 2015, blocks small
            for name, module in self.named_modules():
                if isinstance(module, nn.Conv2d):
                    nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
                    nn.init.zeros_(cast(Tensor, module.bias))
                    if name.endswith("conv2.conv"):
                        nn.init.normal_(module.weight, std=0.01)
        if skips:  # the network begins nearly as the identity
            last = cast(ConvLayer, self.decoder[-1]).conv
            nn.init.normal_(last.weight, std=1e-3)
            nn.init.zeros_(cast(Tensor, last.bias))

    def without_idle_biases(self) -> Self:
        """See ``TransformNet``."""
        pairs: list[tuple[ConvLayer, nn.Module]] = []
        for module in self.modules():
            if isinstance(module, ConvNormReLU):
                pairs += [(module.conv, module.norm)]
            elif isinstance(module, ResidualBlock):
                pairs += [(module.conv1, module.norm1), (module.conv2, module.norm2)]
        for layer, norm in pairs:
            if type(norm) is InstanceNorm:
                layer.conv.bias = None
        return self
