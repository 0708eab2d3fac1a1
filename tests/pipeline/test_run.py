"""The real job, from the command line to the exit code."""

import json
import os
import pickle
import shutil
import subprocess
import sys
import tarfile
import tempfile
from pathlib import Path

import pytest
import torch
from job_runner import ROOT, check_invariants, read_manifest, run_job, write_image
from media_factory import Sound, moving_frames, write_video

from nst_ops.collection.integrity import verify
from nst_ops.collection.run_lock import machine_lock
from nst_ops.config import ConfigError, StylizeConfig, parse_config
from nst_ops.pipeline.run import stylize_collection
from nst_ops.storage import Folder


def fill(source: Path) -> None:
    write_image(source / "a.png")
    write_image(source / "deep" / "b.jpg", 64, 64, seed=1)
    write_video(source / "video with sound.mp4", moving_frames(10, 64, 48), sounds=[Sound()])


def config_of(source: Path, output: Path, **sections: object) -> StylizeConfig:
    sections = {"model": {"kind": "identity"}, "executor": "local", **sections}
    return StylizeConfig(input=str(source), output=str(output), **sections)


def test_the_shipped_style_paints_and_overwrite_replaces_it(tmp_path: Path) -> None:
    source, output = tmp_path / "in", tmp_path / "out"
    write_image(source / "a.png", 64, 48)

    def run(*arguments: str) -> int:
        paths = ("--input", str(source), "--output", str(output), "--executor", "local")
        return stylize_collection(parse_config(StylizeConfig, [*paths, *arguments])).exit_code

    demo = ("--config", str(ROOT / "configs" / "demo.yaml"))
    assert run(*demo, "--model.device", "cpu") == 0
    stylized = check_invariants(output)["a.png"]
    assert stylized["style"] == "starry_night"
    assert stylized["model_sha256"]
    precision = stylized["precision"]
    assert (stylized["device"], precision in {"fp32", "bf16"}) == ("cpu", True)
    (device,) = json.loads((output / "run.json").read_text())["devices"]
    assert device == {"device": "cpu", "precision": precision, "num_rows": 1}
    assert (output / "a.png").read_bytes() != (source / "a.png").read_bytes()
    assert run(*demo, "--model.kind", "identity", "--overwrite") == 0
    assert json.loads((output / "run.json").read_text())["devices"] == []
    assert check_invariants(output)["a.png"]["style"] == "identity"
    (source / "a.png").write_bytes(b"damaged since")
    assert run("--model.kind", "identity") == 3
    assert check_invariants(output)["a.png"]["status"] == "failed"
    assert not (output / "a.png").exists()  # what a failed row once had is gone


def test_a_dry_run_counts_and_writes_nothing(tmp_path: Path) -> None:
    source, output = tmp_path / "in", tmp_path / "out"
    fill(source)
    write_image(source / "c.bmp")
    write_image(source / "x.png")
    (source / "x.png").rename(source / "x.gif")
    write_image(source / "x.gif.png")
    done = stylize_collection(config_of(source, output, dry_run=True))
    assert done.exit_code == 0
    assert "~10 frames" in done.table()
    assert "x.gif: its output x.gif.png belongs to another input" in done.table()
    assert "estimated output" in done.table()
    assert not output.exists()


def test_an_empty_folder_is_refused(tmp_path: Path) -> None:
    (tmp_path / "in").mkdir()
    with pytest.raises(ConfigError, match="holds no files"):
        stylize_collection(config_of(tmp_path / "in", tmp_path / "out"))


def test_an_input_that_does_not_exist_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="does not exist"):
        stylize_collection(config_of(tmp_path / "in", tmp_path / "out"))


@pytest.mark.parametrize("output", ["in", "in/out", "."])
def test_input_and_output_in_one_another_are_refused(tmp_path: Path, output: str) -> None:
    write_image(tmp_path / "in" / "a.png")
    with pytest.raises(ConfigError, match="lie in one another"):
        stylize_collection(config_of(tmp_path / "in", tmp_path / output))


def test_a_file_is_not_stylized_over_itself(tmp_path: Path) -> None:
    write_image(tmp_path / "in" / "a.png")
    with pytest.raises(ConfigError, match="lie in one another"):
        stylize_collection(config_of(tmp_path / "in" / "a.png", tmp_path / "in"))


def test_columns_of_a_list_travel_into_shards(tmp_path: Path) -> None:
    for name in ("a.png", "b.png", "unlisted.png"):
        write_image(tmp_path / "images" / name)
    rows = ("file_name,label", "images/a.png,3", "images/b.png,4", "images/none.png,5")
    (tmp_path / "list.csv").write_text("\n".join(rows))
    config = config_of(tmp_path / "list.csv", tmp_path / "out", shards={"format": "webdataset"})
    summary = stylize_collection(config)
    assert summary.counts == {"ok": 2, "failed": 1}
    (shard,) = (tmp_path / "out").glob("*.tar")
    with tarfile.open(shard) as members:
        opened = {name: members.extractfile(name) for name in members.getnames() if name.endswith("cls")}
        labels = {name: file.read() for name, file in opened.items() if file}
    assert labels == {"images/a.cls": b"3", "images/b.cls": b"4"}
    assert verify(Folder(str(tmp_path / "out"))).is_whole


