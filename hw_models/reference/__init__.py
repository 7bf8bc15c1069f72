"""The reference device: the same operator tables, executed with torch and timed.

It has the door that every modelled device has, `cost(ops, work)`, and runs on CUDA and on the CPU with the
same code. Only this folder imports torch (the extra `gpu`).
"""

from kernels.errors import InputError


def require_torch() -> None:
    """Say what to install where torch is absent.

    Raises `InputError` naming the extra.
    """
    import importlib.util

    if importlib.util.find_spec("torch") is None:
        raise InputError(
            "the reference device needs torch, which is not installed", allowed="pip install 'ridgeline[gpu]'"
        )
