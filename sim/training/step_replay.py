"""A training step on the links of its system: the graph of `sim.training.fitted.step_replay` with this path's traffic.

All replicas run the same order, so that one engine a pipeline rank stands for its `dp x cp x tp` devices; gathers and
scatters flow for every device, hops for the tensor-parallel ranks of the first `num_replica` replicas. Tensor- and
expert-parallel exchanges are inside the operations: they have the links of their node to themselves.
"""

import numpy as np

from hw_models.routes import Routes
from kernels.collective import IDEAL_COLLECTIVE
from kernels.errors import InputError
from kernels.train_plan import Records
from sim.fabric.collectives import Collective, Collectives
from sim.pipeline.pipeline_step import together
from sim.training.fitted.step_replay import HOP, StepWork, run_on_links, step_work
from sim.training.price import Site
from sim.training.traffic import Unit, collective_times

__all__ = ["flows", "run_on_links", "step_work"]


def flows(
    graph: StepWork, found: dict[str, list[list[Unit]]], record: Records, hop_s: float, routes: Routes, where: Site,
    num_replica: int = 1,
) -> dict[int, Collective]:  # fmt: skip
    """The collective of every rendezvous on the links of `routes`. Raises `InputError` for groups that hold more
    devices of one node than of another."""
    tp, group = int(record["tp"]), int(record["dp"] * record["cp"])
    if not 1 <= num_replica <= group:
        raise InputError("out of range", field="num_replica", value=num_replica, allowed=f"1 to {group}")
    made = Collectives(routes, np.array(IDEAL_COLLECTIVE))
    known: dict[tuple[str, int, int], Collective] = {}

    def build(what: str, a: int, b: int) -> Collective:
        if what == HOP:
            ends = [((a * group + d) * tp + n, (b * group + d) * tp + n) for d in range(num_replica) for n in range(tp)]
            return together([made.transfer(*pair, 0.0, hop_s) for pair in ends])
        fixed_s = inside_s = between_s = 0.0
        for one in found[what][a]:
            parts = collective_times(one, record, where)
            fixed_s, inside_s, between_s = fixed_s + parts[0], inside_s + parts[1], between_s + parts[2]
        groups = [[(b * group + d) * tp + n for d in range(group)] for n in range(tp)]
        return together([made.timed(members, fixed_s, inside_s, between_s) for members in groups])

    out = {}
    for number, key in enumerate(graph.collective):
        if key not in known:
            known[key] = build(*key)
        out[number] = known[key]
    return out
