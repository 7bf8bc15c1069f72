"""Flows of a training step whose traffic was priced by fitted constants; the graph is `sim.training.step_replay`'s."""

import numpy as np

from hw_models.routes import Routes
from kernels import training as t
from kernels.collective import IDEAL_COLLECTIVE
from kernels.errors import InputError
from kernels.training import Floats
from kernels.training_step import collective_parts_s, hop_parts_s
from sim.fabric.collectives import Collective, Collectives
from sim.pipeline.pipeline_step import together
from sim.training.fitted.traffic import transfer_byte
from sim.training.step_replay import HOP, StepWork, run_alone, run_on_links, step_work


def flows(
    graph: StepWork, vector: Floats, laid: Floats, hw: Floats, fit: Floats, routes: Routes, num_replica: int = 1
) -> dict[int, Collective]:
    """The collective of every rendezvous on the links of `routes`. Raises `InputError` for groups that hold more
    devices of one node than of another."""
    tp, group = int(laid[t.TP]), int(laid[t.DP] * laid[t.CP])
    if not 1 <= num_replica <= group:
        raise InputError("out of range", field="num_replica", value=num_replica, allowed=f"1 to {group}")
    made = Collectives(routes, np.array(IDEAL_COLLECTIVE))
    known: dict[tuple[str, int, int], Collective] = {}
    hop_fixed_s, hop_moving_s = hop_parts_s(vector, laid, hw, fit)
    num_stage = max((stage for what, stage, _ in graph.collective if what != HOP), default=0) + 1
    byte = transfer_byte(vector, laid, max(num_stage, int(laid[t.PP] * laid[t.NUM_CHUNK])))

    def build(what: str, a: int, b: int) -> Collective:
        if what == HOP:
            ends = [((a * group + d) * tp + n, (b * group + d) * tp + n) for d in range(num_replica) for n in range(tp)]
            return together([made.transfer(*pair, hop_fixed_s, hop_moving_s) for pair in ends])
        fixed_s = inside_s = between_s = 0.0
        for size, stride, volume in byte[what][a]:
            parts = collective_parts_s(volume, size, stride, hw, fit)
            fixed_s, inside_s, between_s = fixed_s + parts[0], inside_s + parts[1], between_s + parts[2]
        groups = [[(b * group + d) * tp + n for d in range(group)] for n in range(tp)]
        return together([made.timed(members, fixed_s, inside_s, between_s) for members in groups])

    found = {}
    for number, key in enumerate(graph.collective):
        if key not in known:
            known[key] = build(*key)
        found[number] = known[key]
    return found


__all__ = ["StepWork", "flows", "run_alone", "run_on_links", "step_work"]
