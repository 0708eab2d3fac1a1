"""The commands of cluster/README.md on a Ray started as it says: submit, watch, stop, resume."""

import contextlib
import random
import re
import shlex
import socket
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from job_runner import ENVIRONMENT, ROOT, check_invariants, read_manifest, write_image

NUM_IMAGES = 60
BIN = Path(sys.executable).parent
PAGE = (ROOT / "cluster/README.md").read_text().replace("\\\n", " ")
HOOK = re.search(r"^export (RAY_JOB_SUBMIT_HOOK)=(\S+)", PAGE, re.MULTILINE)


@pytest.fixture
def head() -> Iterator[dict[str, str]]:
    """Start a head on ports and in a folder of its own; yield the environment that leads commands to it."""
    assert HOOK is not None
    ports = free_ports(4)
    url = f"http://127.0.0.1:{ports[1]}"
    environment = {
        **ENVIRONMENT,
        "PATH": f"{BIN}:{ENVIRONMENT['PATH']}",
        "RAY_JOB_STOP_WAIT_TIME_S": "120",
        "RAY_raylet_start_wait_time_s": "120",  # on a loaded machine
        "RAY_API_SERVER_ADDRESS": url,
        HOOK[1]: HOOK[2],
    }
    names = ("port", "dashboard-port", "ray-client-server-port", "dashboard-agent-listen-port")
    with tempfile.TemporaryDirectory(prefix="ray-") as folder:  # short: sockets lie in it
        command = [str(BIN / "ray"), "start", "--head", "--block", "--disable-usage-stats", "--num-cpus=2"]
        command += [f"--temp-dir={folder}", *(f"--{name}={port}" for name, port in zip(names, ports, strict=True))]
        log = Path(folder, "head.log")
        with log.open("w") as file, subprocess.Popen(command, env=environment, stdout=file) as process:
            try:
                wait_for(lambda: "Ray runtime started" in log.read_text() or process.poll() is not None)
                assert process.poll() is None, "the head did not start"
                wait_for(lambda: answers(url))
                yield environment
            finally:
                process.terminate()


@pytest.mark.slow
@pytest.mark.ray
def test_a_submitted_job_stops_cleanly_and_resumes(head: dict[str, str], tmp_path: Path) -> None:
    source, output = tmp_path / "in", tmp_path / "out"
    for index in range(NUM_IMAGES):
        write_image(source / f"{index}.png", 320, 240, seed=index)

    def ray_job(verb: str, name: str, *more: str) -> str:
        """Run the page's command about ``name`` and return what it prints."""
        line = re.search(rf"^ray job {verb} .*?(?=\s+#|$)", PAGE, re.MULTILINE)
        assert line is not None
        text = line[0].replace("s3://BUCKET/photos", str(source)).replace("s3://BUCKET/stylized", str(output))
        command = [name if word == "photos" else word for word in shlex.split(text)]
        done = subprocess.run(
            [*command, *more], cwd=ROOT, env=head, capture_output=True, text=True, timeout=600, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout + done.stderr

    ray_job("submit", "first", "--units.images", "2")
    wait_for(lambda: bool(read_manifest(output)))
    ray_job("stop", "first")
    assert "Job 'first' was stopped" in ray_job("status", "first")
    log = ray_job("logs", "first")
    assert "joined the Ray cluster" in log
    assert "stopped: run the same command again to go on" in log
    seen = check_invariants(output)
    assert 0 < len(seen) < NUM_IMAGES, "the stop came too late to show anything"

    ray_job("submit", "second", "--units.images", "2")
    log = ray_job("logs", "second")
    assert f"{NUM_IMAGES} files in {source}, {len(seen)} done before" in log
    assert "progress: files " in log
    assert "Job 'second' succeeded" in ray_job("status", "second")
    rows = check_invariants(output)
    assert len(rows) == NUM_IMAGES
    assert all(row["status"] == "ok" for row in rows.values())
    assert seen.items() <= rows.items(), "finished units were done again"


def answers(url: str) -> bool:
    """Return whether the job server is up, and check that it refuses requests without the token."""
    try:
        urllib.request.urlopen(f"{url}/api/version", timeout=5)
    except urllib.error.HTTPError as error:
        return error.code == 401
    except OSError:
        return False
    raise AssertionError("the head answers without a token")


def free_ports(count: int) -> list[int]:
    """Pick ports outside the ranges of Ray's workers and of outgoing connections, which could take them."""
    ports: list[int] = []
    while len(ports) < count:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as candidate, contextlib.suppress(OSError):
            candidate.bind(("", port))
            ports.append(port)
    return ports


def wait_for(condition, timeout_s: float = 600) -> None:
    deadline = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < deadline, "it took too long"
        time.sleep(0.1)
