"""Names of whole blocks, from those of prefix units of any size: what an engine hashes."""

import dataclasses

import numpy as np

from kernels.errors import InputError
from workloads.requests import Requests

MOST_NAME = 1 << 29


def blocks_named(requests: Requests, block_token: int) -> Requests:
    """The same requests with a name for every block of `block_token` tokens, the last one, output included.

    Two blocks have one name where their requests name the same units from the first token to the end of the block;
    others have a name each. `InputError` where there are more names than the engine has numbers for.

    >>> from workloads.requests import build
    >>> requests = build([0, 0], [24, 40], [8, 8], unit_start=[0, 0], unit_stop=[2, 2], unit_id=[0, 1], unit_token=16)
    >>> named = blocks_named(requests, 24)
    >>> [named.unit_id[a:b].tolist() for a, b in zip(named.unit_start, named.unit_stop)]
    [[0, 1], [0, 2]]
    """
    total = requests.prompt_token.astype(np.int64) + requests.output_token
    count = -(-total // block_token)
    stop = np.cumsum(count)
    if len(stop) and int(stop[-1]) >= MOST_NAME:
        raise InputError("too many blocks to name", field="block_token", value=block_token,
                         allowed=f"blocks for {int(total.sum())} tokens that are below {MOST_NAME}")  # fmt: skip
    names = np.full(int(stop[-1]) if len(stop) else 0, -1, np.int64)
    known: dict[tuple[int, bytes], int] = {}
    size = requests.unit_token
    for i in np.flatnonzero(requests.unit_stop > requests.unit_start).tolist():
        unit = requests.unit_id[requests.unit_start[i] : requests.unit_stop[i]]
        before, first = -1, int(stop[i] - count[i])
        for k in range(min(len(unit) * size // block_token, int(count[i]))):
            covered = unit[k * block_token // size : -(-(k + 1) * block_token // size)]
            before = names[first + k] = known.setdefault((before, covered.tobytes()), len(known))
    own = names < 0
    names[own] = np.arange(len(known), len(known) + int(own.sum()))
    return dataclasses.replace(
        requests, unit_start=stop - count, unit_stop=stop, unit_id=names.astype(np.int32), unit_token=block_token
    )
