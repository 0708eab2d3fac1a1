"""The reference styles, measured once: what every output is held against."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

from nst_ops.evaluation.image_metrics import (
    StyleStatistics,
    average,
    color_quantiles,
    pool,
    style_statistics,
)
from nst_ops.models.vgg import VGGFeatures
from nst_ops.stylizers import Style


@dataclass(frozen=True)
class Target:
    """A style, or the average of a set: statistics by tap, and the quantiles of its colors (P, Q)."""

    taps: dict[str, StyleStatistics]
    colors: Tensor


class StyleSet:
    """Reference styles, of which all statistics are kept: 2 MB each with the deepest taps of a VGG19.

    Args:
        styles: at least one; names are unique.
        vgg: network of the features, on ``device``; None measures colors alone.
        taps: taps of the network at which style is measured, shallow to deep.
        set_taps: taps whose channel means stand for a picture where sets are compared.
        device: where to measure.
        seed: of directions and positions.
        progress: called after each style.

    Attributes:
        styles: as given.
        average: the set as one target.
        means: by tap of ``set_taps``, the channel means of every style, (K, C) on the CPU.

    Raises:
        ValueError: no styles, or two of one name.
    """

    def __init__(
        self,
        styles: Sequence[Style],
        vgg: VGGFeatures | None,
        taps: Sequence[str],
        set_taps: Sequence[str] = (),
        device: torch.device | str = "cpu",
        seed: int = 0,
        progress: Callable[[], None] = lambda: None,
    ) -> None:
        self.styles = list(styles)
        self._index = {style.name: index for index, style in enumerate(styles)}
        if len(self._index) < max(len(styles), 1):
            raise ValueError("two style pictures have one name" if styles else "there are no style pictures")
        self._targets: list[Target] = []
        means: dict[str, list[Tensor]] = {tap: [] for tap in set_taps}
        for style in styles:
            picture = to_tensor(style).to(device)
            features = vgg(picture) if vgg else {}
            self._targets.append(
                Target(
                    {tap: style_statistics(features[tap], seed) for tap in taps},
                    color_quantiles(picture, seed)[0],
                )
            )
            for tap in set_taps:
                means[tap].append(channel_means(features[tap])[0])
            progress()
        self.means = {tap: torch.stack(vectors) for tap, vectors in means.items()}
        self.average = Target(
            {tap: average([target.taps[tap] for target in self._targets]) for tap in taps},
            pool(torch.stack([target.colors for target in self._targets])),
        )

    def __contains__(self, name: str) -> bool:
        return name in self._index

    def target(self, name: str) -> Target:
        """The style of that name alone, or where there is none, the average of the set."""
        return self._targets[self._index[name]] if name in self._index else self.average

    def nearest(self, features: dict[str, Tensor], colors_bpq: Tensor) -> list[Style]:
        """The style that each picture resembles most.

        By channel means and deviations at the deepest tap, or without taps by colors.

        Args:
            features: by tap, (B, C, H, W).
            colors_bpq: (B, P, Q), as of ``color_quantiles``.
        """
        if self.average.taps:
            tap = list(self.average.taps)[-1]
            std, mean = torch.std_mean(features[tap].float(), dim=(2, 3), correction=0)
            looks = torch.cat([mean, std], dim=1)
            known = [torch.cat([t.taps[tap].mean, t.taps[tap].std], dim=1)[0] for t in self._targets]
        else:
            looks = colors_bpq.flatten(1)
            known = [target.colors.flatten() for target in self._targets]
        return [self.styles[i] for i in torch.cdist(looks, torch.stack(known)).argmin(dim=1).tolist()]


def channel_means(features: Tensor) -> Tensor:
    """What stands for a picture in a set: (B, C, H, W) to fp32 (B, C) on the CPU."""
    return features.float().mean(dim=(2, 3)).cpu()


def to_tensor(style: Style) -> Tensor:
    """(1, 3, H, W) in [0, 1]."""
    return torch.from_numpy(style.pixels_hwc.copy()).permute(2, 0, 1)[None].float() / 255
