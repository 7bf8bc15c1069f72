"""A model as a graph of queues: blocks of layers with queues and batches of their own, requests that walk them.

A *block* is a run of layers that lies on one device, with the KV of whoever passes it; applications whose models share
it share its queue. A request walks its application's chain once for its prompt and once for each further token. A
device serves one batch of one block at a time: that whose first in line has waited the longest, as many as fit.
A chain of one block on one device is a replica with continuous batching (BlockLLM, 2024).
"""

import dataclasses
import heapq
import math
from collections import deque
from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from kernels.errors import InputError

Floats = npt.NDArray[np.float64]


@dataclasses.dataclass(frozen=True)
class Block:
    """Where a block lies, how many it takes at once, and its seconds for so many tokens of prompts and decodes."""

    device: int
    max_batch: int
    second: Callable[[int, int], float]


class Request(NamedTuple):
    """Tokens that an application is asked for, at a time in seconds."""

    arrival_s: float
    app: int
    prompt: int
    output: int


class Walked(NamedTuple):
    """What came of a load. Seconds from the first arrival's clock."""

    first_s: Floats  # [request] when its first token was there
    end_s: Floats  # [request]
    busy_s: Floats  # [device]
    wait_s: Floats  # [block] that all visits together waited in its queue
    area_s: Floats  # [block] the number in its queue, over time
    num_visit: npt.NDArray[np.int64]  # [block]
    num_batch: npt.NDArray[np.int64]  # [block]


class _Queue:
    """A block's line: who, since when; the number in it over time."""

    def __init__(self) -> None:
        self.line: deque[tuple[float, int]] = deque()
        self.area_s = self.wait_s = self.since_s = 0.0
        self.num_visit = self.num_batch = 0

    def count(self, now: float) -> None:
        self.area_s += len(self.line) * (now - self.since_s)
        self.since_s = now

    def join(self, now: float, who: int) -> None:
        self.count(now)
        self.line.append((now, who))
        self.num_visit += 1

    def take(self, now: float, most: int) -> list[int]:
        self.count(now)
        taken = [self.line.popleft() for _ in range(min(most, len(self.line)))]
        self.wait_s += sum(now - since for since, _ in taken)
        self.num_batch += 1
        return [who for _, who in taken]


def walk(
    blocks: Sequence[Block], chains: Sequence[Sequence[int]], requests: Sequence[Request], *, hop_s: float = 0.0
) -> Walked:
    """Serves `requests` on chains of blocks (one an application); `hop_s` from a device to another one.

    Raises `InputError` for a chain of nothing, a block that is not there, an application without a chain, a batch of
    nothing, and a request without a prompt or an answer.
    """
    _check(blocks, chains, requests)
    num_device = 1 + max(block.device for block in blocks)
    queues = [_Queue() for _ in blocks]
    free = [True] * num_device
    on = [[b for b, block in enumerate(blocks) if block.device == d] for d in range(num_device)]
    place, token = [0] * len(requests), [0] * len(requests)  # of each request: in its chain; tokens it has
    first, end, busy = np.full(len(requests), math.nan), np.full(len(requests), math.nan), np.zeros(num_device)
    # (time, order, block, who): who join the block's queue; order keeps ties as they came
    events = [(one.arrival_s, i, chains[one.app][0], [i], False) for i, one in enumerate(requests)]
    heapq.heapify(events)
    order = len(events)
    while events:
        now, _, b, who, served = heapq.heappop(events)
        if served:
            free[blocks[b].device] = True
            for i in who:
                chain = chains[requests[i].app]
                place[i] += 1
                if place[i] == len(chain):
                    place[i] = 0
                    token[i] += 1
                    if token[i] == 1:
                        first[i] = now
                    if token[i] == requests[i].output:
                        end[i] = now
                        continue
                after = chain[place[i]]
                if blocks[after].device == blocks[b].device or hop_s == 0.0:
                    queues[after].join(now, i)
                else:
                    heapq.heappush(events, (now + hop_s, order, after, [i], False))
                    order += 1
        else:
            for i in who:
                queues[b].join(now, i)
        if events and events[0][0] == now:  # all that happens now is known before anybody begins
            continue
        for d in range(num_device):
            waiting = [k for k in on[d] if queues[k].line]
            if not free[d] or not waiting:
                continue
            k = min(waiting, key=lambda k: queues[k].line[0][0])
            taken = queues[k].take(now, blocks[k].max_batch)
            prompt = sum(requests[i].prompt for i in taken if token[i] == 0)
            took = blocks[k].second(prompt, sum(token[i] > 0 for i in taken))
            free[d] = False
            busy[d] += took
            heapq.heappush(events, (now + took, order, k, taken, True))
            order += 1
    return Walked(
        first, end, busy, np.array([q.wait_s for q in queues]), np.array([q.area_s for q in queues]),
        np.array([q.num_visit for q in queues]), np.array([q.num_batch for q in queues]),
    )  # fmt: skip


def _check(blocks: Sequence[Block], chains: Sequence[Sequence[int]], requests: Sequence[Request]) -> None:
    for app, chain in enumerate(chains):
        if not chain or not all(0 <= b < len(blocks) for b in chain):
            raise InputError("a chain needs blocks that are there", field=f"chains[{app}]", value=list(chain),
                             allowed=f"0 to {len(blocks) - 1}")  # fmt: skip
    for b, block in enumerate(blocks):
        if block.max_batch < 1 or block.device < 0:
            raise InputError("a batch of nothing, or no device", field=f"blocks[{b}]", value=block)
    for i, one in enumerate(requests):
        if not 0 <= one.app < len(chains) or one.prompt < 1 or one.output < 1 or not one.arrival_s >= 0:
            raise InputError("an application with a chain, a prompt, an answer and a time are needed",
                             field=f"requests[{i}]", value=one)  # fmt: skip
