"""A run, from a configuration to a stylized collection: discover → plan → execute → report."""

from __future__ import annotations

import logging
import time
from collections import Counter
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import replace
from functools import partial

from nst_ops.collection.database import import_ahead
from nst_ops.collection.inputs import Source, discover
from nst_ops.collection.manifest import RECORDED, SCHEMA, Manifest, compact, finish_compaction
from nst_ops.collection.packing import remove_unfinished_shards
from nst_ops.collection.planner import Plan, PlanRules
from nst_ops.collection.progress import Planned
from nst_ops.collection.results import Results
from nst_ops.collection.run_lock import (
    Heartbeat,
    OutputInUseError,
    amend_run_record,
    read_configs,
    read_fingerprint,
    refuse_other_run,
    run_lock,
    write_run_record,
)
from nst_ops.collection.segments import forget_videos, remove_empty_folder
from nst_ops.collection.units import unit_id
from nst_ops.config import ConfigError, StylizeConfig
from nst_ops.config.errors import FatalError
from nst_ops.config.stylize import RETRY_KEYS
from nst_ops.media.video.encoders import nvenc_problem
from nst_ops.pipeline.bottleneck import bottleneck
from nst_ops.pipeline.console import ProgressDisplay, Summary
from nst_ops.pipeline.dry_run import estimate_frames, preflight
from nst_ops.pipeline.executors import Executor, new_executor
from nst_ops.pipeline.retry import RunUnits
from nst_ops.pipeline.run_spec import RunSpec, fingerprint, manifest_row, new_run_spec, present_fingerprint
from nst_ops.pipeline.text_style import settle_text_style
from nst_ops.storage import Folder, StorageError, configure_storage
from nst_ops.storage.scratch import remove_dead_scratch

_log = logging.getLogger(__name__)

_TOP_ERRORS = 20
_TRIAL_S = 120.0  # seconds for a process on a GPU to start, and to try an encoder
_SAMPLE = 2_000  # rows of which the contact sheet shows a few
_COMPACT_PARTS = 2_000  # settled parts of the manifest that are worth a compaction beside the work


def stylize_collection(config: StylizeConfig) -> Summary:
    """Stylize every image and video under ``config.input`` into ``config.output``.

    Raises:
        ConfigError: input, output, model or styles cannot be used; nothing was done.
        FatalError: the run stopped; the same command goes on where it stopped.
    """
    try:
        configure_storage(config.storage)
        import_ahead()
        remove_dead_scratch()
        source, output = _open_folders(config)
        with new_executor(config) as executor:
            config = settle_encoder(config, output, executor)
            config = settle_text_style(config, source, output, executor)
            spec, manifest = new_run_spec(config, source.root, executor.load_model), Manifest(output)
            spec = replace(spec, labels=source.labels)
            if not config.overwrite:
                _refuse_other_run(output, spec)
            if config.dry_run:
                return Summary({}, text=preflight(_plan(source, spec, manifest), spec, executor))
            with run_lock(output, spec.run_id) as heartbeat:
                finish_compaction(manifest)
                compact(manifest)
                plan = _plan(source, spec, manifest)
                num_refused = _begin(plan, spec, manifest, heartbeat)
                units, elapsed_s = _execute(plan, num_refused, spec, manifest, heartbeat, executor)
                remove_unfinished_shards(manifest)
                summary = _report(plan, spec, manifest, heartbeat, units, elapsed_s)
                remove_empty_folder(output)
                return summary
    except StorageError as error:
        raise FatalError(str(error)) from error


def _open_folders(config: StylizeConfig) -> tuple[Source, Folder]:
    """Open input and output, and refuse those that lie in one another."""
    try:
        source = Source.open(config.input, "all" if config.discovery.follow_links else "inside")
        output = Folder(config.output)
        styles = Folder(config.style.images) if config.style.images else None
    except (FileNotFoundError, ValueError) as error:
        raise ConfigError(str(error)) from error
    except PermissionError as error:
        raise ConfigError(f"cannot read '{error.filename or config.input}': {error.strerror or error}") from error
    here, there = f"{output.real_root()}/", f"{source.folder.real_root()}/"
    # Files that are named may have their output below their own folder; a folder would find it there again.
    is_named = source.only or source.listing
    if here == there or there.startswith(here) or (here.startswith(there) and not is_named):
        where = f"output '{config.output}' and input '{config.input}' lie in one another"
        raise ConfigError(f"{where}: take a folder beside it")
    if styles and here.startswith(f"{styles.real_root()}/"):
        where = f"output '{config.output}' lies in style.images '{config.style.images}'"
        raise ConfigError(f"{where}: its files would be taken for styles, take a folder beside it")
    if output.is_file():
        raise ConfigError(f"output '{config.output}' is a file, not a folder")
    return source, output


