"""Training on Ray: ingest with Ray Data, workers of Ray Train, and their progress seen from the driver."""

import contextlib
import dataclasses
import logging
import threading
from collections.abc import Iterator
from typing import Any, cast

import ray
import torch
from ray.data import DataContext
from ray.data.block import BlockAccessor
from ray.train import FailureConfig, RunConfig, ScalingConfig, TrainingFailedError, get_context
from ray.train.torch import TorchTrainer, get_device

from nst_ops.config import ConfigError, TrainingConfig
from nst_ops.models.device import find_device
from nst_ops.ray_cluster import connected, cores_per_node, num_cpus, num_gpus, num_nodes
from nst_ops.storage import Folder, StorageFullError
from nst_ops.training import data
from nst_ops.training.checkpointing import describe
from nst_ops.training.optim import Ranks
from nst_ops.training.progress import ProgressTracker
from nst_ops.training.setup import TrainingSetup
from nst_ops.training.step import DivergedError
from nst_ops.training.worker import Facts, TrainingError, TrainingJob, most_workers, share_of, train_worker

SCRATCH = ".ray_train"
_POLL_S = 0.5

_log = logging.getLogger(__name__)


def train_on_ray(config: TrainingConfig, setup: TrainingSetup, names: list[str], style_names: list[str]) -> Facts:
    """Train with the workers of ``config`` on the cluster, and return the facts of the finished checkpoint.

    Raises ConfigError for workers that cannot be had or images that cannot be used, TrainingError if diverged, out of
    space or failed too often, FatalError if Ray does not start.
    """
    try:
        with connected(config.ray_address) as started_here:
            workers = choose_workers(config, complete=started_here)
            styles = ingest_on_ray(config, style_names, "style") if style_names else None
            content = ingest_on_ray(config, names, "content")
            job = TrainingJob(config, setup, content, styles, describe(config, content, styles))
            return _fit(job, workers)
    except TrainingFailedError as error:
        raise TrainingError(f"workers failed too often (--workers.max_failures): {error}") from error
    except ray.exceptions.RayError as error:
        raise ray_lost(error) from error


def ray_lost(error: Exception) -> TrainingError:
    """Return what to raise for an ``error`` of Ray itself."""
    return TrainingError(f"Ray was lost ({str(error).splitlines()[0]}): run the same command again to go on")


def on_gpus(config: TrainingConfig) -> bool:
    """Return whether workers get a GPU each; raises ConfigError if GPUs are asked for and there are none."""
    if config.workers.device == "cuda" and not num_gpus():
        raise ConfigError("workers.device: the cluster has no GPU; take auto or cpu")
    return config.workers.device != "cpu" and num_gpus() > 0


@dataclasses.dataclass(frozen=True)
class Workers:
    """Number of the workers of a training, and whether each has a GPU, and how many CPU threads."""

    count: int
    use_gpu: bool
    threads: int


