import os
import socket
import subprocess
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psutil
import pytest

from nst_ops.config import ConfigError, FatalError
from nst_ops.ray_cluster import cluster_at_hand, connected


@pytest.fixture(autouse=True)
def nothing_else(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """No cluster but the one of the test, whatever else runs on this machine."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setenv("RAY_TMPDIR", str(tmp_path))
    monkeypatch.setitem(sys.modules, "ray", types.SimpleNamespace(is_initialized=lambda: False))
    monkeypatch.setattr(psutil, "process_iter", lambda attributes: iter(()))


@pytest.fixture
def head() -> Iterator[str]:
    """The address of a process that accepts connections."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"127.0.0.1:{server.getsockname()[1]}"


def remember(address: str) -> None:
    file = Path(os.environ["RAY_TMPDIR"], "ray/ray_current_cluster")
    file.parent.mkdir()
    file.write_text(f"{address}\n")


def test_no_cluster_is_at_hand_on_a_plain_machine() -> None:
    assert not cluster_at_hand("auto")
    assert not cluster_at_hand("local")


def test_an_address_or_ray_address_is_a_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    assert cluster_at_hand("10.0.0.1:6379")
    monkeypatch.setenv("RAY_ADDRESS", "10.0.0.1:6379")
    assert cluster_at_hand("auto")
    assert not cluster_at_hand("local")
    monkeypatch.setenv("RAY_ADDRESS", "local")
    assert not cluster_at_hand("auto")


def test_a_connected_ray_is_a_cluster(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", types.SimpleNamespace(is_initialized=lambda: True))
    assert cluster_at_hand("auto")


def test_a_running_head_is_a_cluster_and_a_dead_one_is_not(head: str) -> None:
    remember(head)
    assert cluster_at_hand("auto")
    with socket.create_server(("127.0.0.1", 0)) as server:
        closed = f"127.0.0.1:{server.getsockname()[1]}"
    Path(os.environ["RAY_TMPDIR"], "ray/ray_current_cluster").write_text(closed)
    assert not cluster_at_hand("auto")


@pytest.mark.parametrize(
    ("parent", "counts"),
    [
        (["/sbin/init"], True),
        (["/usr/bin/python3", "/usr/bin/ray", "start", "--head", "--block"], True),
        (["/usr/bin/python3", "jobs/train_johnson.py"], False),
    ],
)
def test_a_node_counts_unless_a_program_started_it_for_itself(
    head: str, parent: list[str], counts: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    command = ["/x/raylet/raylet", f"--gcs-address={head}", f"--agent=python --gcs-address={head}"]
    started_by = types.SimpleNamespace(cmdline=lambda: parent)
    raylet = types.SimpleNamespace(info={"cmdline": command}, parent=lambda: started_by)
    monkeypatch.setattr(psutil, "process_iter", lambda attributes: iter([raylet]))
    assert cluster_at_hand("auto") is counts


def test_ray_is_not_imported_to_look_for_a_cluster() -> None:
    script = (
        "import sys; from nst_ops.ray_cluster import cluster_at_hand; cluster_at_hand('auto'); "
        "sys.exit('ray' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", script], check=True, timeout=60)


def fake_ray(monkeypatch: pytest.MonkeyPatch, outcomes: list[Exception | None]) -> list[dict[str, Any]]:
    """A Ray whose starts end as ``outcomes`` say; returns the arguments of each."""
    calls: list[dict[str, Any]] = []

    def init(**options: Any) -> None:
        calls.append(options)
        if outcome := outcomes[len(calls) - 1]:
            raise outcome

    context = types.SimpleNamespace(gcs_address="there")
    ray = types.SimpleNamespace(
        is_initialized=lambda: False, init=init, shutdown=lambda: None, get_runtime_context=lambda: context
    )
    monkeypatch.setitem(sys.modules, "ray", ray)
    return calls


def test_a_ray_that_does_not_start_is_tried_once_more(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = fake_ray(monkeypatch, [ConnectionError("node did not start in time"), None])
    with connected("auto") as started_here:
        assert started_here
    assert [call["address"] for call in calls] == ["local", "local"]


@pytest.mark.parametrize("error", [ConnectionError("busy"), RuntimeError("busy"), TimeoutError("busy")])
def test_a_ray_that_never_starts_is_one_line_with_a_remedy(error: Exception, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = fake_ray(monkeypatch, [error, error])
    with pytest.raises(FatalError, match=r"does not start .*busy.*--executor local"), connected("local"):
        pass
    assert len(calls) == 2


def test_auto_joins_the_cluster_that_was_found(head: str, monkeypatch: pytest.MonkeyPatch) -> None:
    calls = fake_ray(monkeypatch, [None])
    remember(head)
    with connected("auto") as started_here:
        assert not started_here
    assert [call["address"] for call in calls] == [head]


def test_an_address_without_a_ray_is_refused_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    calls = fake_ray(monkeypatch, [])
    with pytest.raises(ConfigError, match=r"no Ray at '127.0.0.1:1'.*ray_address"), connected("127.0.0.1:1"):
        pass
    assert not calls
