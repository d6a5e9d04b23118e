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
from typing import Literal

from stagetransfer.errors import UserError
from stagetransfer.files import located
from stagetransfer.litter import part_of, remove

_MIN_BYTES = 16


def pseudonym(salt: bytes, kind: Literal["patient", "series"], identity: str) -> str:
    """Return the name of a patient (p3f0c...) or series (s3f0c...)."""
    digest = hmac.new(salt, f"{kind}\0{identity}".encode(), "sha256").hexdigest()
    return kind[0] + digest[:16]


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
