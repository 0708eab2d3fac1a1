"""Mixed precision: which type the convolutions compute in, by what the hardware is fast in."""

from __future__ import annotations

from contextlib import AbstractContextManager

import torch

_TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


class Precision:
    """Autocast and gradient scaling for one device.

    Args:
        name: ``fp32``, ``bf16``, ``fp16``, or ``auto``: bf16 where the hardware has it
            (Ampere and later, CPUs with AMX or AVX512-BF16), fp16 on older GPUs, else fp32.
        device: where the training runs.
    """

    def __init__(self, name: str, device: torch.device) -> None:
        self.name = _fastest(device) if name == "auto" else name
        self.device = device
        # fp16 gradients of small losses underflow; 2^12 is far from overflow, so few steps are lost
        # until the scale has settled (P. Micikevicius et al., ICLR 2018).
        self.scaler = torch.amp.GradScaler(device.type, init_scale=2.0**12, enabled=self.name == "fp16")

    def autocast(self) -> AbstractContextManager[None]:
        """Convolutions in the type, reductions and losses in fp32."""
        return torch.autocast(self.device.type, _TYPES[self.name], enabled=self.name != "fp32")


def _fastest(device: torch.device) -> str:
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    native = torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()
    return "bf16" if native else "fp32"
