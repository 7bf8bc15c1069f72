"""Writing the operator rows of a training step: each call adds the rows of all its passes.

A matrix product of the forward pass has two in the backward pass: the gradient of its input and that of its weight, of
as many FLOPs each. A row's `phase` says which pass it belongs to; `module` says which part of the layer it is, so that
recomputation repeats the forward rows of the modules that it names. Bytes are those of device memory, as in
`workloads.rows`; weights of the master copy, gradients and states are `update` rows.
"""

from typing import Any, NamedTuple

import numpy as np

from kernels import optable as op
from kernels.attention_work import num_pair
from kernels.errors import InputError
from kernels.formats import FORMAT_CODE, FORMATS
from kernels.rank_layout import group_node
from workloads.optimizers import optimizer, products
from workloads.training import TrainPlan

FORWARD, INPUT_GRAD, WEIGHT_GRAD, UPDATE = (
    op.PHASE_CODE[name] for name in ("forward", "input_grad", "weight_grad", "update")
)
PRECISIONS: dict[str, str] = {  # format of the layer's products; everything else is 16-bit
    "bf16": "bf16", "fp16": "fp16", "fp8": "fp8", "mxfp8": "fp8_block", "fp8_block": "fp8_block",
    "nvfp4": "nvfp4", "tf32": "tf32", "fp32": "fp32",
}  # fmt: skip
GROUPS = ("tp", "cp", "ep", "etp", "dp", "pp")


class Lowered(NamedTuple):
    """Operators of one microbatch on one device; `module` names the part of the layer that each row belongs to."""

    ops: op.OpTable
    work: op.WorkTable
    module: tuple[str, ...]


def precision_format(name: str) -> str:
    """The number format of the products of a training precision. `InputError` where there is none."""
    if name not in PRECISIONS:
        raise InputError("no such training precision", field="precision", value=name, allowed=PRECISIONS)
    return PRECISIONS[name]


