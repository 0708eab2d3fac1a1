"""A classifier of ImageNet: does an image still show what it showed before it was stylized?"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor

from nst_ops.models.weights import load_strictly, read_weights, strip_prefixes


class Classifier:
    """Classifier of torchvision with weights from a file, in fp32.

    Args:
        architecture: torchvision's name of a network with weights for ImageNet, such as ``resnet50``.
        weights: file (.safetensors, .pth) with torchvision's keys.
        device: where it computes.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: torchvision has no such network, or the weights are not its.
    """

    def __init__(self, architecture: str, weights: str | Path, device: torch.device | str = "cpu") -> None:
        from torchvision import models  # type: ignore[import-untyped] # late: slow to import

        if architecture not in (known := models.list_models(module=models)):
            raise ValueError(f"torchvision has no classifier '{architecture}'; it has {', '.join(known)}")
        self._prepare, self._device = models.get_model_weights(architecture).DEFAULT.transforms(), device
        model = models.get_model(architecture, weights=None)
        load_strictly(Path(weights), model, strip_prefixes(read_weights(Path(weights))[0]))
        self._model = model.eval().to(device)

    @torch.inference_mode()
    def __call__(self, images_b3hw: Tensor) -> Tensor:
        """Return the logits (B, classes) of images, (B, 3, H, W) in [0, 1]; resized and cropped as in its training."""
        logits: Tensor = self._model(self._prepare(images_b3hw.to(self._device)))
        return logits


def labels_kept(logits_after: Tensor, logits_before: Tensor) -> dict[str, Tensor]:
    """Tell where the class seen before is still seen first, and where among the first five: 0 or 1, (B,) each."""
    seen = logits_before.argmax(dim=1, keepdim=True)
    first_five = logits_after.topk(min(5, logits_after.shape[1]), dim=1).indices == seen
    return {"label_kept": first_five[:, 0].float(), "label_in_top5": first_five.any(dim=1).float()}
