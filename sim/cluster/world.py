"""Pools of engines and their requests: one mixed pool, or one that prefills and one that decodes, with links between.

Each engine of a pool that hands over has one link out of it, each of a pool that receives one into it; transfers share
them max-min fairly. Where policies, routers and the rule of transfer are compiled, a compiled heap runs the meetings of
the pools (`sim.cluster.ahead`); else SimPy's clock does (`sim.cluster.clock`), with the same results to the tick.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np

from kernels.engine.records import FUTURE, IN_GATE, Floats
from kernels.errors import InputError
from kernels.units import FOREVER_PS, PS_PER_S
from sim.cluster.pool import Pool, PoolPart
from sim.cluster.transfer_rule import is_compiled, transfer_module
from sim.serving import state
from sim.serving.limits import Options
from sim.serving.result import Ints, ServeResult


@dataclass(frozen=True, eq=False)
class ClusterResult:
    """What came of every request, and of every pool. Times are picoseconds, -1 where there is none."""

    request: dict[str, Ints]  # arrival_ps, first_token_ps, last_token_ps, end_ps, transfer_ps, pool engines, ...
    pool: dict[str, ServeResult]
    moved_byte: float
    num_meeting: int  # hand-overs, starts and ends of transfers, changes of rates; on SimPy's clock arrivals too
    complete: bool = True  # False: it was interrupted


def serve_pools(
    requests: state.Requests,
    pools: Sequence[PoolPart],
    transfer: str = "whole",
    latency_s: float = 0.0,
    options: Options | None = None,
) -> ClusterResult:
    """Serves requests on pools: one mixed pool, or one that prefills and one that decodes.

    Ctrl-C ends the run early: what was done until then is returned, marked as not complete. `latency_s` is added to
    each transfer. A request that waits for another's end (the next turn of a session) arrives once the other has left
    the last pool. `options.engine`: "stepping" plans every step anew on SimPy's clock, "run-ahead" insists on the
    compiled heap. Raises `InputError` for pools that do not make a way.
    """
    return Cluster(requests, pools, transfer, latency_s, options or Options()).run()


class Meetings(Protocol):
    """Who runs what happens between pools."""

    def advance(self, until_ps: int) -> None:
        """Lets happen what happens up to `until_ps`; plans that are made then are left."""

    def is_over(self) -> bool:
        """Whether nobody is on its way between pools, or arrives by an event of these meetings."""

    def there(self, rows: Ints) -> Ints:
        """The engines of the last pool to which held requests are on their way."""

    def withdraw(self, i: int, now_ps: int) -> None:
        """Request i, which is on its way, does not arrive: one of its engines is lost."""

    def depart(self, i: int, k: int, byte: float, now_ps: int) -> None:
        """The KV of request i, `byte` bytes that its engine holds, is sent to engine k of the last pool."""

    def finish(self) -> None:
        """Notes what was moved, and when."""


class Cluster:
    """The run: see `serve_pools`."""

    def __init__(
        self, requests: state.Requests, pools: Sequence[PoolPart], transfer: str, latency_s: float, options: Options
    ) -> None:
        roles = sorted(part.role for part in pools)
        if roles not in (["mixed"], ["decode", "prefill"]):
            raise InputError(
                "not a way through pools", field="pools", value=", ".join(roles), allowed="mixed; or prefill and decode"
            )
        if not 0 <= latency_s < 3600:
            raise InputError("not a time", field="latency_s", value=latency_s, allowed="0 to 3600")
        self.rule = transfer_module(transfer)
        compiled = all(part.policy.compiled and part.router.compiled for part in pools) and is_compiled(self.rule)
        if options.engine == "run-ahead" and not compiled:
            raise InputError("a policy, router or rule is plain Python", field="engine", value="run-ahead",
                             allowed=["stepping"])  # fmt: skip
        self.is_ahead = compiled and options.engine != "stepping"
        self.parent = np.asarray(requests.parent)
        self.linked = bool((self.parent >= 0).any()) or requests.max_concurrency > 0
        self.pools = {part.role: Pool(part, requests, options, self.is_ahead) for part in pools}
        self.first = self.pools.get("prefill") or self.pools["mixed"]
        self.last = self.pools.get("decode") or self.pools["mixed"]
        self.latency_ps = round(latency_s * PS_PER_S)
        self.sent_byte = 0.0
        self.num_meeting = 0
        self.output = np.asarray(requests.output_token)
        self.prompt = np.asarray(requests.prompt_token)
        self.arrival_ps = np.asarray(requests.arrival_ps)
        self.transfer_ps: Ints = np.zeros(0, np.int64)
        self.links: Floats | None = None  # bytes a second of each
        if self.first is not self.last:
            ports = [self.first.part.link_byte_per_s] * self.first.num_engine
            self.links = np.array(ports + [self.last.part.link_byte_per_s] * self.last.num_engine)
        self.child, self.sibling = (self.first.world.seq[name].copy() for name in ("child", "sibling"))
        self.gate = int(self.first.world.book[IN_GATE])
        begin = np.flatnonzero(self.parent < 0)  # of them, who does not wait there
        self.begin = begin[: requests.max_concurrency] if requests.max_concurrency else begin

    def is_too_long(self, i: int) -> bool:
        """Whether request i is longer than the last pool takes."""
        return bool(int(self.prompt[i]) + int(self.output[i]) > self.last.part.limits.max_context_token)

    def run(self) -> ClusterResult:
        """Serves everything, or what is done until an interrupt."""
        if self.is_ahead and self.links is None:
            self.transfer_ps = np.full(len(self.output), -1, np.int64)
            return self.result(self._serve(self.first.advance))
        meetings = self.meetings()
        try:
            complete = self._serve(meetings.advance)
        finally:
            meetings.finish()
        return self.result(complete)

    def _serve(self, advance: Callable[[int], Any]) -> bool:
        try:
            advance(FOREVER_PS)
        except KeyboardInterrupt:
            return False
        return True

    def meetings(self) -> Meetings:
        """Who runs the meetings of two pools, and of one whose parts are plain Python."""
        if self.is_ahead and self.links is not None:
            from sim.cluster.ahead import Ahead

            return Ahead(self, self.links)
        from sim.cluster.clock import Clock

        self.transfer_ps = np.full(len(self.output), -1, np.int64)
        if self.linked:
            for pool in self.pools.values():
                pool.tell()
        return Clock(self)

    def result(self, complete: bool) -> ClusterResult:
        """What came of it."""
        pools = {pool.part.name: pool.result(complete) for pool in self.pools.values()}
        first, last = (pools[pool.part.name].request for pool in (self.first, self.last))
        there = (last["status"] != FUTURE) & (self.first is not self.last)  # what went on to the other pool
        request: dict[str, Any] = {
            "arrival_ps": first["arrival_ps"],
            "start_ps": first["start_ps"],
            "first_token_ps": first["first_token_ps"],
            "transfer_ps": self.transfer_ps,
            "prompt_token": first["prompt_token"],
            "output_token": self.output,
            "first_replica": first["replica"],
            "last_replica": np.where(there, last["replica"], first["replica"]),
        }
        for name in ("last_token_ps", "end_ps", "produced_token", "status", "reason"):
            request[name] = np.where(there, last[name], first[name])
        return ClusterResult(request, pools, self.sent_byte, self.num_meeting, complete)
