"""Temporal terms: small changes of the content image make only the same small changes of the result.

Video is imitated on single images by changes that are known exactly, noise and motion, so that there is no optical flow
to estimate and no video to collect. Shapes: B batch, C channels, H and W pixels. A ``generator`` is on the CPU or on
the device of the images; default: that device's own.
"""

import torch
import torch.nn.functional as F
from torch import Tensor


def add_noise(images: Tensor, amplitude: float, share: float, generator: torch.Generator | None = None) -> Tensor:
    """Add fresh noise to some of the pixels of (B, C, H, W) in [0, 1], as a sensor would in the next frame; clamped.

    Every pixel of every image is noisy with the chance ``share``. A noisy one changes in all channels at once, by a
    different amount in each (grain is colored), uniform in [-amplitude, amplitude].
    """
    batch, channels, height, width = images.shape
    noisy = _uniform((batch, 1, height, width), generator, images.device) < share
    noise = (2 * _uniform((batch, channels, height, width), generator, images.device) - 1) * amplitude
    return torch.where(noisy, (images + noise).clamp(0, 1), images)


def noise_stability(stylized: Tensor, stylized_noisy: Tensor) -> Tensor:
    """Mean squared difference, in fp32, between the results for a content image and for its noisy copy.

    J. Rainy, A. de Berker, "Stabilizing neural style-transfer for video", Element AI 2018, in the spirit of S. Zheng et
    al., "Improving the Robustness of Deep Neural Networks via Stability Training", CVPR 2016. Both are (B, 3, H, W) in
    [0, 1], any float type; gradients flow through both.
    """
    return (stylized.float() - stylized_noisy.float()).square().mean()


def affine_motion(shift: Tensor, zoom: Tensor) -> Tensor:
    """Return the motion that magnifies about the middle, then shifts, as ``warp`` takes it.

    A point ``p`` goes to ``zoom * p + 2 * shift``, with p in [-1, 1] across the image: ``shift``, (B, 2), is rightwards
    and downwards, as a share of width and height; a ``zoom``, (B,), of 1.05 shows things 5 % larger.

    Returns:
        (B, 2, 3) in fp32: the map from each point of the moved image to its place before.
    """
    shift, zoom = shift.float(), zoom.float()
    linear = torch.diag_embed(zoom.reciprocal()[:, None].expand(-1, 2))
    offset = -2 * shift / zoom[:, None]
    return torch.cat([linear, offset[:, :, None]], dim=2)


def random_motion(
    batch: int,
    max_shift: float,
    max_zoom: float,
    generator: torch.Generator | None = None,
    device: torch.device | str = "cpu",
) -> Tensor:
    """Draw a shift and a zoom for each image, as between frames of a hand-held camera: (B, 2, 3), for ``warp``.

    Shifts are uniform in [-max_shift, max_shift], as a share of each side; zooms lie in
    [1 / (1 + max_zoom), 1 + max_zoom], in and out alike.
    """
    draws = 2 * _uniform((batch, 3), generator, torch.device(device)) - 1
    return affine_motion(draws[:, :2] * max_shift, (1 + max_zoom) ** draws[:, 2])


def warp(images: Tensor, theta: Tensor) -> Tensor:
    """Move images (B, C, H, W) by ``theta``, (B, 2, 3); what comes into view is their mirror image.

    In fp32 and interpolated bilinearly; shifts by whole pixels are exact.
    """
    grid = _sources(theta, images.shape[-2], images.shape[-1])
    with torch.autocast(images.device.type, enabled=False):
        return F.grid_sample(images.float(), grid, "bilinear", "reflection", align_corners=False)


def inside_mask(theta: Tensor, size: tuple[int, int]) -> Tensor:
    """Mask the pixels of moved images of ``size`` (H, W) that were in view before the motion: (B, 1, H, W) bool."""
    return (_sources(theta, *size).abs() < 1).all(dim=-1)[:, None]


def motion_equivariance(stylized: Tensor, stylized_moved: Tensor, theta: Tensor) -> Tensor:
    """Mean squared difference between the moved result and the result for the moved content image.

    The temporal loss of M. Ruder, A. Dosovitskiy, T. Brox, "Artistic style transfer for videos", GCPR 2016, which
    compares a frame with the warped one before it wherever that is in view. Here the flow is a known motion of a still
    image, as in W. Wang et al., "Consistent Video Style Transfer via Compound Regularization", AAAI 2020.

    Args:
        stylized: (B, 3, H, W) in [0, 1], any float type.
        stylized_moved: (B, 3, H, W), the result for ``warp(content, theta)``; gradients flow through both.
        theta: (B, 2, 3) from ``affine_motion``.

    Returns:
        A scalar in fp32, in [0, 1]: the mean over the pixels in view of each image (0 for one wholly out of view), then
        over the batch.
    """
    height, width = stylized.shape[-2:]
    inside = inside_mask(theta, (height, width))
    squares = (warp(stylized, theta) - stylized_moved.float()).square().mean(dim=1, keepdim=True)
    of_each = (squares * inside).sum(dim=(1, 2, 3)) / inside.sum(dim=(1, 2, 3)).clamp_min(1)
    return of_each.mean()


def unsteadiness(stylized: Tensor, stylized_moved: Tensor, shift: tuple[int, int]) -> Tensor:
    """Squared difference of the result for a moved content image from the moved result, over its variance: (B,).

    Both are (B, 3, H, W) in [0, 1]; ``shift`` is what ``torch.roll`` moved the content image by, downwards and
    rightwards. What is as near to the border as the larger of both is left out.
    """
    margin = max(map(abs, shift)) + 8  # what the other side of the image is seen through convolutions, too
    height, width = stylized.shape[-2:]
    inner = (slice(None), slice(None), slice(margin, height - margin), slice(margin, width - margin))
    back = torch.roll(stylized_moved.float(), (-shift[0], -shift[1]), (2, 3))[inner].flatten(1)
    still = stylized.float()[inner].flatten(1)
    return (back - still).square().mean(1) / (still.var(1) + 1e-3)


def _sources(theta: Tensor, height: int, width: int) -> Tensor:
    """Return the source of each pixel's middle, (B, H, W, 2), x before y, in [-1, 1] across the image.

    ``F.affine_grid`` does this by a matrix product, which bf16 or TF32 would move by whole pixels; sums of fp32
    products do not depend on such settings.
    """
    theta = theta.float()[:, None, None]
    x = (2 * torch.arange(width, device=theta.device) + 1) / width - 1
    y = (2 * torch.arange(height, device=theta.device) + 1) / height - 1
    return theta[..., 0] * x[:, None] + theta[..., 1] * y[:, None, None] + theta[..., 2]


def _uniform(shape: tuple[int, ...], generator: torch.Generator | None, device: torch.device) -> Tensor:
    """Draw from [0, 1) where the generator lives: a seed on the CPU serves every device alike."""
    source = generator.device if generator is not None else device
    return torch.rand(shape, generator=generator, device=source).to(device)
