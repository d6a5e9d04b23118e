"""A few random kills of each command; tests/chaos.py sends more."""

import os

import pytest

from chaos import chaos


@pytest.mark.slow
def test_killed_commands_continue_and_end_with_the_same_bytes():
    tried = chaos(signals=int(os.environ.get("CHAOS_SIGNALS", "8")), seed=0)
    assert {one.name: one.faults for one in tried if one.faults} == {}
    assert sum(one.kills for one in tried) >= 4
    assert all(one.finished for one in tried)
