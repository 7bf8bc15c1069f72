"""Pools on SimPy's clock: arrivals, hand-overs and transfers are its events; between them engines run ahead.

A pool that hands over runs to the next event of the clock or to its first hand-over, whichever is earlier, so that no
engine is past what could still reach it; a pool that only receives is brought up to a delivery when it happens.
Transfers are flows that share their links max-min fairly (`sim.fabric.flows`): each engine has one link out of it and
one into it.
"""

import importlib
import inspect
import pathlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, cast

import numpy as np
import simpy

from kernels.engine.party import give_back, next_message, send
from kernels.engine.price import HOST_REQUEST
from kernels.engine.records import FUTURE
from kernels.errors import InputError
from kernels.units import FOREVER_PS, PS_PER_S
from sim.cluster.pool import Pool, PoolPart
from sim.fabric.flows import Fabric
from sim.serving import state
from sim.serving.limits import Options
from sim.serving.plugin import module_from
from sim.serving.result import Ints, ServeResult

ARRIVE = 1  # SimPy's order of events of one instant: transfers end before requests arrive
TRANSFERS = ("whole", "layered")


@dataclass(frozen=True, eq=False)
class ClusterResult:
    """What came of every request, and of every pool. Times are picoseconds, -1 where there is none."""

    request: dict[str, Ints]  # arrival_ps, first_token_ps, last_token_ps, end_ps, transfer_ps, pool engines, ...
    pool: dict[str, ServeResult]
    moved_byte: float
    num_meeting: int  # events of the clock
    complete: bool = True  # False: it was interrupted


def transfer_rule(name: str) -> Callable[[float, int, float, float], float]:
    """The rule of KV transfer `name`: one of `sim.cluster.transfers`, or the path of a file with `left_byte`."""
    if name.endswith(".py"):
        module = module_from("transfer", pathlib.Path(name))
    elif name in TRANSFERS:
        module = importlib.import_module(f"sim.cluster.transfers.{name}")
    else:
        raise InputError("no such rule", field="transfer", value=name, allowed=[*TRANSFERS, "a path of a .py file"])
    rule = getattr(module, "left_byte", None)
    if not callable(rule):
        raise InputError("has no function left_byte", file=module.__file__, field="transfer", value=name)
    try:
        inspect.signature(rule).bind(*range(4))
    except (TypeError, ValueError) as error:
        raise InputError(f"is called with 4 arguments: {error}", file=module.__file__, field="left_byte", value=name,
                         allowed="left_byte(byte, num_layer, step_s, rate)") from None  # fmt: skip
    return cast(Callable[[float, int, float, float], float], rule)


