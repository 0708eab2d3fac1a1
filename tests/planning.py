"""What a run would do, without a run."""

from __future__ import annotations

from nst_ops.collection.inputs import Source, discover
from nst_ops.collection.planner import Plan, PlanRules
from nst_ops.collection.units import WorkUnit
from nst_ops.pipeline.worker import Worker


def plan_of(worker: Worker, images: int | None = None) -> Plan:
    """What is left to do of the input of a worker."""
    config, source = worker.config, Source.open(worker.config.input)
    rules = PlanRules(
        worker.run_spec.choice,
        images or config.units.images,
        container=config.video.container,
        shards=config.shards.format,
    )
    return Plan(discover(source), worker.manifest.reader(), rules, source.root)


def units_of(worker: Worker, images: int | None = None) -> list[WorkUnit]:
    """The units that are left."""
    return list(plan_of(worker, images).units())
