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

from nst_ops.media.images import UInt8Array
from nst_ops.models.device import find_device
from nst_ops.models.weights import CheckpointError, load_strictly, read_weights, strip_prefixes
from nst_ops.temporal.warp import Flow

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

    @torch.inference_mode()
    def __call__(self, a_rgb_hwc: UInt8Array, b_rgb_hwc: UInt8Array) -> Flow:
        """See ``FlowEstimator``; frames of any size."""
        height, width = a_rgb_hwc.shape[:2]
        flow: Tensor = self._network(self._to_network(a_rgb_hwc), self._to_network(b_rgb_hwc))[-1]
        return np.ascontiguousarray(flow[0, :, :height, :width].permute(1, 2, 0).cpu().numpy())

    def _to_network(self, rgb_hwc: UInt8Array) -> Tensor:
        """Convert to (1, 3, H, W) in [-1, 1], last row and column repeated up to a size the network takes."""
        frame = torch.from_numpy(np.require(rgb_hwc, requirements=("C", "W"))).to(self.device)
        below, right = (max(_SMALLEST, -(-side // _STRIDE) * _STRIDE) - side for side in rgb_hwc.shape[:2])
        x_bchw = frame.permute(2, 0, 1)[None].float().div(127.5).sub(1)
        return F.pad(x_bchw, (0, right, 0, below), mode="replicate")
