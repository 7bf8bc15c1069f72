"""Times between tokens, counted in buckets of constant relative width (as an HDR histogram).

There are too many tokens to keep a time for each: below 128 units of 1,024 ps every unit is a bucket, above,
each octave is 128 buckets, so that a bucket is at most 0.8 % wide.
"""

import math

import numpy as np

from kernels.engine.records import Floats
from kernels.jit import njit

SUB = 128
NUM_BUCKET = SUB * 48
UNIT_PS = 1024


@njit
def bucket(gap_ps: int) -> int:
    """The bucket of a gap.

    >>> bucket(0), bucket(1024 * 127), bucket(1024 * 128), bucket(1024 * 256), bucket(1024 * 258)
    (0, 127, 128, 256, 257)
    """
    unit = gap_ps // UNIT_PS
    if unit < SUB:
        return unit
    _, exponent = math.frexp(float(unit))  # unit = mantissa x 2^exponent, mantissa in [0.5, 1)
    shift = exponent - 8
    return (shift + 1) * SUB + (unit >> shift) - SUB


@njit
def bucket_edges(index: int) -> tuple[int, int]:
    """Gaps from the first to below the second fall into bucket `index`.

    >>> bucket_edges(127), bucket_edges(257)
    ((130048, 131072), (264192, 266240))
    """
    if index < SUB:
        return index * UNIT_PS, (index + 1) * UNIT_PS
    shift = index // SUB - 1
    unit = (index % SUB + SUB) << shift
    return unit * UNIT_PS, (unit + (1 << shift)) * UNIT_PS


def edges_s() -> Floats:
    """Lower edges of the buckets in seconds, shape `[NUM_BUCKET + 1]`."""
    index = np.arange(NUM_BUCKET + 1)
    shift = np.maximum(index // SUB - 1, 0)
    unit = np.where(index < SUB, index, (index % SUB + SUB).astype(float) * 2.0**shift)
    return np.asarray(unit * UNIT_PS * 1e-12)
