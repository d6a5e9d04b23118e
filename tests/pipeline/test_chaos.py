"""A few random kills of the commands that differ most; tests/chaos.py kills all, and more often."""

import os

import pytest

from chaos import chaos

NAMES = ("run", "sweep with slots", "report", "predict")


@pytest.mark.slow
def test_killed_commands_continue_and_end_with_the_same_bytes():
    signals = int(os.environ.get("CHAOS_SIGNALS", "2"))
    tried = chaos(signals=signals, seed=0, only=list(NAMES))
    assert [one.name for one in tried] == list(NAMES)
    assert {one.name: one.faults for one in tried if one.faults} == {}
    assert sum(one.kills for one in tried) >= 2
    assert all(one.finished for one in tried)