def serve_pools(
    requests: state.Requests,
    pools: Sequence[PoolPart],
    transfer: str = "whole",
    latency_s: float = 0.0,
    options: Options | None = None,
) -> ClusterResult:
    """Serves requests on pools: one mixed pool, or one that prefills and one that decodes.

    Ctrl-C ends the run early: what was done until then is returned, marked as not complete. `latency_s` is added to
    each transfer. Raises `InputError` for pools that do not make a way, and for requests that wait for others' ends.
    """
    return Cluster(requests, pools, transfer, latency_s, options or Options()).run()


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
        if (requests.parent >= 0).any():
            raise InputError("sessions are served by one pool alone", field="requests", value="linked requests")
        if not 0 <= latency_s < 3600:
            raise InputError("not a time", field="latency_s", value=latency_s, allowed="0 to 3600")
        self.env = simpy.Environment(initial_time=0)
        self.pools = {part.role: Pool(part, requests, options) for part in pools}
        self.first = self.pools.get("prefill") or self.pools["mixed"]
        self.last = self.pools.get("decode") or self.pools["mixed"]
        self.rule = transfer_rule(transfer)
        self.latency_ps = round(latency_s * PS_PER_S)
        self.transfer_ps = np.full(len(requests.arrival_ps), -1, np.int64)
        self.sent_byte = 0.0
        self.num_meeting = 0
        self.output = np.asarray(requests.output_token, np.int64)
        self.prompt = np.asarray(requests.prompt_token, np.int64)
        self.arrival_ps = np.asarray(requests.arrival_ps, np.int64)
        ports = [self.first.part.link_byte_per_s] * self.first.num_engine
        ports += [self.last.part.link_byte_per_s] * self.last.num_engine
        self.fabric = Fabric(self.env, np.array(ports)) if self.first is not self.last else None

    def run(self) -> ClusterResult:
        """Serves everything, or what is done until an interrupt."""
        try:
            self._serve()
        except KeyboardInterrupt:
            return self._result(False)
        return self._result(True)

    def _serve(self) -> None:
        order = np.argsort(self.arrival_ps, kind="stable")
        self.env.process(self._arrivals(order))
        while True:
            horizon_ps = self.env.peek()
            until_ps = FOREVER_PS if horizon_ps == float("inf") else int(horizon_ps)
            if self.fabric is not None and self.first.advance(until_ps):
                self._hand_over()
            elif until_ps == FOREVER_PS:
                break
            else:
                self.env.step()
                self.num_meeting += 1
        for pool in (self.first, self.last):
            pool.advance(FOREVER_PS)

    def _arrivals(self, order: Ints) -> Any:
        host_ps = int(self.first.part.price.host_ps[HOST_REQUEST])
        for i in order:
            time_ps = int(self.arrival_ps[i]) + host_ps
            if time_ps > self.env.now:
                yield self.env.timeout(time_ps - int(self.env.now))
            if self.fabric is None:
                self.first.advance(time_ps)
            if self.fabric is not None and self.prompt[i] + self.output[i] > self.last.part.limits.max_context_token:
                self.last.advance(time_ps)
                send(self.last.world, int(i), 0, time_ps)  # which refuses it before anything is computed
                continue
            send(self.first.world, int(i), self.first.route(int(i)), time_ps)

    def _hand_over(self) -> None:
        """The next message of the first pool becomes an event of the clock."""
        i = int(next_message(self.first.world))
        end_ps = int(self.first.world.seq["end_ps"][i])
        event = self.env.timeout(end_ps - int(self.env.now))
        event.callbacks.append(lambda _: self.env.process(self._transfer(i)))

    def _transfer(self, i: int) -> Any:
        s = self.first.world.seq[i]
        if self.output[i] == 1:  # its only token is produced
            give_back(self.first.world, i, int(self.env.now))
            return
        part = self.first.part
        byte = part.kv_token_byte * int(s["kv"]) + part.state_byte
        rate = min(part.link_byte_per_s, self.last.part.link_byte_per_s)
        left = self.rule(byte, part.num_layer, int(s["step_ps"]) / PS_PER_S, rate)
        if not 0 <= left <= byte:
            raise InputError("sends more than there is", field="transfer", value=left, allowed=f"0 to {byte:.0f} bytes")
        self.sent_byte += byte
        begun_ps = int(self.env.now)
        self.last.advance(begun_ps)
        k = self.last.route(i)
        self._expect(k, int(s["kv"]), 1)
        if self.latency_ps:
            yield self.env.timeout(self.latency_ps)
        assert self.fabric is not None
        yield self.fabric.send([[int(s["replica"]), self.first.num_engine + k]], [left])
        now_ps = int(self.env.now)
        self.transfer_ps[i] = now_ps - begun_ps
        give_back(self.first.world, i, now_ps)
        self.last.advance(now_ps)
        self._expect(k, int(s["kv"]), -1)
        there = self.last.world.seq[i]
        there["first_ps"] = there["last_ps"] = s["first_ps"]
        there["start_ps"] = s["start_ps"]
        send(self.last.world, i, k, now_ps)

    def _expect(self, k: int, token: int, sign: int) -> None:
        """What is on its way to engine k counts there, for the router."""
        me = self.last.world.engine
        me["outstanding"][k] += sign
        me["load_token"][k] += sign * token

    def _result(self, complete: bool) -> ClusterResult:
        first, last = self.first.world.seq, self.last.world.seq
        there = (last["status"] != FUTURE) & (self.first is not self.last)  # what went on to the other pool
        request = {
            "arrival_ps": first["arrival_ps"].copy(),
            "start_ps": first["start_ps"].copy(),
            "first_token_ps": first["first_ps"].copy(),
            "transfer_ps": self.transfer_ps,
            "prompt_token": first["prompt"].astype(np.int64),
            "output_token": self.output,
            "first_replica": first["replica"].astype(np.int64),
            "last_replica": np.where(there, last["replica"], first["replica"]).astype(np.int64),
        }
        for name, field in (
            ("last_token_ps", "last_ps"), ("end_ps", "end_ps"), ("produced_token", "produced"), ("status", "status"),
            ("reason", "reason"),
        ):  # fmt: skip
            request[name] = np.where(there, last[field], first[field]).astype(np.int64)
        pools = {pool.part.name: pool.result(complete) for pool in self.pools.values()}
        return ClusterResult(request, pools, self.sent_byte, self.num_meeting, complete)
