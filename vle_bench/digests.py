"""Checksums, by which a file is known to be the one that was written."""

import hashlib
from pathlib import Path

BLOCK = 1 << 20  # bytes


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file in hexadecimal."""
    digest = hashlib.sha256()
    with open(path, "rb") as file:
        while block := file.read(BLOCK):
            digest.update(block)
    return digest.hexdigest()
