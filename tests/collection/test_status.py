"""What a person learns of a run from its output alone."""

import contextlib
import json
import os
import subprocess
import sys
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from nst_ops.cli.status import main
from nst_ops.collection.manifest import SCHEMA, Manifest
from nst_ops.collection.progress import PROGRESS_FILE, Planned, Progress, Totals
from nst_ops.collection.run_lock import run_lock, write_run_record
from nst_ops.storage import Folder

BEAT_S = 0.05


@pytest.fixture(params=["local", "remote"])
def output(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Folder]:
    """An output in which a run has begun."""
    uri = str(tmp_path / "out") if request.param == "local" else f"memory://{uuid.uuid4().hex}/out"
    folder = Folder(uri)
    write_run_record(folder, "a", {}, {})
    yield folder
    with contextlib.suppress(FileNotFoundError):
        fsspec.filesystem("memory").rm(folder.root, recursive=True)


def commit(output: Folder, part: str, status: str, message: str, count: int = 1) -> None:
    rows = [
        {
            **dict.fromkeys(SCHEMA.names),
            "item_id": f"{part}{number}",
            "source_uri": f"in/{part}{number}.jpg",
            "style": "starry",
            "status": status,
            "error_type": "UnreadableImageError" if message else None,
            "error_message": message or None,
        }
        for number in range(count)
    ]
    Manifest(output).commit(part, rows)


def record(output: Folder, **known: object) -> None:
    progress = Progress(run_id="a", host="node", every_s=BEAT_S, **known)
    output.write_bytes(PROGRESS_FILE, progress.model_dump_json().encode())


def told(capsys: pytest.CaptureFixture[str], output: Folder, *options: str) -> str:
    assert main([output.uri(), *options]) == 0
    return " ".join(capsys.readouterr().out.replace("│", " ").split())


def test_of_a_running_run_the_rate_the_rest_and_the_last_sign_of_life(output, capsys):
    planned = Planned(num_rows=1000, num_done_before=500, num_workers=2, num_gpus=2)
    with run_lock(output, "a", BEAT_S) as heartbeat, heartbeat.work(planned, lambda: Totals(num_rows=250)):
        time.sleep(3 * BEAT_S)
        text = told(capsys, output)
    assert "running, last sign of life 0 s ago" in text
    assert "250 of 1,000, 25.0% (500 more by earlier runs)" in text
    assert "2, 2 GPUs in the cluster, networks busy 0% of the time" in text
    assert " left" in text


def test_of_a_finished_run_what_came_out_and_what_went_wrong_most(output, capsys):
    commit(output, "bad", "failed", "cut off", 3)
    commit(output, "odd", "crashed", "killed its worker")
    commit(output, "good", "ok", "", 5)
    output.write_bytes("report/index.html", b"")
    record(
        output,
        state="finished",
        planned=Planned(num_rows=9, num_workers=1),
        done=Totals(90, 9, 0, 4, 45),
        statuses={"ok": 5, "failed": 3, "crashed": 1},
    )
    text = told(capsys, output)
    assert "finished" in text
    assert "5 ok, 3 failed, 1 crashed, 0 skipped" in text
    assert "0.1 rows/s overall" in text
    assert "networks busy 50%" in text
    assert "UnreadableImageError cut off in/bad0.jpg" in text
    assert text.index("cut off") < text.index("killed its worker")
    assert output.uri("report/index.html") in text.replace(" ", "")  # long ones are folded


@pytest.mark.parametrize(
    ("state", "shown"), [("stopped", "stopped; run"), ("failed", "failed: disk full; run")]
)
def test_how_to_go_on_with_a_run_that_did_not_finish(output, capsys, state, shown):
    record(output, state=state, reason="disk full" if state == "failed" else "")
    assert f"{shown} the same command again to go on" in told(capsys, output)


def test_a_driver_that_gives_no_sign_of_life_may_be_dead(output, capsys):
    record(output, planned=Planned(num_rows=9))
    if output.is_local:
        five_minutes_ago = time.time() - 300
        os.utime(output.path(PROGRESS_FILE), (five_minutes_ago, five_minutes_ago))
    text = told(capsys, output)
    silence = "no sign of life for 5 min:" if output.is_local else "no sign of life for 0 s, all the time"
    assert silence in text
    assert "the driver may be dead; run the same command again" in text


def test_an_output_without_a_record_is_counted_from_its_manifest(output, capsys):
    commit(output, "bad", "failed", "cut off", 2)
    commit(output, "good", "ok", "", 5)
    text = told(capsys, output)
    assert "5 ok, 2 failed" in text
    assert "cut off" in text


def test_a_program_gets_the_same_as_json(output, capsys):
    commit(output, "bad", "failed", "cut off", 2)
    record(output, state="finished", done=Totals(10, 2, 0, 2), statuses={"failed": 2})
    assert main([output.uri(), "--json"]) == 0
    shown = json.loads(capsys.readouterr().out)
    assert (shown["state"], shown["counts"], shown["silent_s"]) == ("finished", {"failed": 2}, None)
    assert shown["errors"][0]["num_rows"] == 2
    assert shown["progress"]["overall"][0] == 0.2


def test_watching_ends_with_the_run(output, capsys):
    def run() -> None:
        with run_lock(output, "a", BEAT_S):
            begun.set()
            time.sleep(5 * BEAT_S)

    begun = threading.Event()
    thread = threading.Thread(target=run)
    thread.start()
    assert begun.wait(10)
    assert "finished" in told(capsys, output, "--watch")
    thread.join()


def test_where_there_is_no_run(tmp_path, capsys):
    assert main([str(tmp_path)]) == 2
    assert "no run in" in capsys.readouterr().err
    assert main(["nosuch://bucket/out"]) == 2


def test_it_starts_without_the_heavy_libraries():
    look = "import sys, nst_ops.cli.status; print({'ray', 'torch', 'cv2', 'av'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", look], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
