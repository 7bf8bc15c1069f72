"""The reference device: the same operator tables, executed with torch and timed.

It has the door that every modelled device has, `cost(ops, work)`, and runs on CUDA and on the CPU with the
same code. Only this folder imports torch (the extra `gpu`).
"""

import os

from kernels.errors import InputError

# Tensors of 2 MiB and more lie on huge pages where the system gives them: torch reads this before its first tensor. In
# small pages what a multiply takes hangs on where those of a process happen to lie (10 to 30 % of a step of GPT-2).
os.environ.setdefault("THP_MEM_ALLOC_ENABLE", "1")


def require_torch() -> None:
    """Say what to install where torch is absent.

    Raises `InputError` naming the extra.
    """
    import importlib.util

    if importlib.util.find_spec("torch") is None:
        raise InputError(
            "the reference device needs torch, which is not installed", allowed="pip install 'ridgeline[gpu]'"
        )
