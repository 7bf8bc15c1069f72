"""Compression hooks on the reduction of gradients: what they send, and what encoding and decoding read and write.

A hook changes a replica's message from `grad_byte` a gradient to a share of it. Sums of encoded gradients are either
again encoded gradients (they are all-reduced) or are not (everybody gathers everybody's). Passes are over the bytes of
the uncompressed gradients, encoding and decoding together, memory-bound.
"""

from typing import NamedTuple

from kernels.errors import InputError


class Hook(NamedTuple):
    ratio: float  # bytes sent, as a share of the gradients'
    passes: float  # over the gradients' bytes, encoding and decoding
    gathers: bool  # all-gathered, not all-reduced


TOP_SHARE = 0.01  # of the values, as in Aji and Heafield 2017, "Sparse communication for distributed gradient descent"
NAMES = ("none", "fp16", "powersgd", "topk", "onebit")


def hook(name: str, hidden: int, grad_byte: float, rank: int = 4) -> Hook:
    """The hook of this name for matrices of `hidden` by 4 `hidden` values of `grad_byte` bytes.

    fp16: cast there and back. powersgd (Vogels et al. 2019): factors of `rank`, n r + m r of n m values; the gradients
    are read for each factor, and for the error that is kept, which is read, written and added. topk: values with 4-byte
    places, selected in two reads, with the same error. onebit (Seide et al. 2014): a sign a value, with the same error.

    >>> hook("fp16", 4096, 4.0)
    Hook(ratio=0.5, passes=3.0, gathers=False)
    """
    error = 3.0  # the error is read, the new one written, the gradients read again
    if name == "none":
        return Hook(1.0, 0.0, False)
    if name == "fp16":
        ratio = min(1.0, 2 / grad_byte)
        return Hook(ratio, 2 * (1 + ratio), False)
    if name == "powersgd":
        if not 1 <= rank <= hidden:
            raise InputError("out of range", field="compression_rank", value=rank, allowed=f"1 to {hidden}")
        ratio = rank * (1 / hidden + 1 / (4 * hidden))
        return Hook(ratio, 2 + 1 + error, False)
    if name == "topk":
        return Hook(TOP_SHARE * (1 + 4 / grad_byte), 2 + 1 + error, True)
    if name == "onebit":
        return Hook(1 / (8 * grad_byte), 1 + 1 + error, True)
    raise InputError("no such hook", field="compression", value=name, allowed=NAMES)