class TrainRows:
    """Rows of one layer (or of the ends of a model) under a plan. `per_node`: devices of a node, in rank order."""

    def __init__(self, plan: TrainPlan, precision: str = "bf16", per_node: int = 8) -> None:
        self.plan, self.per_node = plan, per_node
        self.token = plan.seq * plan.micro_batch // plan.cp
        self.local = -(-self.token // plan.tp) if plan.sequence_parallel else self.token  # of the residual stream
        self.byte = plan.act_byte
        linear = precision_format(precision)
        self.wide = FORMAT_CODE[linear if linear in ("bf16", "fp16", "tf32", "fp32") else "bf16"]
        self.linear = FORMAT_CODE[linear]
        # Blocks of 128 values of a row: the input is kept once and narrowed again, transposed, for the gradient of its
        # weight (DeepSeek-AI 2024, arXiv 2412.19437, section 3.5.2); libraries of MXFP8 keep both from the start
        self.requantised = precision == "fp8_block"
        self.module = "other"
        self._rows: list[dict[str, Any]] = []
        self._module: list[str] = []
        self._work: list[tuple[int, int, int, int]] = []

    def add(self, name: str, kind: int, phase: int, **column: Any) -> None:
        """One row as it is."""
        fmt = column.pop("fmt", self.wide)
        self._rows.append({"name": name, "kind": kind, "phase": phase, "fmt": fmt, **column})
        self._module.append(self.module)

    def gemm(self, name: str, m: float, n: float, k: float, *, narrow: bool = True, batch: int = 1,
             frozen: bool = False) -> None:  # fmt: skip
        """`m x k` activations by a `k x n` weight: result, gradient of the input and (not of a `frozen` one) of the
        weight."""
        m, n, k = round(m), round(n), round(k)
        if min(m, n, k) < 1:
            return
        fmt = self.linear if narrow else self.wide
        weight, act = FORMATS[fmt].weight_bit / 8, FORMATS[fmt].act_bit / 8
        # a gradient is added in place where it is kept whole; where it is scattered after every pass it is written
        apart = self.plan.zero < 2 and not self.plan.fused_accumulation
        grad = self.byte if self.plan.zero >= 2 or apart else 2 * self.plan.grad_byte
        for phase, (a, b, c), left, right, out in (
            (FORWARD, (m, n, k), act, weight, self.byte),
            (INPUT_GRAD, (m, k, n), act, weight, self.byte),
            (WEIGHT_GRAD, (k, n, m), act, act, grad),
        ):
            if phase == WEIGHT_GRAD and frozen:
                continue
            self.add(
                name, op.GEMM, phase, fmt=fmt, m=a, n=b, k=c, batch=batch, flop=2.0 * a * b * c * batch,
                act_byte=float(a) * c * batch * left, weight_byte=float(b) * c * batch * right,
                write_byte=float(a) * b * batch * out,
            )  # fmt: skip

        if apart and not frozen:  # written as it is, then added to what is there
            size = float(n) * k * batch
            both = self.byte + self.plan.grad_byte
            self.add(f"{name}_add", op.ADD, WEIGHT_GRAD, m=k, n=n * batch, flop=size, act_byte=size * both,
                     write_byte=size * self.plan.grad_byte)  # fmt: skip

    def linear_map(self, name: str, m: float, n: float, k: float, *, bias: bool = False, batch: int = 1,
                   narrowed: bool = False) -> None:  # fmt: skip
        """A weight, the gradient of whose bias sums that of its result over the tokens; with its low-rank adapter
        beside it, where the plan trains adapters alone. `narrowed`: its input comes in the products' format."""
        rank = self.plan.lora_rank
        if self.linear != self.wide:  # narrowed once for each direction, with its transpose for the weight's gradient
            narrow = FORMATS[self.linear].act_bit / 8
            for phase, size in ((FORWARD, float(m) * k * batch), (INPUT_GRAD, float(m) * n * batch))[int(narrowed) :]:
                self.add(f"{name}_quant", op.CONVERT, phase, fmt=self.linear, m=round(m * batch),
                         n=round(size / m / batch), flop=2 * size, act_byte=size * self.byte,
                         write_byte=2 * size * narrow)  # fmt: skip
            if self.requantised and not rank:  # kept in blocks of its rows, multiplied in blocks of its columns
                size = float(m) * k * batch * narrow
                self.add(f"{name}_requant", op.CONVERT, WEIGHT_GRAD, fmt=self.linear, m=round(m * batch), n=round(k),
                         flop=2 * size, act_byte=size, write_byte=size)  # fmt: skip
        self.gemm(name, m, n, k, frozen=rank > 0, batch=batch)
        if not rank:
            for a, b, c in products(self.plan.optimizer, round(n), round(k)):
                self.add(f"{name}_update", op.GEMM, UPDATE, count=optimizer(self.plan.optimizer).rounds, m=a, n=b, k=c,
                         batch=batch, flop=2.0 * a * b * c * batch, act_byte=float(a) * c * batch * self.byte,
                         weight_byte=float(b) * c * batch * self.byte,
                         write_byte=float(a) * b * batch * self.byte)  # fmt: skip
        if bias and not rank:
            size = float(m) * n
            self.add(f"{name}_bias", op.ADD, WEIGHT_GRAD, m=round(m), n=round(n), flop=size, act_byte=size * self.byte)
        if rank:
            self.gemm(f"{name}_lora_a", m, rank, k, narrow=False, batch=batch)
            self.gemm(f"{name}_lora_b", m, n, rank, narrow=False, batch=batch)
            self.stream(f"{name}_lora_add", op.ADD, m * batch, n, 1.0, read=2, back=(0, 0))

    def stream(self, name: str, kind: int, m: float, n: float, flop: float, read: float = 1.0, write: float = 1.0,
               back: tuple[float, float] = (2.0, 1.0), byte: float = 0.0) -> None:  # fmt: skip
        """An element-wise operator over `m x n` values: tensors read and written forward, and (`back`) backward."""
        size, byte = float(m) * n, byte or self.byte
        m, n = round(m), round(n)
        if read or write:
            self.add(name, kind, FORWARD, m=m, n=n, flop=flop * size, act_byte=read * size * byte,
                     write_byte=write * size * byte)  # fmt: skip
        if any(back):
            self.add(name, kind, INPUT_GRAD, m=m, n=n, flop=2 * flop * size, act_byte=back[0] * size * byte,
                     write_byte=back[1] * size * byte)  # fmt: skip

    def attention(self, shape: tuple[int, int, int, int], window: int, work: list[tuple[int, int, int, int]]) -> None:
        """A fused attention on rows of work (count, query length, key length, causal), forward and backward."""
        head, kv_head, dim, v_dim = shape
        start = len(self._work)
        self._work += work
        _, rows = op.empty(0, len(work))
        for i, row in enumerate(work):
            rows[i] = row
        pair = float(sum(row[0] * num_pair(row[1], row[2], row[3], window) for row in work))
        query, key = float(sum(row[0] * row[1] for row in work)), float(sum(row[0] * row[2] for row in work))
        shared: dict[str, Any] = {
            "num_head": head, "num_kv_head": kv_head, "head_dim": dim, "v_head_dim": v_dim, "window": window,
            "kv_fmt": self.wide, "work_start": start, "work_stop": start + len(work),
        }  # fmt: skip
        both = query * head * (dim + v_dim) * self.byte
        stored = key * kv_head * (dim + v_dim) * self.byte
        out = query * head * v_dim * self.byte
        self.add("attention", op.ATTN_PREFILL, FORWARD, flop=2.0 * pair * head * (dim + v_dim), kv_byte=stored,
                 act_byte=query * head * dim * self.byte, write_byte=out, **shared)  # fmt: skip
        self.add("attention", op.ATTN_BACKWARD, INPUT_GRAD, flop=2.0 * pair * head * (3 * dim + 2 * v_dim),
                 kv_byte=stored, act_byte=both + out,
                 write_byte=query * head * dim * self.byte + stored, **shared)  # fmt: skip

    def link(self, name: str, kind: int, group: str, link_byte: float, *,
             phases: tuple[int, ...] = (FORWARD, INPUT_GRAD), back: int | None = None) -> None:  # fmt: skip
        """A collective over a group of the plan, once in each of `phases`; `back`: its kind in the backward pass."""
        size, _ = group_shape(self.plan, group)
        if size <= 1 or link_byte <= 0:
            return
        node = self.num_node(group)
        for phase in phases:
            chosen = kind if phase == FORWARD or back is None else back
            self.add(f"{group}_{name}", chosen, phase, link_byte=link_byte, group_size=size, group_node=node)

    def num_node(self, group: str) -> int:
        """Nodes that the devices of a group lie on."""
        size, stride = group_shape(self.plan, group)
        return group_node(size, stride, self.per_node, self.plan.num_device)

    def table(self) -> Lowered:
        """The rows so far."""
        ops, work = op.empty(len(self._rows), len(self._work))
        for r, row in enumerate(self._rows):
            for column, value in row.items():
                try:
                    ops[column][r] = value
                except OverflowError:
                    raise InputError("more than an operator can hold", field=column, value=value,
                                     allowed="at most 2147483647") from None  # fmt: skip
        for w, one in enumerate(self._work):
            work[w] = one
        return Lowered(ops, work, tuple(self._module))


def group_shape(plan: TrainPlan, group: str) -> tuple[int, int]:
    """(ranks of a parallel group, ranks between its neighbours): tensor parallelism innermost, then context, data and
    pipeline; experts over the tensor, context and data ranks that `etp` leaves.

    >>> group_shape(TrainPlan(tp=2, dp=16, ep=32), "ep"), group_shape(TrainPlan(tp=2, dp=16, ep=4), "ep")
    ((32, 1), (4, 2))
    """
    tp, etp = plan.tp, plan.expert_tp
    shapes = {
        "tp": (tp, 1), "cp": (plan.cp, tp), "dp": (plan.dp * plan.cp, tp), "pp": (plan.pp, tp * plan.cp * plan.dp),
        "etp": (etp, 1), "ep": (plan.ep, etp), "edp": (plan.expert_dp, etp * plan.ep),
    }  # fmt: skip
    return shapes[group]


assert np.dtype(op.OP_DTYPE)["name"].itemsize >= 20
