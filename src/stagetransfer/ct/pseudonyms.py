"""Salted pseudonyms: a patient has the same pseudonym wherever the salt is the same.

    pseudonym = HMAC-SHA256(salt, kind + NUL + identity), its first 16 hexadecimal digits

An unsalted hash could be reversed by hashing all possible patient numbers. With a secret salt this
is impossible. With 64 bits, the probability that two of a million patients share a pseudonym is
3e-8.
"""

import contextlib
import hmac
import os
import secrets
from pathlib import Path

from stagetransfer.errors import UserError
from stagetransfer.files import located
from stagetransfer.litter import part_of, remove

_MIN_BYTES = 16


class Pseudonyms:
    """Names for patients and series that reveal nothing without the salt."""

    def __init__(self, salt: bytes) -> None:
        self._salt = salt

    def patient(self, identity: str) -> str:
        """Return the pseudonym of a patient, for example p3f0c..."""
        return "p" + self._digest("patient", identity)

    def series(self, identity: str) -> str:
        """Return the pseudonym of a series, for example s3f0c..."""
        return "s" + self._digest("series", identity)

    def _digest(self, kind: str, identity: str) -> str:
        return hmac.new(self._salt, f"{kind}\0{identity}".encode(), "sha256").hexdigest()[:16]


def read_salt(path: Path) -> bytes:
    """Return the secret in a salt file.

    A missing file is created with a random secret, and only its owner can read it.
    """
    if not path.exists():
        _create(path)
    try:
        salt = path.read_bytes().strip()
    except OSError as error:
        raise UserError(f"{path}: the salt file cannot be read ({error.strerror})") from error
    if len(salt) < _MIN_BYTES:
        raise UserError(
            f"{path}: a salt of {len(salt)} bytes is too short. Give {_MIN_BYTES} or more, or "
            "remove the file, and a new one is created"
        )
    return salt


def _create(path: Path) -> None:
    part = part_of(path)
    try:
        with located(path, part):
            part.touch(0o600)
            part.write_text(secrets.token_hex(32) + "\n")
            # Linked when complete: if two processes start together, both use the salt of one.
            with contextlib.suppress(FileExistsError):
                os.link(part, path)
    finally:
        remove(part)
