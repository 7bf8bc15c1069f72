"""The numerical core: pure functions over floats and 1-D arrays, compiled by numba.

Nothing here reads a file, a clock or a global setting. The one thing done on import is
choosing where compiled code is kept: numba notices a change in the file of a cached
function but not in another file that it calls, so the cache folder is named by a hash
of every source file of this package.
"""

import hashlib
import os
import pathlib

__all__ = ["CACHE_FOLDER"]


def _cache_folder() -> str:
    """Folder of compiled kernels: `RIDGELINE_CACHE_DIR` (else the user's cache) / source hash."""
    digest = hashlib.sha256()
    for path in sorted(pathlib.Path(__file__).parent.rglob("*.py")):
        digest.update(path.name.encode())
        digest.update(path.read_bytes())
    base = os.environ.get("RIDGELINE_CACHE_DIR")
    root = pathlib.Path(base) if base else pathlib.Path(os.environ.get("XDG_CACHE_HOME") or "~/.cache")
    return str(root.expanduser() / "ridgeline" / digest.hexdigest()[:16])


CACHE_FOLDER = _cache_folder()
os.environ["NUMBA_CACHE_DIR"] = CACHE_FOLDER  # read by numba when it is first imported
