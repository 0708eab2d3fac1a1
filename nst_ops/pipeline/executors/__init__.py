"""Executors: where the units of a run are worked on, on this machine or on a Ray cluster."""

from nst_ops.pipeline.executors.base import Executor, LostUnit, Outcome, PendingUnits, new_executor

__all__ = ["Executor", "LostUnit", "Outcome", "PendingUnits", "new_executor"]
