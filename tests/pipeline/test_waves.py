"""What is tried again, and what is left to the next run."""

from pathlib import Path

from job_runner import read_manifest, write_picture
from planning import units_of

from nst_ops.collection.run_lock import Heartbeat
from nst_ops.config import StylizeConfig
from nst_ops.pipeline.retry import Waves
from nst_ops.pipeline.run_spec import new_run_spec
from nst_ops.pipeline.worker import Worker


def test_what_the_storage_kept_from_being_done_gets_no_rows(tmp_path: Path) -> None:
    for name in ("a.png", "b.png", "c.png"):
        write_picture(tmp_path / "in" / name)
    source, output = str(tmp_path / "in"), str(tmp_path / "out")
    workers = {"attempts": 1}
    config = StylizeConfig(input=source, output=output, model={"kind": "identity"}, workers=workers)
    worker = Worker(new_run_spec(config, source))
    lost, broken, done = units_of(worker, images=1)
    worker(done)
    waves = Waves(worker.spec, worker.manifest, Heartbeat(worker.output, "run"))
    waves.away[lost.unit_id] = "StorageUnavailableError: no answer"
    waves.errors[broken.unit_id] = "RuntimeError: device lost"
    started = {unit.unit_id for unit in (lost, broken, done)}
    assert not waves.next_try([lost, broken, done], {done.unit_id}, started)
    assert waves.num_left == 1
    rows = {row["source_uri"]: row["status"] for row in read_manifest(tmp_path / "out")}
    assert rows == {broken.keys[0][0]: "crashed", done.keys[0][0]: "ok"}
    (left,) = units_of(worker)
    assert left.keys == lost.keys
