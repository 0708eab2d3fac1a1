"""One Ray and one S3 server for all tests: they take long to start."""

import os
from collections.abc import Iterator

import pytest
import ray
from job_runner import ENVIRONMENT
from s3_server import VENV, S3Server, running_s3_server


@pytest.fixture(scope="session")
def cluster() -> Iterator[str]:
    """A Ray of two CPUs, which runs of this process find by themselves, and jobs at this address."""
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
