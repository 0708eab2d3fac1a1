"""The VGG that judges: VGG19, as far as the weights at hand go."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from nst_ops.models.vgg import VGGFeatures, WeightsError, tap_indices


def load_judge(
    taps: Iterable[str], weights: str | Path | None = None
) -> tuple[VGGFeatures | None, dict[str, str]]:
    """VGG19 with those of ``taps`` that its weights serve, and why the others are not measured.

    Args:
        taps: names such as ``relu3_1``.
        weights: a local file with torchvision's keys, or None for torchvision's own, which are
            downloaded once.

    Returns:
        The network, None if it serves no tap; and a reason for every tap that it lacks.

    Raises:
        FileNotFoundError: ``weights`` names no file.
        ValueError: VGG19 has no such tap.
    """
    wanted = set(taps)
    known = tap_indices("vgg19")
    if unknown := wanted - known.keys():
        raise ValueError(f"vgg19 has no taps {sorted(unknown)}; known: {', '.join(known)}")
    if weights is not None and not Path(weights).is_file():
        raise FileNotFoundError(f"no VGG weights at {weights}")
    if not wanted:
        return None, {}
    for tap in sorted(wanted, key=known.__getitem__, reverse=True):
        served = {other for other in wanted if known[other] <= known[tap]}
        try:
            vgg = VGGFeatures("vgg19", served, weights)
        except WeightsError as error:
            reason = str(error)
        except OSError as error:  # of the download
            reason = f"no weights given, and torchvision's cannot be fetched ({error})"
            break
        else:
            reason = f"{weights} ends before it: of the taps asked for it serves those up to {tap}"
            return vgg, dict.fromkeys(wanted - served, reason)
    return None, dict.fromkeys(wanted, reason)
