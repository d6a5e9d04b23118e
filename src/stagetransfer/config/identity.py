"""Identity of stages and runs: the hash of everything that decides a result."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from typing import Any

# Raised when a change of this package changes what the same settings lead to, so that stages and
# runs of an older version are not taken for those of the new one.
GENERATION = 1


def key_of(identity: Mapping[str, Any]) -> str:
    """Return the 16 hexadecimal digits that stand for all that decides a result."""
    text = json.dumps({"generation": GENERATION, **identity}, sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()[:16]
