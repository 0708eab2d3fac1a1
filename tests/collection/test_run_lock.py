"""The heartbeat of a run keeps every other run out of its output."""

import contextlib
import os
import platform
import shutil
import subprocess
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import fsspec
import pytest

from nst_ops.collection.constants import PROGRESS_FILE
from nst_ops.collection.progress import Planned, Progress, Totals, read_progress
from nst_ops.collection.run_lock import (
    MISSED_BEATS,
    Heartbeat,
    OutputInUseError,
    refuse_other_run,
    run_lock,
    write_run_record,
)
from nst_ops.storage import Folder

BEAT_S = 0.05


@pytest.fixture
def remote() -> Iterator[Folder]:
    """An output on storage without locks."""
    folder = Folder(f"memory://bucket-{uuid.uuid4().hex}/output")
    yield folder
    with contextlib.suppress(FileNotFoundError):
        fsspec.filesystem("memory").rm(folder.root, recursive=True)


@pytest.fixture
def local(tmp_path: Path) -> Folder:
    folder = Folder(str(tmp_path / "output"))
    write_run_record(folder, "a", {}, {})
    return folder


def shown(output: Folder) -> Progress:
    """The record; looked for again, since a file in memory is empty while it is written, as none in a bucket is."""
    until = time.monotonic() + 10
    while (progress := read_progress(output)) is None:
        assert time.monotonic() < until
    return progress


def wait_until(condition: Callable[[], bool]) -> None:
    until = time.monotonic() + 10
    while not condition():
        assert time.monotonic() < until
        time.sleep(BEAT_S / 5)


def leave_as_killed(output: Folder, run_id: str = "killed", host: str = "elsewhere") -> None:
    """What a driver leaves that was killed while it ran."""
    record = Progress(run_id=run_id, host=host, account=os.getuid(), beat=7, every_s=BEAT_S)
    output.write_bytes(PROGRESS_FILE, record.model_dump_json().encode())


def test_totals_and_settled_rows_are_in_the_record(remote):
    with run_lock(remote, "a", BEAT_S) as heartbeat:
        heartbeat.count({"skipped": 1})
        planned = Planned(num_rows=10, num_frames=100, num_workers=2, num_gpus=2, num_done_before=5)
        with heartbeat.work(planned, lambda: Totals(num_rows=4, num_frames=60, busy_s=0.01)):
            wait_until(lambda: shown(remote).done.num_rows == 4)
            heartbeat.count({"ok": 5, "failed": 2}, num_images=5)
            heartbeat.num_retries += 1
            wait_until(lambda: shown(remote).done.num_rows == 8)
        live = shown(remote)
        assert live.state == "running"
        assert live.statuses == {"skipped": 1, "ok": 5, "failed": 2}
        assert (live.num_images, live.num_retries, live.planned) == (5, 1, planned)
        assert live.done.num_frames == 60
        assert live.done.num_failed == 2
        assert 0 < live.overall.busy_share < 1
    ended = shown(remote)
    assert ended.state == "finished"
    assert ended.beat > live.beat
    assert ended.history[-1] == ended.done


def test_lost_workers_do_not_end_the_heartbeat(remote):
    def gone() -> Totals:
        raise ConnectionError

    with run_lock(remote, "a", BEAT_S) as heartbeat, heartbeat.work(Planned(num_rows=3), gone):
        heartbeat.count({"ok": 1})
        before = shown(remote).beat
        wait_until(lambda: shown(remote).beat >= before + 2)
        assert shown(remote).done.num_rows == 1


def test_rows_told_twice_are_not_more_than_planned(remote):
    with run_lock(remote, "a", BEAT_S) as heartbeat, heartbeat.work(Planned(num_rows=3), lambda: Totals(num_rows=5)):
        wait_until(lambda: shown(remote).done.num_rows == 3)


@pytest.mark.parametrize(("error", "state"), [(ValueError("disk on fire"), "failed"), (KeyboardInterrupt(), "stopped")])
def test_the_last_heartbeat_says_how_the_run_ended(remote, error, state):
    with pytest.raises(type(error)), run_lock(remote, "a", BEAT_S):
        raise error
    assert (shown(remote).state, shown(remote).reason) == (state, str(error))


