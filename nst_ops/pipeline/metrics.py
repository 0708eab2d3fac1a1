"""Metrics of a worker for Ray's dashboard and Prometheus."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict

from ray.util.metrics import Counter, Gauge

from nst_ops.pipeline.meter import Reading


class WorkerMetrics:
    """The metrics of one worker; a process makes them once.

    Args:
        worker: its name.
    """

    def __init__(self, worker: str) -> None:
        self._frames = Counter("nst_ops_frames_total", "Video frames stylized.")
        self._rows = Counter("nst_ops_items_total", "Rows settled, by status.", ("status",))
        self._seconds = Counter(
            "nst_ops_stage_seconds_total", "Seconds busy, by stage; stages run side by side.", ("stage",)
        )
        self._gauges = {
            name: Gauge(f"nst_ops_{name}", about, ("worker",)).set_default_tags({"worker": worker})
            for name, about in _GAUGES.items()
        }

    def show(self, reading: Reading) -> None:
        """Show what a meter reads."""
        if reading.num_frames:
            self._frames.inc(reading.num_frames)
        for name, seconds in asdict(reading.seconds).items():
            if seconds > 0:
                self._seconds.inc(seconds, {"stage": name.removesuffix("_s")})
        busy_share = min(1.0, reading.seconds.stylize_s / reading.elapsed_s)
        for name, value in (
            ("busy_share", busy_share),
            ("decode_queue_fill", reading.decode_fill),
            ("encode_queue_fill", reading.encode_fill),
        ):
            self._gauges[name].set(value)

    def count(self, statuses: Mapping[str, int]) -> None:
        """Count the rows of a unit that has ended."""
        for status, number in statuses.items():
            self._rows.inc(number, {"status": status})


_GAUGES = {
    "busy_share": "Share of the time that the network of a worker was busy, 0 to 1.",
    "decode_queue_fill": "Fill of the queue before the network, 0 to 1; 0: the decoder is the slowest.",
    "encode_queue_fill": "Fill of the queue before the encoder, 0 to 1; 1: the encoder is the slowest.",
}
