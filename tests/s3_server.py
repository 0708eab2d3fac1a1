"""A real S3 server on loopback, OpenStack Swift with its s3api, in an environment of its own."""

import contextlib
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
import uuid
from collections.abc import Iterator
from pathlib import Path

import fsspec
import pytest
from s3fs import S3FileSystem

VENV = Path(__file__).parents[1] / ".venv-s3"
"""Made by `make .venv-s3/.ready`; Swift wants other packages than the product."""
ACCESS_KEY = "test:tester"
SECRET_KEY = "testing-loopback"
_USER = "user_test_tester"
_RINGS = ("account", "container", "object")
_START_S = 180
_SERVE = """
for name; do
    "swift-$name-server" "$name.conf" >"$name.log" 2>&1 &
    servers="$servers $!"
done
read _  # until the tests are over, or killed
kill -9 $servers
"""
_MAKE_RINGS = """
import sys
from swift.common.ring import RingBuilder

for name, port in (argument.split("=") for argument in sys.argv[1:]):
    builder = RingBuilder(part_power=1, replicas=1, min_part_hours=1)
    device = {"region": 1, "zone": 1, "weight": 1, "ip": "127.0.0.1", "port": int(port), "device": "one"}
    builder.add_dev(device)
    builder.rebalance(seed=1)
    builder.get_ring().save(f"{name}.ring.gz")
"""


class S3Server:
    """A running server; its buckets go with it."""

    def __init__(self, endpoint: str) -> None:
        self.endpoint = endpoint

    @property
    def environment(self) -> dict[str, str]:
        """Environment variables that a process needs to reach the server."""
        return environment(self.endpoint)

    def new_bucket(self) -> str:
        """The URI of an empty bucket that nobody else uses."""
        name = f"bucket-{uuid.uuid4().hex[:12]}"
        client(self.endpoint).call_s3("create_bucket", Bucket=name)
        return f"s3://{name}"


def environment(endpoint: str) -> dict[str, str]:
    """The usual environment variables, for the server itself or for a proxy in front of it."""
    return {
        "AWS_ENDPOINT_URL": endpoint,
        "AWS_ACCESS_KEY_ID": ACCESS_KEY,
        "AWS_SECRET_ACCESS_KEY": SECRET_KEY,
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
        # Swift knows no checksums in trailers, as many servers that are not Amazon's.
        "AWS_REQUEST_CHECKSUM_CALCULATION": "when_required",
        "AWS_RESPONSE_CHECKSUM_VALIDATION": "when_required",
    }


@contextlib.contextmanager
def reached_by(endpoint: str, **other: str) -> Iterator[None]:
    """Let this process reach S3 at an endpoint, with other variables if given, and forget it afterwards."""
    with pytest.MonkeyPatch.context() as patch:
        for name, value in {**environment(endpoint), **other}.items():
            patch.setenv(name, value)
        S3FileSystem.clear_instance_cache()  # a client keeps the address it was made with
        yield
    S3FileSystem.clear_instance_cache()


def client(endpoint: str) -> S3FileSystem:
    """A plain client, to look behind the storage under test."""
    return fsspec.filesystem(
        "s3",
        key=ACCESS_KEY,
        secret=SECRET_KEY,
        endpoint_url=endpoint,
        use_listings_cache=False,
        client_kwargs={"region_name": "us-east-1"},
        config_kwargs={
            "request_checksum_calculation": "when_required",
            "response_checksum_validation": "when_required",
        },
    )


@contextlib.contextmanager
def running_s3_server() -> Iterator[S3Server]:
    """Start the four servers of Swift, and stop them.

    Raises:
        RuntimeError: they did not start; the message holds the end of their logs.
    """
    folder = Path(tempfile.mkdtemp(prefix="nst-ops-s3-"))
    ports = _free_ports(len(_RINGS) + 1)
    try:
        _configure(folder, ports)
        with _servers(folder):
            _wait_until_they_listen(ports, folder)
            yield S3Server(f"http://127.0.0.1:{ports[-1]}")
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as open_sockets:
        sockets = [open_sockets.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [each.getsockname()[1] for each in sockets]


def _configure(folder: Path, ports: list[int]) -> None:
    (folder / "disks/one").mkdir(parents=True)
    _write(
        folder / "swift.conf",
        {
            "swift-hash": {"swift_hash_path_prefix": "left", "swift_hash_path_suffix": "right"},
            "storage-policy:0": {"name": "single", "default": "yes"},
        },
    )
    shared = {"swift_dir": folder, "bind_ip": "127.0.0.1", "workers": 0, "log_level": "WARNING"}
    shared |= {"user": pwd.getpwuid(os.getuid()).pw_name, "log_address": folder / "no-syslog"}
    rings = [f"{name}={port}" for name, port in zip(_RINGS, ports, strict=False)]
    subprocess.run([str(VENV / "bin/python"), "-c", _MAKE_RINGS, *rings], cwd=folder, check=True)
    for name, port in zip(_RINGS, ports, strict=False):
        disks = {"devices": folder / "disks", "mount_check": "false"}
        space = {"fallocate_reserve": 0, "disable_fallocate": "true"}
        _write(
            folder / f"{name}.conf",
            {
                "DEFAULT": {**shared, "bind_port": port, **disks, **space},
                "pipeline:main": {"pipeline": f"{name}-server"},
                f"app:{name}-server": {"use": f"egg:swift#{name}"},
            },
        )
    filters = ("catch_errors", "cache", "s3api", "tempauth", "bulk", "slo", "dlo")
    eggs = {"cache": "memcache"}
    options = {
        "cache": {"memcache_servers": "127.0.0.1:1"},
        "s3api": {"s3_acl": "false", "location": "us-east-1", "min_segment_size": 1},
        "tempauth": {_USER: f"{SECRET_KEY} .admin"},
    }
    _write(
        folder / "proxy.conf",
        {
            "DEFAULT": {**shared, "bind_port": ports[-1]},
            "pipeline:main": {"pipeline": " ".join((*filters, "proxy-server"))},
            "app:proxy-server": {"use": "egg:swift#proxy", "account_autocreate": "true"},
            **{
                f"filter:{name}": {"use": f"egg:swift#{eggs.get(name, name)}", **options.get(name, {})}
                for name in filters
            },
        },
    )


def _write(path: Path, sections: dict[str, dict[str, object]]) -> None:
    lines = []
    for section, values in sections.items():
        lines += [f"[{section}]", *(f"{key} = {value}" for key, value in values.items()), ""]
    path.write_text("\n".join(lines))


@contextlib.contextmanager
def _servers(folder: Path) -> Iterator[None]:
    """The servers, below a shell that kills them when the tests end, however those end."""
    command = ["sh", "-c", _SERVE, "sh", *_RINGS, "proxy"]
    environ = {"PATH": f"{VENV / 'bin'}{os.pathsep}{os.environ['PATH']}", "HOME": str(folder)}
    shell = subprocess.Popen(command, cwd=folder, env=environ, stdin=subprocess.PIPE, start_new_session=True)
    try:
        yield
    finally:
        assert shell.stdin is not None
        shell.stdin.close()
        shell.wait()


def _wait_until_they_listen(ports: list[int], folder: Path) -> None:
    deadline = time.monotonic() + _START_S
    while time.monotonic() < deadline:
        if all(_listens(port) for port in ports):
            return
        time.sleep(0.2)
    logs = "\n".join(f"{log.name}: {log.read_text()[-1500:]}" for log in sorted(folder.glob("*.log")))
    raise RuntimeError(f"the S3 server did not start:\n{logs}")


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex(("127.0.0.1", port)) == 0
