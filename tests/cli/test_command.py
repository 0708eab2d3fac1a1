"""The command ``nst-ops``: subcommands, exit codes, errors in one line, and a quick start."""

import importlib.metadata
import os
import signal
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import pytest

import nst_ops
from nst_ops import cli
from nst_ops.config import ConfigError, FatalError
from nst_ops.config.storage import StorageConfig
from nst_ops.storage import StorageFullError

ROOT = Path(__file__).parents[2]
HEAVY = {"torch", "ray", "av", "cv2", "pandas"}


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    """The command in a process of its own."""
    command = [sys.executable, "-m", "nst_ops", *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)


@pytest.mark.parametrize("arguments", [["--help"], ["-h"], ["help"], []])
def test_help_names_every_command_with_an_example(capsys, arguments):
    assert cli.main(arguments) == 0
    text = capsys.readouterr().out
    for name, command in cli.COMMANDS.items():
        assert f"  {name} " in text
        assert command.summary in text
    assert "nst-ops stylize --input photos --output out/photos" in text


def test_version_is_that_of_the_package(capsys):
    assert cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"nst-ops {importlib.metadata.version('nst-ops')}\n"


@pytest.mark.parametrize(
    ("name", "hint"),
    [
        ("stilize", "did you mean stylize?"),
        ("train", "did you mean train-johnson or train-vit-adain or train-multi-style?"),
        ("zzz", "there are stylize, train-johnson, "),
    ],
)
def test_an_unknown_command_gets_a_suggestion(capsys, name, hint):
    assert cli.main([name]) == 2
    assert f"error: unknown command '{name}', {hint}" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("error", "exit_code", "message"),
    [
        (ConfigError("no such input"), 2, "error: no such input\n"),
        (FatalError("disk full"), 1, "fatal: disk full\n"),
        (StorageFullError("no space left"), 1, "fatal: no space left\n"),
        (KeyboardInterrupt(), 1, "stopped: run the same command again to go on\n"),
    ],
)
def test_an_error_is_one_line_and_an_exit_code(monkeypatch, capsys, error, exit_code, message):
    def fail(config: object) -> int:
        raise error

    monkeypatch.setattr("nst_ops.cli.verify.main", fail)
    assert cli.main(["verify", "out"]) == exit_code
    assert capsys.readouterr().err == message


@pytest.mark.parametrize("name", ["status", "verify"])
def test_status_and_verify_take_storage_options(monkeypatch, capsys, name):
    reached = []
    monkeypatch.setattr(f"nst_ops.cli.{name}.configure_storage", reached.append)
    options = ["--storage.endpoint_url", "http://127.0.0.1:9", "--storage.region", "here"]
    assert cli.main([name, "nosuch://bucket/out", *options]) == 2
    assert "cannot read 'nosuch://bucket/out': " in capsys.readouterr().err
    assert reached == [StorageConfig(endpoint_url="http://127.0.0.1:9", region="here")]


def test_a_bug_keeps_its_traceback(monkeypatch):
    monkeypatch.setattr("nst_ops.cli.verify.main", lambda config: 1 // 0)
    with pytest.raises(ZeroDivisionError):
        cli.main(["verify", "out"])


def test_sigterm_stops_as_ctrl_c_does(monkeypatch, capsys):
    def wait(config: object) -> int:
        os.kill(os.getpid(), signal.SIGTERM)
        time.sleep(10)
        return 0

    monkeypatch.setattr("nst_ops.cli.verify.main", wait)
    before = signal.getsignal(signal.SIGTERM)
    try:
        assert cli.main(["verify", "out"]) == 1
    finally:
        signal.signal(signal.SIGTERM, before)
    assert capsys.readouterr().err.startswith("stopped: ")


@pytest.mark.parametrize("name", cli.COMMANDS)
def test_help_and_errors_import_nothing_heavy(name):
    code = f"""
import sys
from nst_ops.cli import main
for arguments in (["--help"], ["--no-such-option"]):
    try:
        main(["{name}", *arguments])
    except SystemExit as ended:
        print(ended.code, file=sys.stderr)
print(sorted({HEAVY} & set(sys.modules)), file=sys.stderr)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert f"usage: nst-ops {name} " in done.stdout
    first, *_, second, heavy = done.stderr.splitlines()
    assert (first, second, heavy) == ("0", "2", "[]")


def test_the_package_imports_quickly_and_offers_two_names():
    code = f"import sys, nst_ops; print({HEAVY | {'pydantic'}} & set(sys.modules)); nst_ops.StylizeConfig"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
    assert set(nst_ops.__all__) == {"StylizeConfig", "stylize_collection", "__version__"}
    assert nst_ops.__version__ == importlib.metadata.version("nst-ops")
    with pytest.raises(AttributeError, match="no attribute 'nonsense'"):
        _ = nst_ops.nonsense
    assert (ROOT / "nst_ops/py.typed").exists()


def test_the_package_declares_the_command():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    assert project["scripts"] == {"nst-ops": "nst_ops.cli:main"}


@pytest.mark.parametrize("job", sorted((ROOT / "jobs").glob("*.py")), ids=lambda path: path.name)
def test_a_job_is_its_command_as_a_file(job):
    if job.name == "make_demo_collection.py":
        pytest.skip("it is no command")
    assert len(job.read_text().splitlines()) < 20
    for arguments, exit_code, where in ((["--help"], 0, "stdout"), (["--ouput", "x"], 2, "stderr")):
        done = subprocess.run(
            [sys.executable, job, *arguments], capture_output=True, text=True, check=False, timeout=60
        )
        assert done.returncode == exit_code
        assert "--output" in getattr(done, where)
        assert "Traceback" not in done.stderr


def test_a_reader_that_has_seen_enough_gets_no_traceback(tmp_path):
    (tmp_path / "run.json").write_text("{}")
    command = [sys.executable, "-u", "-m", "nst_ops", "status", str(tmp_path)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    assert "Traceback" not in process.stderr.read()
    assert process.wait(60) == 1


def test_the_module_is_the_command():
    done = run("verify", "nowhere")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: '")
