"""The second network of adversarial training: it learns beside the first, one step of each in turn."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.nn.utils import parameters_to_vector
from torch.optim import AdamW

from nst_ops.config.losses import AdversarialConfig
from nst_ops.config.training import TrainConfig
from nst_ops.losses.adversarial import AdversarialLoss
from nst_ops.training.optim import Precision, Ranks


class Rivalry:
    """An adversary with its optimizer.

    Args:
        config: what the adversary is, and its learning rate.
        train: schedule and seed, shared with the network that it judges.
        precision: of both; its scaler too.
        ranks: the workers that train together; each has the same adversary.
    """

    def __init__(
        self, config: AdversarialConfig, train: TrainConfig, precision: Precision, ranks: Ranks
    ) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(train.seed)  # alike on every worker
            adversary = AdversarialLoss(
                config.kind,
                config.views,
                config.width,
                config.blurred,
                config.gray,
                config.r1,
                config.augment,
            )
        self.adversary = adversary.to(precision.device)
        self.precision, self.ranks = precision, ranks
        self.optimizer = AdamW(self.adversary.parameters(), config.learning_rate, train.betas, weight_decay=0)
        self._share = config.learning_rate / train.learning_rate

    def loss(self, stylized: Tensor) -> Tensor:
        """What the adversary's doubts cost the network: a scalar in fp32, with gradient to ``stylized``."""
        self.adversary.requires_grad_(False)
        loss = self.adversary.generator_loss(stylized)
        self.adversary.requires_grad_(True)
        return loss

    def backward(self, stylized: Tensor, styles: Tensor, weight: float = 1.0) -> Tensor:
        """Add the adversary's own gradients, ``weight`` times, to those it has; its loss, detached."""
        with self.precision.autocast():
            loss = self.adversary.discriminator_loss(stylized, styles)
        self.precision.scaler.scale(loss * weight).backward()
        return loss.detach()

    def step(self, rate: float) -> None:
        """Update the adversary while its rival learns at ``rate``, alike on every worker."""
        for group in self.optimizer.param_groups:
            group["lr"] = rate * self._share
        gradients = [weight.grad for weight in self.adversary.parameters() if weight.grad is not None]
        if not gradients:  # it has not begun
            return
        mean = self.ranks.mean(parameters_to_vector(gradients))
        for gradient, part in zip(gradients, mean.split([g.numel() for g in gradients]), strict=True):
            gradient.copy_(part.view_as(gradient))
        self.precision.scaler.step(self.optimizer)

    def forget(self) -> None:
        """Drop the gradients."""
        self.optimizer.zero_grad(set_to_none=True)

    def state(self) -> dict[str, Any]:
        """All that the next step depends on."""
        return {"adversary": self.adversary.state_dict(), "optimizer": self.optimizer.state_dict()}

    def restore(self, state: dict[str, Any]) -> None:
        """Take up where ``state`` was taken."""
        self.adversary.load_state_dict(state["adversary"])
        self.optimizer.load_state_dict(state["optimizer"])
