"""Optimization over one worker or several: learning rate, precision, agreement of ranks."""

import math
from collections.abc import Iterable
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor, nn
from torch.optim import AdamW

from nst_ops.config.training import TrainConfig

_TYPES = {"fp32": torch.float32, "bf16": torch.bfloat16, "fp16": torch.float16}


def learning_rate(step: int, config: TrainConfig) -> float:
    """Return the rate of ``step``, counted from 1: a linear rise over the warm-up, then the schedule.

    ``cosine`` falls to nearly 0 (I. Loshchilov, F. Hutter, ICLR 2017, without restarts), ``step`` to a tenth at half
    and again at three quarters of all steps.
    """
    warmup = round(config.warmup * config.steps)
    if step <= warmup:
        return config.learning_rate * step / warmup
    if config.schedule == "constant":
        return config.learning_rate
    if config.schedule == "step":
        drops = (step > config.steps / 2) + (step > config.steps * 3 / 4)
        return float(config.learning_rate * 0.1**drops)
    done = (step - warmup - 1) / max(1, config.steps - warmup)
    return config.learning_rate * 0.5 * (1 + math.cos(math.pi * done))


def adamw(
    parameters: Iterable[nn.Parameter] | list[dict[str, Any]], learning_rate: float, config: TrainConfig, decay: float
) -> AdamW:
    """Make the optimizer of weights or groups of them, a group in one operation.

    What it skips is decided on the device, see ``step_unless``.
    """
    return AdamW(parameters, learning_rate, config.betas, weight_decay=decay, fused=True)


def not_finite(values: Tensor) -> Tensor:
    """Return 1 where any of the values is not finite, else 0: a scalar in fp32 on their device."""
    return 1 - values.isfinite().all().float()


def step_unless(skipped: Tensor, optimizer: Any) -> None:
    """Update the weights where ``skipped``, a scalar on their device, is 0; where it is 1 leave weights and moments.

    The host is not asked. The optimizer is one of ``adamw``, its gradients unscaled.
    """
    optimizer.found_inf = skipped  # what GradScaler hands to a fused optimizer
    optimizer.step()


class Precision:
    """Autocast and gradient scaling for one device: ``fp32``, ``bf16``, ``fp16``, or ``auto``.

    ``auto`` is bf16 where the hardware has it (Ampere and later, CPUs with AMX or AVX512-BF16), fp16 on older GPUs,
    else fp32.
    """

    def __init__(self, name: str, device: torch.device) -> None:
        self.name = _fastest(device) if name == "auto" else name
        self.device = device
        # fp16 gradients of small losses underflow; 2^12 is far from overflow, so few steps are lost
        # until the scale has settled (P. Micikevicius et al., ICLR 2018).
        self.scaler = torch.amp.GradScaler(device.type, init_scale=2.0**12, enabled=self.name == "fp16")

    def autocast(self) -> AbstractContextManager[None]:
        """Run convolutions in this precision, reductions and losses in fp32."""
        return torch.autocast(self.device.type, _TYPES[self.name], enabled=self.name != "fp32")


def _fastest(device: torch.device) -> str:
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    native = torch.cpu._is_amx_tile_supported() or torch.cpu._is_avx512_bf16_supported()
    return "bf16" if native else "fp32"


@dataclass(frozen=True)
class Ranks:
    """Place of this worker among ``world`` workers."""

    rank: int = 0
    world: int = 1

    @property
    def first(self) -> bool:
        """Whether this worker is the one that reads, writes and reports."""
        return self.rank == 0

    def mean(self, values: Tensor) -> Tensor:
        """Return the mean over all workers, the same on each. NaN anywhere is NaN everywhere."""
        if self.world > 1:
            dist.all_reduce(values)
            values = values / self.world
        return values

    def share(self, value: Any) -> Any:
        """Return the first worker's value; other workers' values do not matter. Waits for all."""
        if self.world == 1:
            return value
        box = [value]
        dist.broadcast_object_list(box, device=torch.device("cuda" if dist.get_backend() == "nccl" else "cpu"))
        return box[0]