def choose_workers(config: TrainingConfig, complete: bool) -> Workers:
    """Choose the workers by the resources of the cluster; where it is ``complete``, no more nodes can come.

    Raises ConfigError if what is asked for cannot be had, or the batch cannot be shared out.
    """
    use_gpu = on_gpus(config)
    count = config.workers.count or most_workers(config.train.batch_size, num_gpus() if use_gpu else 1)
    if config.train.batch_size % count:
        refused = f"train.batch_size {config.train.batch_size} cannot be shared out among {count} workers"
        raise ConfigError(f"{refused}: take a multiple of {count}")
    kind, there = ("GPU", num_gpus()) if use_gpu else ("CPU", num_cpus())
    if count > there:
        lack = f"workers.count: {count} workers need {count} {kind}s, the cluster has {there}"
        if complete:
            raise ConfigError(lack)
        _log.warning("%s: waiting for more nodes", lack)
    threads = config.workers.threads or max(1, cores_per_node() * num_nodes() // count)
    return Workers(count, use_gpu, threads)


def ingest_on_ray(config: TrainingConfig, names: list[str], role: data.Role) -> data.StoredImages:
    """Decode and resize the images ``names`` into the object store, as ``data.ingest`` does into memory.

    Raises ConfigError for fewer readable images than a batch needs, or more than the object store holds.
    """
    side = data.side_of(config, role)
    # Every node that trains keeps all images; what spilled to disk would be read back all the time.
    memory = min(node["Resources"].get("object_store_memory", 0) for node in ray.nodes() if node["Alive"])
    remedy = "Ray's object store {} on a node: take --data.limit {}, or give Ray more memory"
    data.refuse_too_many(len(names), side, role, memory, remedy)
    context = DataContext.get_current()
    context.enable_progress_bars = context.enable_operator_progress_bars = False
    logging.getLogger("ray.data").setLevel(logging.CRITICAL)
    num_blocks = -(-len(names) // data.PER_BLOCK)
    files = ray.data.from_items([{"relpath": name} for name in names], override_num_blocks=num_blocks)
    decoded = files.map_batches(
        data.decode_squares,  # type: ignore[arg-type]  # Ray's type leaves out fn_kwargs
        batch_size=data.PER_BLOCK,
        fn_kwargs={"uri": data.image_folder(config, role).uri(), "side": side},
    )
    outcomes = ray.remote(num_cpus=0)(_outcomes)
    blocks, reports = [], []
    # The references are kept: an iterator alone would let go of each block after its turn.
    for bundle in data.show_decoding(decoded.iter_internal_ref_bundles(), role, num_blocks):
        blocks += bundle.block_refs
        reports += [outcomes.remote(ref) for ref in bundle.block_refs]
    return data.store(config, role, blocks, ray.get(reports))


def _outcomes(block: Any) -> list[tuple[str, str]]:
    """Return (relpath, error) of each row, so that the driver need not fetch the pixels."""
    columns = BlockAccessor.for_block(block).to_numpy(["relpath", "error"])
    return [(str(name), str(error)) for name, error in zip(columns["relpath"], columns["error"], strict=True)]


def loaded(stored: data.StoredImages) -> data.StoredImages:
    """Map the blocks of ``stored`` into this process; on the node that holds a block it is not copied."""
    blocks = [BlockAccessor.for_block(block).to_numpy("pixels") for block in ray.get(stored.blocks)]
    return dataclasses.replace(stored, blocks=blocks)


def _fit(job: TrainingJob, workers: Workers) -> Facts:
    config, actor = job.config, _latest_actor()
    output = Folder(config.output)
    sent = dataclasses.replace(job, setup=ray.put(job.setup))  # type: ignore[arg-type]  # for the way
    stored = {"storage_path": output.root, "storage_filesystem": output.pyarrow_filesystem()}
    failures = FailureConfig(max_failures=config.workers.max_failures)
    trainer = TorchTrainer(
        _train_ray_worker,  # type: ignore[arg-type]  # Ray's type knows no return value
        train_loop_config={"job": sent, "threads": workers.threads, "latest": actor},
        scaling_config=ScalingConfig(num_workers=workers.count, use_gpu=workers.use_gpu),
        run_config=RunConfig(name=SCRATCH, failure_config=failures, **stored),
    )
    share, s = share_of(workers.use_gpu, workers.threads), "s" * (workers.count > 1)
    _log.info("starting %d worker%s with %s each", workers.count, s, share)
    try:
        with ProgressTracker(config.train.steps, config.train.batch_size) as progress, _watch(actor, progress):
            result: Any = trainer.fit()
    except SystemExit as stop:  # Ray Train's answer to Ctrl-C, which says nothing
        raise KeyboardInterrupt from stop
    output.remove(SCRATCH)
    if "fatal" in result.return_value:
        raise TrainingError(result.return_value["fatal"])
    return dict(result.return_value["facts"])


def _train_ray_worker(settings: dict[str, Any]) -> dict[str, Any]:
    """Train as one of Ray Train's workers.

    Returns, from the first worker, ``facts`` of the finished run, or ``fatal``, the reason why trying again would not
    help. Everything else is raised, and Ray Train starts over from the state.
    """
    job: TrainingJob = settings["job"]
    setup, styles = ray.get(cast(Any, job.setup)), loaded(job.styles) if job.styles else None
    job = dataclasses.replace(job, setup=setup, content=loaded(job.content), styles=styles)
    torch.set_num_threads(settings["threads"])
    context = get_context()
    ranks = Ranks(context.get_world_rank(), context.get_world_size())
    if ray.get_gpu_ids():
        try:
            find_device("auto")
        except ValueError as error:
            return {"fatal": f"workers.device: {error}"}
    try:
        return {"facts": train_worker(job, ranks, get_device(), settings["latest"].put.remote)}
    except (DivergedError, StorageFullError) as error:  # raised by all workers alike
        return {"fatal": str(error)}


def _latest_actor() -> Any:
    """Start an actor that holds the latest report of the first worker."""

    class Latest:  # in a function, so that it travels by value: its process need not import torch
        def __init__(self) -> None:
            self.latest: dict[str, Any] = {}

        def put(self, latest: dict[str, Any]) -> None:
            self.latest = latest

        def get(self) -> dict[str, Any]:
            return self.latest

    return ray.remote(num_cpus=0)(Latest).remote()


@contextlib.contextmanager
def _watch(actor: Any, progress: ProgressTracker) -> Iterator[None]:
    """Show what ``actor`` holds, twice a second and at the end."""
    done = threading.Event()

    def show() -> None:
        if latest := ray.get(actor.get.remote()):
            progress.update(latest)

    def poll() -> None:
        with contextlib.suppress(Exception):  # the actor may be gone when the cluster stops; the run itself will say
            while not done.wait(_POLL_S):
                show()

    thread = threading.Thread(target=poll, name="progress", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
    show()
