"""Where the ranks of a training job lie: parallel dimensions in an order, their groups, and what leaves a node.

Ranks fill nodes in order. A dimension further in has its members closer together; the usual order, innermost first, is
tensor, context, data, pipeline (Megatron-LM's `tp-cp-ep-dp-pp`). Experts lie over the same ranks in an order of their
own: `expert_tp` inside, then `ep`, then what is left of a stage's ranks, the pipeline where the dense order has it.
"""

import math
from dataclasses import dataclass

from kernels.errors import InputError
from kernels.rank_layout import group_node, hop_node

DENSE = ("tp", "cp", "dp", "pp")


@dataclass(frozen=True)
class Ranks:
    """Sizes and order of the parallel dimensions, and devices a node.

    >>> job = Ranks(tp=8, pp=16, dp=8, ep=64)
    >>> job.group("tp"), job.group("dp"), job.group("ep"), job.group("expert_dp")
    ((8, 1, 1), (8, 8, 8), (64, 1, 8), (1, 64, 1))
    >>> Ranks(pp=16).crossing()  # 16 stages on two nodes: one hop of fifteen leaves its node
    (7,)
    """

    tp: int = 1
    cp: int = 1
    dp: int = 1
    pp: int = 1
    ep: int = 1
    expert_tp: int = 1
    order: tuple[str, ...] = DENSE  # innermost first
    device_per_node: int = 8

    def __post_init__(self) -> None:
        if sorted(self.order) != sorted(DENSE):
            raise InputError("an order of all dimensions", field="order", value=self.order, allowed=DENSE)
        if self.order.index("pp") not in (0, len(DENSE) - 1):
            raise InputError("stages are innermost or outermost", field="order", value=self.order, allowed=DENSE)
        sizes = {"tp": self.tp, "cp": self.cp, "dp": self.dp, "pp": self.pp, "ep": self.ep, "expert_tp": self.expert_tp}
        for name, size in {**sizes, "device_per_node": self.device_per_node}.items():
            if size < 1:
                raise InputError("out of range", field=name, value=size, allowed="1 or more")
        if self.stage_rank % (self.ep * self.expert_tp):
            raise InputError(
                "experts do not fit the ranks of a stage", field="ep x expert_tp", value=self.ep * self.expert_tp,
                allowed=f"a divisor of tp x cp x dp = {self.stage_rank}",
            )  # fmt: skip

    @property
    def stage_rank(self) -> int:
        """Ranks of one pipeline stage."""
        return self.tp * self.cp * self.dp

    @property
    def num_rank(self) -> int:
        return self.stage_rank * self.pp

    def place(self, name: str) -> tuple[int, int]:
        """Members of a dimension's group and the ranks between two of them: "tp", "cp", "dp", "pp", "dp_cp" (the
        replicas of dense weights), "ep", "expert_tp", "expert_dp" (the replicas of experts)."""
        size = {"tp": self.tp, "cp": self.cp, "dp": self.dp, "pp": self.pp}
        start = math.prod([self.pp] if self.order[0] == "pp" else [])
        apart = {"expert_tp": start, "ep": start * self.expert_tp, "expert_dp": start * self.expert_tp * self.ep}
        own = {"expert_tp": self.expert_tp, "ep": self.ep, "expert_dp": self.stage_rank // (self.ep * self.expert_tp)}
        if name in own:
            return own[name], apart[name]
        if name == "dp_cp":
            first, second = sorted(("cp", "dp"), key=self.order.index)
            if self.order.index(second) != self.order.index(first) + 1:
                raise InputError("replicas lie apart", field="order", value=self.order, allowed="cp beside dp")
            return self.cp * self.dp, self.place(first)[1]
        if name not in size:
            raise InputError("no such dimension", field="name", value=name, allowed=(*size, "dp_cp", *own))
        return size[name], math.prod(size[inner] for inner in self.order[: self.order.index(name)])

    def group(self, name: str) -> tuple[int, int, int]:
        """(members, ranks between two of them, nodes that the widest of its groups touches)."""
        size, stride = self.place(name)
        return size, stride, group_node(size, stride, self.device_per_node, self.num_rank)

    def crossing(self, *, looped: bool = False) -> tuple[int, ...]:
        """Stages whose hop to the next leaves a node (for any of their ranks); `looped`: the last stage's hop to the
        first as well, as interleaved schedules have it."""
        size, stride = self.place("pp")
        stages = range(size if looped else size - 1)
        return tuple(
            stage for stage in stages if hop_node(stage, size, stride, self.device_per_node, self.num_rank) == 2
        )
