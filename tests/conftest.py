"""Settings of the whole suite, and the two servers that tests share because they take long to start."""

import os
import signal
import sys
from collections.abc import Iterator

# A shell that puts the tests behind it has them, and with them every job that they start, ignore Ctrl-C.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Two test processes side by side would start a thread for each core each, and their children as many again.
if "PYTEST_XDIST_WORKER" in os.environ:
    os.environ.setdefault("OMP_NUM_THREADS", "1")

import pytest
from hypothesis import HealthCheck, settings
from job_runner import ENVIRONMENT
from s3_server import VENV, S3Server, running_s3_server

FAST_S, SLOW_S = 120, 900
"""Seconds that a test may take, its fixtures included, before it fails with the stack of every thread."""

# `make test` must not fail by chance, `make test-slow` is there to find what nobody thought of.
_UNTIMED = {"deadline": None, "suppress_health_check": [HealthCheck.too_slow]}
settings.register_profile("fast", derandomize=True, max_examples=25, **_UNTIMED)
settings.register_profile("thorough", max_examples=500, **_UNTIMED)
settings.load_profile("fast")  # --hypothesis-profile thorough overrides it


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Mark what uses a server, give every test its time limit and the group that shares a process."""
    thorough = config.getoption("--hypothesis-profile") == "thorough"
    for item in items:
        parameters = item.callspec.params if hasattr(item, "callspec") else {}
        fixtures = set(getattr(item, "fixturenames", ())) - set(parameters)
        for marker, fixture in (("ray", "cluster"), ("s3", "s3")):
            if fixture in fixtures and not item.get_closest_marker(marker):
                item.add_marker(marker)
        if not item.get_closest_marker("timeout"):
            is_long = item.get_closest_marker("slow") or thorough
            item.add_marker(pytest.mark.timeout(SLOW_S if is_long else FAST_S))
        # One Ray and one S3 server in all; other files stay together for the sake of their module's fixtures.
        servers = [name for name in ("ray", "s3") if item.get_closest_marker(name)]
        item.add_marker(pytest.mark.xdist_group(servers[0] if servers else str(item.path)))


@pytest.fixture(autouse=True)
def _same_random_numbers() -> None:
    """Draw the same in a test whatever ran before it in its process."""
    if torch := sys.modules.get("torch"):
        torch.manual_seed(0)


@pytest.fixture(scope="session")
def cluster() -> Iterator[str]:
    """A Ray of two CPUs, which runs of this process find by themselves, and jobs at this address."""
    import ray  # seconds, which most tests need not wait for

    # Not the mode: Ray has read that when it was imported, and turns tokens on for a cluster of its own.
    os.environ.update({key: value for key, value in ENVIRONMENT.items() if key != "RAY_AUTH_MODE"})
    ray.init(address="local", num_cpus=2, include_dashboard=False, log_to_driver=False)
    yield ray.get_runtime_context().gcs_address
    ray.shutdown()


@pytest.fixture(scope="session")
def s3() -> Iterator[S3Server]:
    """An S3 server on loopback."""
    if not (VENV / "bin/swift-proxy-server").exists():
        pytest.skip("no S3 server is installed: make .venv-s3/.ready")
    with running_s3_server() as server:
        yield server
