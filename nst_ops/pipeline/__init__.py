"""Ray Data: the worker on each device, the run, retries, progress and summary."""

from nst_ops.pipeline.run import stylize_collection
from nst_ops.pipeline.waves import FatalError

__all__ = ["FatalError", "stylize_collection"]
