"""Optimising pixels: down a loss, and always in range."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor

Judge = Callable[[Tensor], Tensor]
"""From pictures, (B, 3, H, W) in [0, 1], to a scalar that is to fall."""

# L-BFGS starts so far from black and white: where the sigmoid is flat it sees no slope, then jumps.
_MARGIN = 0.05
_HISTORY = 50  # gradients that L-BFGS remembers, each as large as the pictures


def adam(start: Tensor, judge: Judge, steps: int, learning_rate: float) -> Tensor:
    """D. Kingma, J. Ba, ICLR 2015, put back into [0, 1] after every step.

    Pixels do not meet: pictures whose losses are added come out as they would one by one. The
    rate falls to 0 along a cosine, so that the last steps settle what the first ones threw about.

    Args:
        start: (B, 3, H, W) in [0, 1].
        judge: called ``steps`` times.
        steps: how many.
        learning_rate: of the first step, in units of the range.

    Returns:
        As ``start``.
    """
    x_bchw = start.clone(memory_format=torch.contiguous_format).requires_grad_()
    optimizer = torch.optim.Adam([x_bchw], lr=learning_rate)
    schedule = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, T_max=steps)
    for _ in range(steps):
        optimizer.zero_grad()
        judge(x_bchw).backward()
        optimizer.step()
        schedule.step()
        with torch.no_grad():
            x_bchw.clamp_(0, 1)
    return x_bchw.detach()


def lbfgs(start: Tensor, judge: Judge, steps: int) -> Tensor:
    """D. Liu, J. Nocedal, Math. Programming 1989, over the sigmoid's argument instead of the pixels.

    The line search (strong Wolfe) never takes a step up.

    Args:
        start: (B, 3, H, W) in [0, 1].
        judge: called about ``steps`` times; the last line search may take a few more.
        steps: how many.

    Returns:
        As ``start``.
    """
    z_bchw = torch.logit(start, _MARGIN).clone(memory_format=torch.contiguous_format).requires_grad_()
    optimizer = torch.optim.LBFGS(
        [z_bchw],
        max_iter=steps,
        max_eval=steps,
        tolerance_grad=0,
        tolerance_change=0,
        history_size=_HISTORY,
        line_search_fn="strong_wolfe",
    )

    def evaluate() -> Tensor:
        optimizer.zero_grad()
        loss = judge(z_bchw.sigmoid())
        loss.backward()
        return loss

    optimizer.step(evaluate)
    return z_bchw.detach().sigmoid()
