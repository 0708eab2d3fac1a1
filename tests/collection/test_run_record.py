"""An output belongs to one run, and says which."""

import json
from pathlib import Path

import pytest

from nst_ops.collection.run_lock import OutputInUseError, machine_lock, refuse_other_run, write_run_record
from nst_ops.storage import Folder


@pytest.fixture
def output(tmp_path: Path) -> Folder:
    return Folder(str(tmp_path / "output"))


def put(output: Folder, relpath: str, content: bytes = b"x") -> None:
    with output.atomic_write(relpath) as temporary:
        temporary.write_bytes(content)


def test_another_run_is_refused_by_its_difference(output):
    write_run_record(output, "1", {"key": "value"}, {"model": "a", "crf": 18})
    put(output, "a.jpg")
    refuse_other_run(output, {"model": "a", "crf": 18})
    with pytest.raises(OutputInUseError, match=r"crf was 18, is now 20; model was 'a', is now 'b'.*--overwrite"):
        refuse_other_run(output, {"model": "b", "crf": 20})
    with pytest.raises(OutputInUseError, match="extra was None, is now 1"):
        refuse_other_run(output, {"model": "a", "crf": 18, "extra": 1})
    record = json.loads(output.read_bytes("run.json"))
    assert (record["run_id"], record["config"]) == ("1", {"key": "value"})
    assert record["versions"]["torch"]


def test_a_new_output_is_accepted(output):
    refuse_other_run(output, {"model": "a"})


@pytest.mark.parametrize("name", ["holiday.jpg", "manifest/a.parquet"])
def test_a_folder_of_somebody_else_is_refused(output, name):
    put(output, name)
    with pytest.raises(OutputInUseError, match=r"no run\.json"):
        refuse_other_run(output, {"model": "a"})


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b"{}", b"null", b"\xff\xfe", b'{"fingerprint": 3}'])
def test_a_run_file_of_somebody_else_is_refused(output, content):
    put(output, "run.json", content)
    with pytest.raises(OutputInUseError, match="not a run record"):
        refuse_other_run(output, {"model": "a"})


def test_two_runs_do_not_write_into_one_output(output):
    with machine_lock(output), pytest.raises(OutputInUseError, match="another run is writing"), machine_lock(output):
        pass
    with machine_lock(output):
        pass