def settle_encoder(config: StylizeConfig, output: Folder, executor: Executor) -> StylizeConfig:
    """Return ``config`` with what ``video.encoder auto`` comes to for this run, on whichever machine its videos are.

    A run goes on with the encoder that it began with: segments of a video are joined, so all must come from one. A new
    one takes NVENC where a GPU of the workers starts it. Raises ConfigError for a run that began with it, or asks for
    it, where none does.
    """
    wanted = config.video.encoder
    if wanted == "software":
        return config
    began_with = None if config.overwrite else read_fingerprint(output).get("video.encoder")
    problem = "there is no GPU"
    if executor.num_gpus and (wanted == "nvenc" or began_with != "software"):
        answer = executor.call(nvenc_problem, config.video, gpu=True, limit_s=_TRIAL_S)
        problem = "its trial did not end" if answer is None else answer
        if wanted == "nvenc" and answer and config.video.container != "frames":  # which no encoder writes
            raise ConfigError(
                f"video.encoder nvenc does not start on a GPU of the workers ({answer}): set it to auto or software"
            )
    if wanted == "nvenc":
        return config
    if began_with == "nvenc" and problem:
        raise ConfigError(
            f"video.encoder auto: this output was begun with nvenc, which does not start now ({problem}): "
            "go on where it does, or take another output"
        )
    encoder = began_with or ("software" if problem else "nvenc")
    _log.info("video.encoder auto: %s%s", encoder, f" ({problem})" if problem and not began_with else "")
    return config.model_copy(update={"video": config.video.model_copy(update={"encoder": encoder})})


def _refuse_other_run(output: Folder, spec: RunSpec) -> None:
    """Refuse the output of another run; of this one, what failed may be tried again with other ``RETRY_KEYS``."""
    now = fingerprint(spec)
    refuse_other_run(output, now, partial(present_fingerprint, now=now), RETRY_KEYS, spec.config.retry_failed)


def _plan(source: Source, spec: RunSpec, manifest: Manifest) -> Plan:
    """Discover the files of the input, and plan what has no row yet."""
    config = spec.config
    recorded = SCHEMA.empty_table() if config.overwrite else manifest.reader(RECORDED)
    form, shard_bytes = config.shards.format, round(config.shards.target_mb * 1e6)
    rules = PlanRules(
        *(spec.choice, config.units.images, config.retry_failed, config.video.container, form, shard_bytes, spec.names),
        output_root=manifest.output.uri("x").removesuffix("x"),
    )
    try:
        plan = Plan(discover(source, config.discovery), recorded, rules, source.root, is_whole=source.is_whole)
    except PermissionError as error:
        raise ConfigError(f"cannot list '{error.filename or config.input}': {error.strerror or error}") from error
    except ValueError as error:  # a list that breaks off in its middle
        raise ConfigError(str(error)) from error
    if not plan.num_files:
        raise ConfigError(f"input '{config.input}' holds no files")
    _log.info("%s files in %s, %s done before", f"{plan.num_files:,}", config.input, f"{plan.num_done:,}")
    return plan


def _begin(plan: Plan, spec: RunSpec, manifest: Manifest, heartbeat: Heartbeat) -> int:
    """Write ``run.json``, forget what is done again, and record what planning has refused; return its rows."""
    try:
        # Before the new fingerprint stands: killed in between, old rows must not pass for new ones.
        manifest.forget(None if spec.config.overwrite else plan.stale())
        if spec.config.overwrite:
            forget_videos(manifest.output, keep=set())
        config = spec.config.model_dump(mode="json")
        configs = {} if spec.config.overwrite else read_configs(manifest.output)
        configs |= {spec.config_sha256: config}
        write_run_record(manifest.output, spec.run_id, config, fingerprint(spec), configs)
    except StorageError:
        raise
    except OSError as error:
        raise ConfigError(f"cannot write to output '{spec.config.output}': {error.strerror or error}") from error
    manifest.output.remove_scratch()
    num_refused = 0
    for refusals in plan.refusals():
        part = unit_id(refusal.item["item_id"] for refusal in refusals)
        rows = []
        for refusal in refusals:
            item, reason = refusal.item, {"error_type": refusal.error_type, "error_message": refusal.message}
            kind = None if item["kind"] == "other" else item["kind"]
            outcome = {"kind": kind, "status": refusal.status, **reason, "attempts": 0, "unit_id": part}
            rows += [manifest_row(spec, item, style, **outcome) for style in item["styles"]]
        manifest.commit(part, rows)
        heartbeat.count(Counter(row["status"] for row in rows))
        num_refused += len(rows)
    return num_refused


