"""The very first run: compiled kernels are not on disk yet, so two processes compile them side by side.

The price kernels are compiled by a child while this process compiles the serving loop; both leave what they compiled
in the cache folder. Later runs find a mark there and start nothing.
"""

import subprocess
import sys

from kernels import cache

MARK = cache.folder(cache.ROOT / "price.py") / "price_compiled"


def start() -> "subprocess.Popen[bytes] | None":
    """A child that compiles the price kernels, or None where they are compiled already."""
    if MARK.exists():
        return None
    return subprocess.Popen([sys.executable, "-m", "sim.warm"], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


def wait(child: "subprocess.Popen[bytes] | None") -> None:
    """Until the child has ended. Where it failed, this process compiles for itself."""
    if child is not None:
        child.wait()


def compile_price() -> None:
    """Price an empty table: compiles for the types that every table has, and leaves the mark."""
    from kernels.machine import blank
    from kernels.optable import empty
    from kernels.price import price_table

    price_table(*empty(0), blank())
    MARK.parent.mkdir(parents=True, exist_ok=True)
    MARK.touch()


if __name__ == "__main__":
    compile_price()
