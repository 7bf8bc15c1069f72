"""Opening what is read: TOML and bytes of machine files, bounded as `kernels.content` has it."""

import os
from typing import Any

from kernels import content
from kernels.content import MAX_TABLE_BYTE, MAX_TOML_BYTE

Path = str | os.PathLike[str]


def read_byte(path: Path, limit: int = MAX_TABLE_BYTE) -> bytes:
    """All bytes of a file, gzip unpacked; more than `limit`, or what cannot be read, is an `InputError`."""
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    return content.drain(lambda: os.open(path, flags), path, limit)


def read_toml(path: Path) -> dict[str, Any]:
    """The table of a TOML file; an `InputError` names the line of what is none."""
    return content.toml_of(read_byte(path, MAX_TOML_BYTE), path)
