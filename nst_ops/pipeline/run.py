"""The path from a configuration to a stylized collection: discover, plan, run, summarize."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable

import pyarrow as pa
import pyarrow.compute as pc
import ray

from nst_ops.collection.discover import Source, discover, unit_id
from nst_ops.collection.manifest import SCHEMA, Manifest, row_keys
from nst_ops.collection.plan import REPORT, Plan, WorkUnit, plan_units, split_unit, without
from nst_ops.collection.run_record import OutputInUseError, only_run, refuse_other_run, write_run_record
from nst_ops.collection.segments import forget_films, tidy
from nst_ops.config import ConfigError, StylizeConfig
from nst_ops.media.images import UInt8Array
from nst_ops.pipeline import cluster
from nst_ops.pipeline.cutting import cut_films, left_to_do
from nst_ops.pipeline.overlap import Timings
from nst_ops.pipeline.preflight import estimate_frames, preflight
from nst_ops.pipeline.progress import ProgressDisplay
from nst_ops.pipeline.spec import RunSpec, fingerprint, manifest_row, new_spec
from nst_ops.pipeline.summary import Summary, count_statuses, top_errors
from nst_ops.ray_connection import connected
from nst_ops.report.contact_sheet import write_contact_sheet
from nst_ops.storage import Folder, StorageFullError

_log = logging.getLogger(__name__)


class FatalError(RuntimeError):
    """Why a run cannot go on; no file's fault. What is finished stays."""


def stylize_collection(config: StylizeConfig) -> Summary:
    """Stylize every image and video under ``config.input`` into ``config.output``.

    Raises:
        ConfigError: input, output, model or styles cannot be used; nothing was done.
        FatalError: the run stopped; the same command goes on where it stopped.
    """
    source, output = _open_folders(config)
    spec = new_spec(config)
    manifest = Manifest(output)
    try:
        if config.dry_run:
            catalog, plan = _plan(source, spec, manifest)
            with connected(config.ray_address):
                return Summary({}, text=preflight(catalog, plan, spec))
        with only_run(output):
            catalog, plan = _plan(source, spec, manifest)
            _start(plan, spec, manifest)
            timings, elapsed_s = Timings(), 0.0
            if plan.units:
                with connected(config.ray_address):
                    timings, elapsed_s = _run(plan, spec, manifest)
            summary = _summarize(catalog, plan, spec, manifest, timings, elapsed_s)
            output.remove_scratch()
            tidy(output)
            return summary
    except OutputInUseError as error:
        raise ConfigError(str(error)) from error
    except StorageFullError as error:
        raise FatalError(str(error)) from error
    except ray.exceptions.RayError as error:
        reason = str(error).splitlines()[0]
        raise FatalError(f"Ray was lost ({reason}): run the same command again to go on") from error


def _plan(source: Source, spec: RunSpec, manifest: Manifest) -> tuple[pa.Table, Plan]:
    """The catalog, and what of it is left to do."""
    config = spec.config
    try:
        catalog = discover(source)
    except PermissionError as error:
        raise ConfigError(f"cannot list '{error.filename}': {error.strerror}") from error
    if not catalog.num_rows:
        raise ConfigError(f"input '{config.input}' holds no files")
    if config.overwrite:
        rows = SCHEMA.empty_table()
    else:
        refuse_other_run(manifest.output, fingerprint(spec))
        rows = manifest.table()
    plan = plan_units(
        catalog, rows, config.units.images, config.retry_failed, spec.choice, config.video.container
    )
    _log.info("%s files in %s, %s done before", f"{catalog.num_rows:,}", config.input, f"{plan.num_done:,}")
    return catalog, plan


def _start(plan: Plan, spec: RunSpec, manifest: Manifest) -> None:
    """Write ``run.json``, drop what is done again, and settle what needs no worker."""
    try:
        # Before the new fingerprint stands: killed in between, old rows must not pass for new ones.
        manifest.forget(None if spec.config.overwrite else plan.stale)
        if spec.config.overwrite:
            forget_films(manifest.output, keep=set())
        config = spec.config.model_dump(mode="json")
        write_run_record(manifest.output, spec.run_id, config, fingerprint(spec))
    except StorageFullError:
        raise
    except OSError as error:
        raise ConfigError(f"cannot write to output '{spec.config.output}': {error.strerror}") from error
    manifest.output.remove_scratch()
    _settle_refusals(plan, spec, manifest)


