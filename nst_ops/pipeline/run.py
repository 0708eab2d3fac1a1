"""The path from a configuration to a stylized collection: discover, plan, run, summarize."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable

import ray

from nst_ops.collection.constants import REPORT
from nst_ops.collection.inputs import Source, discover, unit_id
from nst_ops.collection.manifest import RECORDED, SCHEMA, Manifest, finish_compaction
from nst_ops.collection.planner import Plan, Rules
from nst_ops.collection.results import Results
from nst_ops.collection.run_lock import (
    Heartbeat,
    OutputInUseError,
    refuse_other_run,
    run_lock,
    write_run_record,
)
from nst_ops.collection.segments import forget_videos, remove_empty_folder
from nst_ops.config import ConfigError, FatalError, StylizeConfig
from nst_ops.media.images import UInt8Array
from nst_ops.pipeline.preflight import preflight
from nst_ops.pipeline.spec import RunSpec, fingerprint, manifest_row, new_spec
from nst_ops.pipeline.summary import Summary
from nst_ops.pipeline.waves import Waves
from nst_ops.ray_cluster import connected
from nst_ops.report.contact_sheet import write_contact_sheet
from nst_ops.report.run_report import write_run_page
from nst_ops.storage import Folder, StorageError, configure_storage

_log = logging.getLogger(__name__)

_TOP_ERRORS = 20
_SAMPLE = 2_000
"""Rows of which the contact sheet shows a few."""


def stylize_collection(config: StylizeConfig) -> Summary:
    """Stylize every image and video under ``config.input`` into ``config.output``.

    Raises:
        ConfigError: input, output, model or styles cannot be used; nothing was done.
        FatalError: the run stopped; the same command goes on where it stopped.
    """
    try:
        configure_storage(config.storage)
        source, output = _open_folders(config)
        spec, manifest = new_spec(config, source.root), Manifest(output)
        if not config.overwrite:
            refuse_other_run(output, fingerprint(spec))
        if config.dry_run:
            plan = _plan(source, spec, manifest)
            with connected(config.ray_address):
                return Summary({}, text=preflight(plan, spec))
        with run_lock(output, spec.run_id) as heartbeat:
            finish_compaction(manifest)
            plan = _plan(source, spec, manifest)
            _start(plan, spec, manifest, heartbeat)
            run = Waves(spec, manifest, heartbeat)
            if plan.num_units:
                with connected(config.ray_address):
                    run(plan)
            summary = _summarize(plan, run)
            remove_empty_folder(output)
            return summary
    except OutputInUseError as error:
        raise ConfigError(str(error)) from error
    except StorageError as error:
        raise FatalError(str(error)) from error
    except ray.exceptions.RayError as error:
        reason = str(error).splitlines()[0]
        raise FatalError(f"Ray was lost ({reason}): run the same command again to go on") from error


def _plan(source: Source, spec: RunSpec, manifest: Manifest) -> Plan:
    """What is left to do of the catalog."""
    config = spec.config
    recorded = SCHEMA.empty_table() if config.overwrite else manifest.reader(RECORDED)
    rules = Rules(
        spec.choice,
        config.units.images,
        config.retry_failed,
        config.video.container,
        config.shards.format,
        round(config.shards.target_mb * 1e6),
    )
    try:
        plan = Plan(discover(source), recorded, rules, source.root)
    except PermissionError as error:
        raise ConfigError(
            f"cannot list '{error.filename or config.input}': {error.strerror or error}"
        ) from error
    except ValueError as error:  # a list that breaks off in its middle
        raise ConfigError(str(error)) from error
    if not plan.num_files:
        raise ConfigError(f"input '{config.input}' holds no files")
    _log.info("%s files in %s, %s done before", f"{plan.num_files:,}", config.input, f"{plan.num_done:,}")
    return plan


def _start(plan: Plan, spec: RunSpec, manifest: Manifest, heartbeat: Heartbeat) -> None:
    """Write ``run.json``, drop what is done again, and settle what needs no worker."""
    try:
        # Before the new fingerprint stands: killed in between, old rows must not pass for new ones.
        manifest.forget(None if spec.config.overwrite else plan.stale())
        if spec.config.overwrite:
            forget_videos(manifest.output, keep=set())
        config = spec.config.model_dump(mode="json")
        write_run_record(manifest.output, spec.run_id, config, fingerprint(spec))
    except StorageError:
        raise
    except OSError as error:
        reason = error.strerror or error
        raise ConfigError(f"cannot write to output '{spec.config.output}': {reason}") from error
    manifest.output.remove_scratch()
    _settle_refusals(plan, spec, manifest, heartbeat)


def _settle_refusals(plan: Plan, spec: RunSpec, manifest: Manifest, heartbeat: Heartbeat) -> None:
    """Record what planning has refused; no worker ever sees it."""
    for refusals in plan.refusals():
        part = unit_id(refusal.item["item_id"] for refusal in refusals)
        rows = [
            manifest_row(
                spec,
                {**refusal.item, "kind": None if refusal.item["kind"] == "other" else refusal.item["kind"]},
                style,
                status=refusal.status,
                error_type=refusal.error_type,
                error_message=refusal.message,
                attempts=0,
                unit_id=part,
            )
            for refusal in refusals
            for style in refusal.item["styles"]
        ]
        manifest.commit(part, rows)
        heartbeat.count(Counter(row["status"] for row in rows))


def _open_folders(config: StylizeConfig) -> tuple[Source, Folder]:
    try:
        source, output = Source.open(config.input), Folder(config.output)
        styles = Folder(config.style.images) if config.style.images else None
    except (FileNotFoundError, ValueError) as error:
        raise ConfigError(str(error)) from error
    here, there = f"{output.real_root()}/", f"{source.folder.real_root()}/"
    # Files that are named may have their output below their own folder; a folder would find it there again.
    is_named = source.only or source.listing
    if here == there or there.startswith(here) or (here.startswith(there) and not is_named):
        raise ConfigError(
            f"output '{config.output}' and input '{config.input}' lie in one another: take a folder beside it"
        )
    if styles and here.startswith(f"{styles.real_root()}/"):
        raise ConfigError(
            f"output '{config.output}' lies in style.images '{config.style.images}': its files would "
            "be taken for styles, take a folder beside it"
        )
    if output.is_file():
        raise ConfigError(f"output '{config.output}' is a file, not a folder")
    return source, output


def _summarize(plan: Plan, run: Waves) -> Summary:
    spec, output = run.spec, run.manifest.output
    results = Results(run.manifest, (plan.database, plan.root))
    counts, sample, errors = results.statuses(), results.sample(_SAMPLE), results.errors(_TOP_ERRORS)
    num_images, num_frames = results.made_by(spec.run_id)
    places = {"results": output.uri(), "manifest": output.uri("manifest"), "record": output.uri("run.json")}
    read_style, pairs = _shown_styles(spec), spec.config.report.pairs
    sheet = write_contact_sheet(sample, output, f"{REPORT}/contact_sheet.png", pairs, read_style)
    if sheet:
        places["before/after"] = sheet
    progress = run.heartbeat.progress("finished")
    places["report"] = write_run_page(output, spec.config, progress, sample, counts, errors, read_style)
    return Summary(
        counts=counts,
        num_styles=spec.choice.per_item,
        num_already_done=plan.num_done,
        num_images=num_images,
        num_frames=num_frames,
        elapsed_s=run.elapsed_s,
        timings=run.timings,
        errors=errors,
        places=places,
    )


def _shown_styles(spec: RunSpec) -> Callable[[str], UInt8Array] | None:
    """Reads a style picture for the contact sheet, where it could be one of several."""
    pictures = spec.pictures
    if pictures is None or len(pictures.names) == 1:
        return None
    return lambda name: pictures.read(name).pixels_hwc
