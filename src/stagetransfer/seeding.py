"""Seeds for every purpose, derived from the run's one seed."""

import hashlib


def derive(seed: int, *purpose: object) -> int:
    """A 63-bit seed for a purpose, the same on every machine, unrelated between purposes."""
    text = repr((seed, *(str(part) for part in purpose)))
    return int.from_bytes(hashlib.sha256(text.encode()).digest()[:8], "big") >> 1