def test_a_live_run_keeps_others_out_without_locks(remote):
    with run_lock(remote, "a", BEAT_S):
        with pytest.raises(OutputInUseError, match="another run is writing"), run_lock(remote, "b", BEAT_S):
            pass
        assert shown(remote).run_id == "a"
    with run_lock(remote, "b", BEAT_S):
        assert shown(remote).run_id == "b"


def test_a_dead_run_is_watched_and_then_taken_over(remote):
    leave_as_killed(remote)
    started = time.monotonic()
    with run_lock(remote, "b", BEAT_S):
        assert time.monotonic() - started >= MISSED_BEATS * BEAT_S
        assert shown(remote).run_id == "b"


def test_a_run_leaves_an_output_that_was_taken_over(remote):
    def work() -> None:
        with run_lock(remote, "a", BEAT_S) as heartbeat:
            leave_as_killed(remote, "b")
            wait_until(lambda: not heartbeat._thread.is_alive())
            heartbeat.count({"ok": 1})

    with pytest.raises(OutputInUseError, match="taken over by a run on elsewhere"):
        work()
    assert (shown(remote).run_id, shown(remote).state) == ("b", "running")


def test_of_two_runs_begun_at_once_the_last_to_write_stays(remote):
    first, second = Heartbeat(remote, "a", BEAT_S), Heartbeat(remote, "b", BEAT_S)
    first._write("running")
    second.start()
    first._look()
    with pytest.raises(OutputInUseError):
        first.check()
    second.check()
    second.end("finished")


def test_a_killed_run_on_this_machine_is_not_waited_for(local):
    leave_as_killed(local, host=platform.node())
    slow = shown(local).model_copy(update={"every_s": 1000.0})
    local.write_bytes(PROGRESS_FILE, slow.model_dump_json().encode())
    with run_lock(local, "b", BEAT_S):
        assert shown(local).run_id == "b"


@pytest.mark.skipif(os.name != "posix" or os.getuid() != 0, reason="needs root, to become somebody else")
def test_accounts_of_a_machine_take_turns_on_an_output(local, monkeypatch):
    with run_lock(local, "a", BEAT_S), monkeypatch.context() as patch:
        patch.setattr(os, "getuid", lambda: 65534)
        with pytest.raises(OutputInUseError, match="wait for it or stop it"), run_lock(local, "b", BEAT_S):
            pass
    code = (
        "import os, sys; from pathlib import Path; from nst_ops.collection.run_lock import run_lock\n"
        "from nst_ops.storage import Folder\n"
        "os.setuid(65534)\n"
        "with run_lock(Folder(sys.argv[1]), 'b'): print('turn')"
    )
    output = tempfile.mkdtemp()
    try:
        os.chmod(output, 0o777)
        write_run_record(Folder(output), "a", {}, {})
        with run_lock(Folder(output), "a", BEAT_S):
            pass
        for path in [Path(output, "report"), *Path(output, "report").iterdir()]:
            path.chmod(0o777)
        done = subprocess.run([sys.executable, "-c", code, output], capture_output=True, text=True, check=False)
        assert done.stdout == "turn\n", done.stderr
    finally:
        shutil.rmtree(output)


def test_a_folder_mounted_by_two_machines_is_watched(local):
    leave_as_killed(local, host="the other one")
    with run_lock(local, "b", BEAT_S):
        assert shown(local).run_id == "b"


def test_a_bad_configuration_leaves_no_folder(tmp_path):
    output = Folder(str(tmp_path / "new"))
    with pytest.raises(ValueError, match="no files"), run_lock(output, "a", BEAT_S):
        raise ValueError("no files")
    assert not output.exists()


def test_a_run_killed_before_its_record_can_begin_again(remote):
    leave_as_killed(remote)
    refuse_other_run(remote, {"model": "a"})


def test_storage_that_takes_no_record_does_not_stop_the_run(remote, monkeypatch, caplog):
    def refuse(*_: object) -> None:
        raise PermissionError("read-only")

    with run_lock(remote, "a", BEAT_S) as heartbeat:
        monkeypatch.setattr(remote, "write_bytes", refuse)
        time.sleep(3 * BEAT_S)
        heartbeat.count({"ok": 1})
    assert [record.message for record in caplog.records] == [f"cannot write {remote.uri(PROGRESS_FILE)}: read-only"]
