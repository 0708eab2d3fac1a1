"""What a process frees it keeps: pages that it has had once cost nothing more, and still count as free."""

import subprocess
import sys

import pytest

_FAULTS = """
import resource, sys
import torch
from nst_ops.models.host_memory import keep_freed_memory, kept_bytes
if sys.argv[1] == "keep":
    keep_freed_memory()
def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(10):
    torch.ones(2**25)
before = faults()
for _ in range(10):
    torch.ones(2**25)
print(faults() - before, kept_bytes())
"""


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="only glibc keeps what is freed")
def test_a_freed_map_is_used_again() -> None:
    found = {}
    for what in ("keep", "give back"):
        command = [sys.executable, "-c", _FAULTS, what]
        answer = subprocess.run(command, capture_output=True, text=True, check=True, timeout=100).stdout
        found[what] = tuple(map(int, answer.split()))
    faults, kept = found["keep"]
    assert found["give back"][0] > 300_000  # 10 maps of 128 MiB: 327,680 pages of 4 KiB
    assert found["give back"][1] < 2**26
    assert faults < 70_000  # glibc may take a new block now and then, up to eight
    assert 2**27 <= kept < 10 * 2**27
