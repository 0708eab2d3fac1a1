"""Discriminators of adversarial training: they learn beside the network, one step of each in turn."""

from typing import Any

import torch
from torch import Tensor
from torch.nn.utils import parameters_to_vector

from nst_ops.config.losses import AdversarialConfig
from nst_ops.config.training import TrainConfig
from nst_ops.losses.adversarial import AdversarialLoss
from nst_ops.training.optim import Precision, Ranks, adamw, not_finite, step_unless


class DiscriminatorTraining:
    """Discriminators with their optimizer, the same on each of ``ranks``.

    They share the schedule and seed of ``train`` with the network, and ``precision`` with its scaler.
    """

    def __init__(self, config: AdversarialConfig, train: TrainConfig, precision: Precision, ranks: Ranks) -> None:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(train.seed)  # alike on every worker
            discriminators = AdversarialLoss(config)
        self.discriminators = discriminators.to(precision.device)
        self.precision, self.ranks = precision, ranks
        self.optimizer = adamw(discriminators.parameters(), config.learning_rate, train, decay=0)
        self._rate_ratio = config.learning_rate / train.learning_rate

    def generator_loss(self, stylized: Tensor) -> Tensor:
        """Return the network's adversarial loss: a scalar in fp32, with gradient to ``stylized`` only."""
        self.discriminators.requires_grad_(False)
        loss = self.discriminators.generator_loss(stylized)
        self.discriminators.requires_grad_(True)
        return loss

    def backward(self, stylized: Tensor, styles: Tensor, weight: float = 1.0) -> Tensor:
        """Add the gradients of the discriminators' own loss, ``weight`` times; return that loss, detached."""
        with self.precision.autocast():
            loss = self.discriminators.discriminator_loss(stylized, styles)
        self.precision.scaler.scale(loss * weight).backward()
        return loss.detach()

    def step(self, rate: float, skipped: Tensor) -> None:
        """Update the discriminators, alike on every worker, while the network learns at ``rate``.

        Nothing changes where ``skipped``, a scalar on the device, is 1, or a gradient is not finite.
        """
        for group in self.optimizer.param_groups:
            group["lr"] = rate * self._rate_ratio
        gradients = [weight.grad for weight in self.discriminators.parameters() if weight.grad is not None]
        if not gradients:  # the network only reproduces images so far
            return
        mean = self.ranks.mean(parameters_to_vector(gradients))
        for gradient, part in zip(gradients, mean.split([g.numel() for g in gradients]), strict=True):
            gradient.copy_(part.view_as(gradient))
        self.precision.scaler.unscale_(self.optimizer)
        step_unless(torch.maximum(skipped, not_finite(mean)), self.optimizer)

    def zero_grad(self) -> None:
        """Drop the gradients, some of which the network's own step has left."""
        self.optimizer.zero_grad(set_to_none=True)

    def state(self) -> dict[str, Any]:
        """Return all that the next step depends on."""
        return {"weights": self.discriminators.state_dict(), "optimizer": self.optimizer.state_dict()}

    def restore(self, state: dict[str, Any]) -> None:
        """Take up where ``state`` was taken."""
        self.discriminators.load_state_dict(state["weights"])
        self.optimizer.load_state_dict(state["optimizer"])
