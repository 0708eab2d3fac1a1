"""Status of a run as its output alone shows it."""

import contextlib
import json
import os
import re
import threading
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest

from nst_ops.cli import main
from nst_ops.collection.constants import PROGRESS_FILE
from nst_ops.collection.manifest import SCHEMA, Manifest
from nst_ops.collection.progress import Planned, Progress, Totals
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


def write_record(output: Folder, **known: object) -> None:
    progress = Progress(run_id="a", host="node", every_s=BEAT_S, **known)
    output.write_bytes(PROGRESS_FILE, progress.model_dump_json().encode())


def shown(capsys: pytest.CaptureFixture[str], output: Folder, *options: str) -> str:
    assert main(["status", output.uri(), *options]) == 0
    return " ".join(capsys.readouterr().out.replace("│", " ").split())


def test_a_running_run_shows_rate_time_left_and_heartbeat(output, capsys):
    planned = Planned(num_rows=1000, num_done_before=500, num_workers=2, num_gpus=2)
    every_s = 10 * BEAT_S  # that a loaded machine still keeps up with
    with run_lock(output, "a", every_s) as heartbeat, heartbeat.work(planned, lambda: Totals(num_rows=250)):
        time.sleep(1.2 * every_s)
        text = shown(capsys, output)
    assert re.search("running, last heartbeat [01] s ago", text)
    assert "250 of 1,000, 25.0% (500 more by earlier runs)" in text
    assert "2, 2 GPUs in the cluster, networks busy 0% of the time" in text
    assert " left" in text


def test_a_finished_run_shows_counts_and_top_errors(output, capsys):
    commit(output, "bad", "failed", "cut off", 3)
    commit(output, "odd", "crashed", "killed its worker")
    commit(output, "good", "ok", "", 5)
    output.write_bytes("report/index.html", b"")
    write_record(
        output,
        state="finished",
        planned=Planned(num_rows=9, num_workers=1),
        done=Totals(90, 9, 0, 4, 45),
        statuses={"ok": 5, "failed": 3, "crashed": 1},
    )
    text = shown(capsys, output)
    assert "finished" in text
    assert "5 ok, 3 failed, 1 crashed, 0 skipped" in text
    assert "0.1 rows/s overall" in text
    assert "networks busy 50%" in text
    assert "UnreadableImageError cut off in/bad0.jpg" in text
    assert text.index("cut off") < text.index("killed its worker")
    assert output.uri("report/index.html") in text.replace(" ", "")  # long ones are folded


@pytest.mark.parametrize(("state", "text"), [("stopped", "stopped; run"), ("failed", "failed: disk full; run")])
def test_an_unfinished_run_says_how_to_go_on(output, capsys, state, text):
    write_record(output, state=state, reason="disk full" if state == "failed" else "")
    assert f"{text} the same command again to go on" in shown(capsys, output)


def test_a_driver_without_a_heartbeat_may_be_dead(output, capsys):
    write_record(output, planned=Planned(num_rows=9))
    if output.is_local:
        five_minutes_ago = time.time() - 300
        os.utime(output.path(PROGRESS_FILE), (five_minutes_ago, five_minutes_ago))
    text = shown(capsys, output)
    silence = "no heartbeat for 5 min:" if output.is_local else "no heartbeat for 0 s, all the time"
    assert silence in text
    assert "the driver may be dead; run the same command again" in text


def test_without_a_record_the_manifest_is_counted(output, capsys):
    commit(output, "bad", "failed", "cut off", 2)
    commit(output, "good", "ok", "", 5)
    text = shown(capsys, output)
    assert "5 ok, 2 failed" in text
    assert "cut off" in text


def test_json_holds_the_same_as_the_table(output, capsys):
    commit(output, "bad", "failed", "cut off", 2)
    write_record(output, state="finished", done=Totals(10, 2, 0, 2), statuses={"failed": 2})
    assert main(["status", output.uri(), "--json"]) == 0
    record = json.loads(capsys.readouterr().out)
    assert (record["state"], record["counts"], record["silent_s"]) == ("finished", {"failed": 2}, None)
    assert record["errors"][0]["num_rows"] == 2
    assert record["progress"]["overall"][0] == 0.2


def test_watching_ends_with_the_run(output, capsys, monkeypatch):
    monkeypatch.setattr("nst_ops.cli.status._EVERY_S", BEAT_S)

    def run() -> None:
        with run_lock(output, "a", BEAT_S):
            begun.set()
            time.sleep(5 * BEAT_S)

    begun = threading.Event()
    thread = threading.Thread(target=run)
    thread.start()
    assert begun.wait(10)
    assert "finished" in shown(capsys, output, "--watch")
    thread.join()


def test_a_folder_without_a_run_is_refused(tmp_path, capsys):
    assert main(["status", str(tmp_path)]) == 2
    assert "no run in" in capsys.readouterr().err
    assert main(["status", "nosuch://bucket/out"]) == 2
