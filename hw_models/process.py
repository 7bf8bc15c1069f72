"""A child process that ends with its parent, however the parent ends."""

import ctypes
import os
import signal

PR_SET_PDEATHSIG = 1  # <sys/prctl.h>


def end_with_parent() -> None:
    """Called in a child: the kernel sends it SIGKILL when its parent is gone (Linux; elsewhere this does nothing)."""
    try:
        prctl = ctypes.CDLL(None, use_errno=True).prctl
    except (AttributeError, OSError):
        return
    prctl(PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    parent = os.environ.get("RIDGELINE_PARENT")
    if parent is not None and os.getppid() != int(parent):
        os._exit(1)  # it went before the call


def child_environment() -> dict[str, str]:
    """The environment to start such a child with: it names this process."""
    return {**os.environ, "RIDGELINE_PARENT": str(os.getpid())}
