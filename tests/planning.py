"""The specification of a run, and what it would do, without a run."""

from __future__ import annotations

from nst_ops.collection.inputs import Source, discover
from nst_ops.collection.planner import Plan, PlanRules
from nst_ops.collection.styles import StyleChoice
from nst_ops.collection.units import WorkUnit
from nst_ops.config import StylizeConfig
from nst_ops.media.style_images import StyleImages
from nst_ops.pipeline.run_spec import RunSpec
from nst_ops.pipeline.worker import Worker
from nst_ops.stylizers.registry import model_kind


def spec_of(config: StylizeConfig) -> RunSpec:
    """The specification of a run without weights, whatever its kind of model says to styles."""
    images = StyleImages.open(config.style) if config.style.images else None
    choice = StyleChoice((config.model.kind,))
    if images:
        choice = StyleChoice(images.names, config.style.mode, config.style.seed)
    return RunSpec(
        config=config,
        kind=model_kind(config.model.kind),
        run_id="run",
        model_sha256="",
        config_sha256="",
        choice=choice,
        source_root=config.input,
        style_images=images,
    )


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
