"""Fitting of many paintings on Ray: a task for each."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator
from functools import lru_cache
from itertools import islice
from typing import Any

import ray
import torch

from nst_ops.config import ConfigError, FatalError, FitStyleConfig
from nst_ops.media.images import UInt8Array
from nst_ops.ray_cluster import connected, num_cpus, num_gpus
from nst_ops.training.fitting import FittedStyle, FittingMaterial, Painting, StyleFitting
from nst_ops.training.progress import ProgressTracker

_WAITING = 2  # paintings that are ready beyond those that are fitted


def fit_on_ray(
    config: FitStyleConfig, material: FittingMaterial, paintings: Iterable[Painting], tracker: ProgressTracker
) -> Iterator[tuple[Painting, FittedStyle | FloatingPointError]]:
    """Fit paintings on the cluster, each on a GPU or on one CPU core, and yield each as soon as it is done.

    What comes out does not depend on how many are fitted at once: each begins at the base and draws its own crops. Ray
    does a task again whose node is lost. Raises ConfigError for a GPU that the cluster lacks, FatalError if Ray fails.
    """
    try:
        with connected(config.ray_address):
            if config.device.startswith("cuda") and not num_gpus():
                raise ConfigError("device: the cluster has no GPU; take auto or cpu")
            on_gpu = config.device != "cpu" and num_gpus() > 0
            task = ray.remote(num_cpus=0 if on_gpu else 1, num_gpus=1 if on_gpu else 0)(_fit)
            shared = [ray.put(material)]  # in a list a task gets the reference: a process reads it once
            running: dict[Any, Painting] = {}
            pending, num_done, started = iter(paintings), 0, time.perf_counter()
            while True:
                room = (num_gpus() if on_gpu else num_cpus()) + _WAITING - len(running)  # nodes may come and go
                for painting in islice(pending, max(0, room)):
                    running[task.remote(shared, painting.name, painting.pixels_hwc)] = painting
                if not running:
                    return
                for finished in ray.wait([*running])[0]:
                    result = ray.get(finished)
                    num_done += 1
                    steps = num_done * config.fit.steps
                    losses = result.losses if isinstance(result, FittedStyle) else {}
                    pace = steps / (time.perf_counter() - started)
                    tracker.update({"since": 0, "step": steps, "losses": losses, "images_per_s": pace})
                    yield running.pop(finished), result
    except ray.exceptions.RayTaskError:
        raise
    except ray.exceptions.RayError as error:
        raise FatalError(f"Ray was lost ({str(error).splitlines()[0]}): run the same command again to go on") from error


def _fit(shared: list[Any], name: str, pixels_hwc: UInt8Array) -> FittedStyle | FloatingPointError:
    """Fit one painting in a process of Ray; ``shared`` holds the reference to the ``FittingMaterial``."""
    torch.set_num_threads(1)
    try:
        return _fitting(shared[0]).fit(name, pixels_hwc)
    except FloatingPointError as error:
        return FloatingPointError(str(error))


@lru_cache(maxsize=1)
def _fitting(material: Any) -> StyleFitting:
    """Return what fits, made once in each process: it has stylized photographs with every row of the base."""
    return StyleFitting(ray.get(material), torch.device("cuda" if ray.get_gpu_ids() else "cpu"))
