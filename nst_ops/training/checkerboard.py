"""Keep the grid of the network's own upsampling out of the picture.

Resize-convolutions avoid most checkerboards (A. Odena et al., Distill 2016), but two doublings
still leave a faint weave with periods of 2 and 4 pixels in even areas. The last convolution
has 9x9 taps: enough to be blind to such a weave and to little else.
"""

import torch
import torch.nn.functional as F

from nst_ops.models.johnson import ConvLayer, JohnsonNet


@torch.no_grad()
def remove_grid(model: JohnsonNet) -> None:
    """Make the last convolution of ``model`` blind to the grid of its upsampling, in place.

    A kernel sees no pattern that repeats every 4 pixels, but for its mean, when the taps at
    each of the 4x4 places in the period add up to the same. Each kernel becomes the nearest
    one of that kind; what it makes of an even area stays as it was.
    """
    last = model.decoder[-1]
    assert isinstance(last, ConvLayer)
    weight = last.conv.weight
    period = model.stride
    place = torch.arange(weight.shape[-1], device=weight.device) % period
    places = (place[:, None] * period + place).flatten()
    taps_at = F.one_hot(places, period * period).to(weight.dtype)  # (taps, places)
    kernels = weight.flatten(2)
    sums = kernels @ taps_at
    missing = (sums.mean(dim=-1, keepdim=True) - sums) / taps_at.sum(dim=0)
    weight.copy_((kernels + missing @ taps_at.T).view_as(weight))
