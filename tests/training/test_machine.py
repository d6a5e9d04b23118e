import platform
import subprocess
import sys

import pytest

from stagetransfer.training import machine

FAULTS = """
import resource, torch
from stagetransfer.training.machine import keep_freed_memory
if {keep}:
    keep_freed_memory()
def step():
    return torch.ones(20_000_000).mul_(2).sum()  # 80 MB, freed at once
for _ in range(10):
    step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    step()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def faults(keep):
    """Pages that five steps touch for the first time, in a fresh process."""
    command = [sys.executable, "-c", FAULTS.format(keep=keep)]
    return int(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's malloc")
def test_a_step_gets_the_memory_that_the_last_one_freed():
    assert faults(keep=False) > 5000
    assert faults(keep=True) < 500


def test_another_c_library_is_left_alone(monkeypatch):
    monkeypatch.setattr(platform, "libc_ver", lambda: ("", ""))
    monkeypatch.setattr(machine.ctypes, "CDLL", None)  # calling it would fail
    machine.keep_freed_memory()
