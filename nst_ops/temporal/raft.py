"""Optical flow by a network: slower than the others, better across large motion.

Z. Teed, J. Deng, "RAFT: Recurrent All-Pairs Field Transforms for Optical Flow", ECCV 2020: the small
network of torchvision.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.optical_flow import Raft_Small_Weights, raft_small  # type: ignore[import-untyped]

from nst_ops.models.device import find_device
from nst_ops.models.weights import CheckpointError, load_strictly, read_weights, strip_prefixes
from nst_ops.temporal.operations import Array

_STRIDE, _SMALLEST = 8, 128  # four levels of correlations halve an eighth of the side down to 2


class RaftFlow:
    """Flow of torchvision's ``raft_small``, with its 12 updates.

    Args:
        weights: file with them (.pth of a state dict, or .safetensors), keys as torchvision's. Default: torchvision's
            own, downloaded once.
        device: ``auto``, ``cpu``, ``cuda`` or ``cuda:N``.

    Raises:
        FileNotFoundError: there is no such file.
        nst_ops.models.weights.CheckpointError: it holds something else, or torchvision's cannot be fetched.
        ValueError: there is no such device.
    """

    def __init__(self, weights: str | None = None, device: str = "auto") -> None:
        self.device = find_device(device)
        try:
            network: nn.Module = raft_small(weights=None if weights else Raft_Small_Weights.DEFAULT, progress=False)
        except OSError as error:
            raise CheckpointError(
                f"torchvision's weights of raft_small cannot be fetched ({error}): give temporal.flow_weights, "
                "a file with them"
            ) from error
        if weights:
            load_strictly(Path(weights), network, strip_prefixes(read_weights(Path(weights))[0]))
        self._network = network.eval().to(self.device)

    def __call__(self, a_rgb_hwc: Array, b_rgb_hwc: Array) -> Array:
        """See ``FlowEstimator``; frames of any size."""
        if isinstance(a_rgb_hwc, np.ndarray):
            frames = torch.from_numpy(np.stack([a_rgb_hwc, b_rgb_hwc])).to(self.device)
            return np.ascontiguousarray(self._estimate(*frames[:, None])[0].cpu().numpy())
        return self._estimate(a_rgb_hwc, b_rgb_hwc)

    @torch.inference_mode()
    def _estimate(self, a_bhwc: Tensor, b_bhwc: Tensor) -> Tensor:
        """Return flow (B, H, W, 2)."""
        height, width = a_bhwc.shape[1:3]
        flow: Tensor = self._network(_to_network(a_bhwc), _to_network(b_bhwc))[-1]
        return flow[:, :, :height, :width].permute(0, 2, 3, 1)


def _to_network(rgb_bhwc: Tensor) -> Tensor:
    """Convert to (B, 3, H, W) in [-1, 1], last row and column repeated up to a size the network takes."""
    below, right = (max(_SMALLEST, -(-side // _STRIDE) * _STRIDE) - side for side in rgb_bhwc.shape[1:3])
    x_bchw = rgb_bhwc.permute(0, 3, 1, 2).float().div(127.5).sub(1)
    return F.pad(x_bchw, (0, right, 0, below), mode="replicate")
