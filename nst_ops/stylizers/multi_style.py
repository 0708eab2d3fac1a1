"""A network of many named styles at inference: a mix of its rows for each frame."""

from __future__ import annotations

import torch
from torch import Tensor

from nst_ops.media.style_images import Style
from nst_ops.models.conditional import ConditionalNet
from nst_ops.models.style_mix import StyleMix
from nst_ops.stylizers.conditional import ConditionalStylizer


class MultiStyleStylizer(ConditionalStylizer[StyleMix]):
    """Stylizer of the mix of named styles that comes with each frame.

    Args:
        model: the network, on any device.
        device, precision, tile: see ``ConditionalStylizer``.
    """

    keys_are = "mixes of named styles"

    def __init__(
        self, model: ConditionalNet, device: str = "auto", precision: str = "auto", tile: int | None = None
    ) -> None:
        rows = model.rows.detach().float()  # in fp32, whatever the network
        super().__init__(model, device, precision, tile)
        self._rows, self._names = rows.to(self.device), model.names

    def key(self, style: Style) -> StyleMix | None:
        """Return the mix of a style."""
        return style.mix

    def row(self, key: StyleMix) -> Tensor:
        """Return the mix of rows."""
        shares = torch.zeros(len(self._rows), device=self.device)
        for name, share in key.shares:
            shares[self._names.index(name)] = share
        return shares @ self._rows