def _run(plan: Plan, spec: RunSpec, manifest: Manifest) -> tuple[Timings, float]:
    """Run the units, and those that killed their worker again, in parts, a finite number of times.

    Returns:
        What kept the workers busy, and the seconds it took.
    """
    started_at = time.perf_counter()
    board = cluster.Board()
    num_rows = len({key for unit in plan.units for key in unit.keys})
    timings, units = Timings(), cut_films(plan.units, spec)
    errors: dict[str, str] = {}
    with ProgressDisplay(num_rows, estimate_frames(units, spec), board.totals):
        while units:
            for result in cluster.run_units(units, spec, board):
                if result.fatal:
                    raise FatalError(result.fatal)
                if result.error:
                    errors[result.unit_id] = result.error
                timings.add(result.timings)
            started = board.take_started()
            if not started:
                raise FatalError(
                    "no worker could start: see the logs of Ray, by default in /tmp/ray/session_latest"
                )
            units = _next_try(_without_rows(units, manifest), started, errors, spec, manifest)
    return timings, time.perf_counter() - started_at


def _next_try(
    lost: list[WorkUnit], started: set[str], errors: dict[str, str], spec: RunSpec, manifest: Manifest
) -> list[WorkUnit]:
    """What to try again of the units that ended without rows; those tried often enough are settled."""
    units: list[WorkUnit] = []
    for unit in lost:
        if unit.unit_id not in started:
            units.append(unit)  # it only stood behind one that killed the last worker
        elif unit.attempt < spec.config.workers.attempts:
            units.extend(split_unit(unit))
        else:
            _settle_crashed(unit, errors.get(unit.unit_id), spec, manifest)
    return units


def _without_rows(units: list[WorkUnit], manifest: Manifest) -> list[WorkUnit]:
    """What of ``units`` has no rows after they ran."""
    known = set(row_keys(manifest.table()))
    return left_to_do([lost for unit in units if (lost := without(unit, known))], manifest.output)


def _settle_crashed(unit: WorkUnit, error: str | None, spec: RunSpec, manifest: Manifest) -> None:
    """Record items that killed their worker every time."""
    what = error or "killed its worker process, most likely a damaged file or too little memory"
    message = (
        f"{what} ({unit.attempt} tries): check or re-encode the file, then run again with --retry-failed"
    )
    outcome = {"status": "crashed", "error_type": "WorkerCrashedError", "error_message": message}
    rows = [
        manifest_row(spec, item, style, **outcome, attempts=unit.attempt, unit_id=unit.part)
        for item in unit.items
        for style in item["styles"]
    ]
    manifest.commit(unit.part, rows)


def _settle_refusals(plan: Plan, spec: RunSpec, manifest: Manifest) -> None:
    """Record what planning has refused; no worker ever sees it."""
    if not plan.refusals:
        return
    part = unit_id([refusal.item["item_id"] for refusal in plan.refusals])
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
        for refusal in plan.refusals
        for style in refusal.item["styles"]
    ]
    manifest.commit(part, rows)


def _open_folders(config: StylizeConfig) -> tuple[Source, Folder]:
    try:
        source, output = Source.open(config.input), Folder(config.output)
        styles = Folder(config.style.images) if config.style.images else None
    except (FileNotFoundError, ValueError) as error:
        raise ConfigError(str(error)) from error
    here, there = f"{output.real_root()}/", f"{source.folder.real_root()}/"
    # A single file may have its output below its own folder; a folder would find it there again.
    if here == there or there.startswith(here) or (here.startswith(there) and not source.only):
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


def _summarize(
    catalog: pa.Table, plan: Plan, spec: RunSpec, manifest: Manifest, timings: Timings, elapsed_s: float
) -> Summary:
    rows = manifest.table()
    rows = rows.filter(pc.is_in(rows["item_id"], catalog["item_id"]))
    mine = rows.filter(pc.and_(pc.equal(rows["run_id"], spec.run_id), pc.equal(rows["status"], "ok")))
    films = mine.filter(pc.equal(mine["kind"], "video"))
    output = manifest.output
    places = {"results": output.uri(), "manifest": output.uri("manifest"), "record": output.uri("run.json")}
    sheet = write_contact_sheet(
        rows, output, f"{REPORT}/contact_sheet.png", spec.config.report.pairs, _shown_styles(spec)
    )
    if sheet:
        places["before/after"] = sheet
    return Summary(
        counts=count_statuses(rows),
        num_styles=spec.choice.per_item,
        num_already_done=plan.num_done,
        num_images=mine.num_rows - films.num_rows,
        num_frames=pc.sum(films["num_frames"]).as_py() or 0,
        elapsed_s=elapsed_s,
        timings=timings,
        errors=top_errors(rows),
        places=places,
    )


def _shown_styles(spec: RunSpec) -> Callable[[str], UInt8Array] | None:
    """Reads a style picture for the contact sheet, where it could be one of several."""
    pictures = spec.pictures
    if pictures is None or len(pictures.names) == 1:
        return None
    return lambda name: pictures.read(name).pixels_hwc
