"""Salted pseudonyms: the same patient has the same one wherever the salt is the same.

    pseudonym = HMAC-SHA256(salt, kind + NUL + identity), the first 16 of its hexadecimal digits

Without the salt a pseudonym can't be traced by trying all patient numbers, which a bare hash
allows. 64 bits: among a million patients two share a pseudonym with probability 3e-8.
"""

from __future__ import annotations

import contextlib
import hmac
import os
import secrets
import tempfile
from pathlib import Path

from stagetransfer.errors import UserError

_LEAST = 16


class Pseudonyms:
    """Names for patients and series that tell nothing without the salt."""

    def __init__(self, salt: bytes) -> None:
        self._salt = salt

    def patient(self, identity: str) -> str:
        """As p3f0c...: a patient's pseudonym."""
        return "p" + self._digest("patient", identity)

    def series(self, identity: str) -> str:
        """As s3f0c...: a series' pseudonym."""
        return "s" + self._digest("series", identity)

    def _digest(self, kind: str, identity: str) -> str:
        return hmac.new(self._salt, f"{kind}\0{identity}".encode(), "sha256").hexdigest()[:16]


def read_salt(path: Path) -> bytes:
    """The secret of a salt file, made there on first use, readable by its owner only.

    Raises:
        UserError: the file can't be read or made, or holds too little.
    """
    if not path.exists():
        _make(path)
    try:
        salt = path.read_bytes().strip()
    except OSError as error:
        raise UserError(f"{path}: the salt file can't be read ({error.strerror})") from error
    if len(salt) < _LEAST:
        raise UserError(
            f"{path}: a salt of {len(salt)} bytes is too short; give {_LEAST} or more, or remove "
            "the file and have one made"
        )
    return salt


def _make(path: Path) -> None:
    try:
        # Linked when whole: of two processes that begin together, one's salt stays for both.
        descriptor, part = tempfile.mkstemp(prefix=".salt-", dir=path.parent)
        try:
            with os.fdopen(descriptor, "wb") as file:
                file.write(secrets.token_hex(32).encode() + b"\n")
            with contextlib.suppress(FileExistsError):
                os.link(part, path)
        finally:
            os.unlink(part)
    except OSError as error:
        raise UserError(f"{path}: the salt file can't be made ({error.strerror})") from error
