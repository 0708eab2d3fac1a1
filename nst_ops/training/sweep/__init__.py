"""Which weights? Short trainings with every combination, side by side on one picture."""

from nst_ops.training.sweep.run import SweepResult, sweep

__all__ = ["SweepResult", "sweep"]
