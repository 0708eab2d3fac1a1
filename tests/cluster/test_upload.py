"""A large upload of `ray job submit` is refused before it is packed, with the remedy."""

import os
import subprocess
import sys
from pathlib import Path

import pytest
from job_runner import ENVIRONMENT, ROOT

from nst_ops.config import ConfigError
from nst_ops.pipeline.executors.ray_upload import LIMIT_MB, check_submission, check_upload, files_to_upload

MB = 1_000_000
HOOK = {"RAY_JOB_SUBMIT_HOOK": "nst_ops.pipeline.executors.ray_upload.check_submission"}


def write(path: Path, size_mb: float) -> None:
    """Write a file of zeros, which takes no space."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.touch()
    os.truncate(path, int(size_mb * MB))


def submit(folder: Path | str, runtime_env_json: str | None = None) -> None:
    """Call the hook as Ray does, which hands over more than it needs."""
    check_submission(working_dir=str(folder), runtime_env=None, runtime_env_json=runtime_env_json, entrypoint=("true",))


def test_this_repository_uploads_only_code_and_checkpoints():
    files = files_to_upload(ROOT, [])
    relative = {path.relative_to(ROOT) for path in files}
    assert sum(path.stat().st_size for path in files) < 20 * MB
    assert {path.parts[0] for path in relative}.isdisjoint({"tests", "docs", "benchmarks", "out", ".git", ".venv"})
    needed = ["jobs/stylize_dataset.py", "configs/demo.yaml", "nst_ops/models/pretrained/styles.safetensors"]
    assert {Path(name) for name in needed} <= relative


def test_a_large_upload_is_refused_and_names_what_is_large(tmp_path):
    write(tmp_path / "videos/one.mp4", 40)
    write(tmp_path / "videos/two.mp4", 20)
    write(tmp_path / "jobs/job.py", 1)
    with pytest.raises(SystemExit) as caught:
        submit(tmp_path)
    message = str(caught.value)
    assert f"the upload is 61 MB, at most {LIMIT_MB} MB (videos 60 MB, jobs 1 MB)" in message
    assert ".rayignore" in message


@pytest.mark.parametrize("name", [".rayignore", ".gitignore"])
def test_files_that_ray_ignores_do_not_count(tmp_path, name):
    write(tmp_path / "videos/one.mp4", 60)
    write(tmp_path / "nested/data/one.bin", 60)
    (tmp_path / name).write_text("videos/\n")
    (tmp_path / "nested" / name).write_text("data/\n")
    submit(tmp_path)


def test_excludes_of_the_runtime_environment_do_not_count(tmp_path):
    write(tmp_path / "videos/one.mp4", 60)
    submit(tmp_path, '{"excludes": ["videos"]}')
    with pytest.raises(SystemExit):
        submit(tmp_path, '{"excludes": ["movies"]}')


@pytest.mark.parametrize("folder", ["s3://bucket/code.zip", "gcs://_ray_pkg_0.zip"])
def test_a_working_dir_elsewhere_is_not_measured(folder):
    submit(folder)
    check_submission(working_dir=None, runtime_env=None, runtime_env_json=None)


def test_the_job_refuses_an_upload_that_passed_no_hook(tmp_path, monkeypatch):
    package = tmp_path / "_ray_pkg_0123456789abcdef"
    write(package / "videos/one.mp4", 60)
    monkeypatch.chdir(tmp_path)
    check_upload()  # no upload: started by hand, beside its data
    monkeypatch.chdir(package)
    with pytest.raises(ConfigError, match="videos 60 MB"):
        check_upload()


@pytest.mark.slow
def test_ray_job_submit_calls_the_hook_before_connecting(tmp_path):
    write(tmp_path / "videos/one.mp4", 60)
    ray = str(Path(sys.executable).with_name("ray"))
    command = [ray, "job", "submit", "--address", "http://127.0.0.1:1", "--working-dir", str(tmp_path)]
    env = {**ENVIRONMENT, **HOOK}
    done = subprocess.run([*command, "--", "true"], capture_output=True, text=True, check=False, env=env)
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1].startswith("error: the upload is 60 MB")
