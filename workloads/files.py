"""Opening what is read: bytes, JSON and tables of users' files, bounded as `kernels.content` has it."""

import io
import os
from typing import TYPE_CHECKING, Any

from kernels import content
from kernels.content import MAX_JSON_BYTE, MAX_TABLE_BYTE
from kernels.errors import InputError, NothingServedError

if TYPE_CHECKING:
    import pandas as pd

Path = str | os.PathLike[str]


def read_byte(path: Path, limit: int = MAX_TABLE_BYTE) -> bytes:
    """All bytes of a file, gzip unpacked; more than `limit`, or what cannot be read, is an `InputError`."""
    flags = os.O_RDONLY | os.O_NONBLOCK | os.O_NOCTTY | os.O_CLOEXEC
    return content.drain(lambda: os.open(path, flags), path, limit)


def read_head(path: Path, limit: int) -> bytes:
    """The first bytes of a file, as `read_byte`."""
    try:
        return read_byte(path, limit)
    except content.TooLargeError as error:
        return error.data


def read_json(path: Path) -> Any:
    """The value of a JSON file."""
    return content.json_of(read_byte(path, MAX_JSON_BYTE), path)


def read_frame(path: Path, **option: Any) -> "pd.DataFrame":
    """A CSV file with a header as a frame, by pandas; what is none, or holds no row, is an `InputError`."""
    import pandas as pd

    data = read_byte(path)
    content.check_numbers(data, path)
    try:
        frame = pd.read_csv(io.BytesIO(data), **option)
    except (ValueError, OverflowError, RecursionError) as error:  # pandas' own errors among them
        raise InputError(f"cannot be read as CSV: {error}", file=path) from None
    if not len(frame):
        raise NothingServedError("no rows", file=path)
    return frame
