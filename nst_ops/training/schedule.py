"""The learning rate of a step: a function of its number, so there is no state to keep."""

import math

from nst_ops.config.training import TrainConfig


def learning_rate(step: int, config: TrainConfig) -> float:
    """Rate of ``step``, counted from 1: a linear rise over the warm-up, then the schedule.

    ``cosine`` falls to nearly 0 (I. Loshchilov, F. Hutter, ICLR 2017, without restarts),
    ``step`` to a tenth at half and again at three quarters of all steps.
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