def test_an_output_with_files_of_somebody_else_is_refused(tmp_path: Path) -> None:
    write_image(tmp_path / "in" / "a.png")
    write_image(tmp_path / "out" / "a.png", seed=1)
    before = (tmp_path / "out" / "a.png").read_bytes()
    with pytest.raises(ConfigError, match=r"holds files, but no run\.json"):
        stylize_collection(config_of(tmp_path / "in", tmp_path / "out"))
    assert (tmp_path / "out" / "a.png").read_bytes() == before


def test_an_output_that_is_a_file_is_refused(tmp_path: Path) -> None:
    write_image(tmp_path / "in" / "a.png")
    (tmp_path / "out").write_text("mine")
    with pytest.raises(ConfigError, match="is a file"):
        stylize_collection(config_of(tmp_path / "in", tmp_path / "out"))


def test_an_output_below_a_file_is_refused(tmp_path: Path) -> None:
    write_image(tmp_path / "in" / "a.png")
    (tmp_path / "file").write_text("mine")
    with pytest.raises(ConfigError, match="cannot write to output"):
        stylize_collection(config_of(tmp_path / "in", tmp_path / "file" / "out"))


class _Code:
    def __reduce__(self) -> tuple[object, tuple[str]]:
        return os.system, ("touch code_was_run",)


def test_a_checkpoint_with_code_is_refused_and_the_code_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    write_image(tmp_path / "in" / "a.png")
    for name, write in (
        ("plain.pth", lambda file: file.write_bytes(pickle.dumps({"w": _Code()}))),
        ("torch.pth", lambda file: torch.save({"w": _Code()}, file)),
    ):
        write(tmp_path / name)
        model = {"kind": "johnson", "checkpoint": str(tmp_path / name)}
        with pytest.raises(ConfigError, match="refused"):
            stylize_collection(config_of(tmp_path / "in", tmp_path / "out", model=model))
    assert not (tmp_path / "code_was_run").exists()
    assert not (tmp_path / "out").exists()


def test_a_second_run_into_the_same_output_is_refused(tmp_path: Path) -> None:
    write_image(tmp_path / "in" / "a.png")
    with machine_lock(Folder(str(tmp_path / "out"))):
        refused = run_job(tmp_path / "in", tmp_path / "out", "--model.kind", "identity")
    assert refused.returncode == 2
    assert "another run is writing" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert read_manifest(tmp_path / "out") == []


@pytest.mark.skipif(os.name != "posix" or os.getuid() != 0, reason="needs root, to become someone without rights")
def test_an_input_without_permission_is_one_line_its_folders_are_rows() -> None:
    # Not in the folder of pytest, which nobody else may enter.
    source = Path(tempfile.mkdtemp())
    locked = source / "locked"
    write_image(source / "a.png")
    write_image(locked / "b.png")
    (source / "empty").mkdir()
    source.chmod(0o755)
    locked.chmod(0o000)
    code = (
        "import contextlib, os, sys, types; from nst_ops.pipeline import run\n"
        "try: import pandas\nexcept ImportError: pass\n"
        # As someone who may not even read Python's modules, no worker could start.
        "executor = types.SimpleNamespace(load_model=lambda *arguments: None)\n"
        "run.new_executor = lambda config: contextlib.nullcontext(executor)\n"
        "run.preflight = lambda plan, *rest: '\\n'.join(r.item['relpath'] + ': ' + r.message"
        " for some in plan.refusals() for r in some)\n"
        "from nst_ops.config import ConfigError, StylizeConfig\nmodel = {'kind': 'identity'}\n"
        "config = StylizeConfig(input=sys.argv[1], output='/nowhere', executor='local', model=model, dry_run=True)\n"
        "os.setuid(65534)\n"
        "try: print(run.stylize_collection(config).table())\n"
        "except ConfigError as error: print(error); sys.exit(2)"
    )

    def run(folder: Path) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", code, str(folder)]
        return subprocess.run(command, capture_output=True, text=True, check=False, timeout=120)

    try:
        inside, itself = run(source), run(locked)
    finally:
        shutil.rmtree(source)
    assert inside.returncode == 0, inside.stderr
    assert "locked/: the folder 'locked' cannot be listed (Permission denied): allow it (chmod u+rx)" in inside.stdout
    assert inside.stdout.count(": ") == 2, "nothing else is refused"
    assert itself.returncode == 2, itself.stderr
    assert f"cannot list '{locked}'" in itself.stdout
