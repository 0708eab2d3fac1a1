"""Ray Data: the worker on each device, the run, retries, progress and summary."""

from nst_ops.config import FatalError
from nst_ops.pipeline.run import stylize_collection

__all__ = ["FatalError", "stylize_collection"]