def _execute(
    plan: Plan, num_refused: int, spec: RunSpec, manifest: Manifest, heartbeat: Heartbeat, executor: Executor
) -> tuple[RunUnits, float]:
    """Run the units of the plan, each until it has its rows; return them settled, and the seconds it took."""
    at_most = None if plan.left("video")[0] else plan.num_units
    units = RunUnits(spec, manifest, plan.units(), at_most)
    if not plan.num_units:
        return units, 0.0
    started = time.perf_counter()
    rows = {"num_rows": plan.num_left + num_refused, "num_done_before": plan.num_done}
    workers = {"num_workers": executor.num_workers, "num_gpus": executor.num_gpus}
    planned = Planned(**rows, num_frames=estimate_frames(plan, spec, executor), **workers)
    with heartbeat.work(planned, executor.totals), ProgressDisplay(heartbeat), ThreadPoolExecutor(1) as compaction:
        compacted: Future[None] | None = None
        for outcome in executor.run(spec, units):
            try:
                heartbeat.count(*units.settle(outcome))
            except OutputInUseError as error:  # work has begun: no longer a matter of the configuration
                raise FatalError(str(error)) from error
            heartbeat.num_retries = units.num_retries
            if len(units.settled_parts) >= _COMPACT_PARTS and (compacted is None or compacted.done()):
                if compacted:
                    compacted.result()
                settled, units.settled_parts = units.settled_parts, set()
                compacted = compaction.submit(_compact_settled, manifest, settled)
        if compacted:
            compacted.result()
    if units.num_left:
        waiting = f"{units.num_left:,} rows are left, the storage was away ({units.away_reason})"
        raise FatalError(f"{waiting}: run the same command again")
    forget_videos(manifest.output, keep=units.video_ids)
    return units, time.perf_counter() - started


def _compact_settled(manifest: Manifest, settled: set[str]) -> None:
    compact(manifest, keep=lambda part: part not in settled)


def _report(
    plan: Plan, spec: RunSpec, manifest: Manifest, heartbeat: Heartbeat, units: RunUnits, elapsed_s: float
) -> Summary:
    """Count the rows, draw the contact sheet and the page of the run."""
    from nst_ops.report.run_report import write_report  # not before the work is done

    output = manifest.output
    results = Results(manifest, (plan.database, plan.root))
    counts, sample, errors = results.statuses(), results.sample(_SAMPLE), results.errors(_TOP_ERRORS)
    skipped = results.errors(_TOP_ERRORS, ("skipped",))
    num_images, num_frames = results.made_by(spec.run_id)
    devices = results.devices(spec.run_id)
    amend_run_record(output, devices=devices)
    places = {"results": output.uri(), "manifest": output.uri("manifest"), "record": output.uri("run.json")}
    progress, images = heartbeat.progress("finished"), spec.style_images
    on_gpu = any(device["device"] != "cpu" for device in devices)
    worker_s = elapsed_s * progress.planned.num_workers
    slowest = bottleneck(units.timings, worker_s, spec.config, on_gpu, has_videos=num_frames > 0)
    model = spec.kind.describe(spec.config.model)
    # The contact sheet shows the style image where it could be one of several.
    read_style = (lambda name: images.read(name).pixels_hwc) if images and len(images.names) > 1 else None
    places |= write_report(output, spec.config, model, progress, sample, counts, errors, read_style)
    num_styles, num_done = spec.choice.per_item, plan.num_done
    done = num_styles, num_done, num_images, num_frames, elapsed_s, units.timings
    return Summary(counts, *done, errors, skipped, places, plan.num_dropped, slowest)
