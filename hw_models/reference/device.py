"""The device that measures: `cost(ops, work)` executes each row and returns its time.

The candidates of a row are checked against higher precision, then timed; the fastest is its cost and names
its kernel. Rows of one shape are measured once.
"""

import dataclasses

import numpy as np
import torch

from hw_models.reference import attention, gemm, moe, stream
from hw_models.reference.candidate import Candidate, check, pass_caches
from hw_models.reference.environment import Environment, read
from hw_models.reference.timing import Timing, measure, num_buffer_past_cache
from kernels.errors import InputError
from kernels.optable import (
    ATTN_DECODE,
    ATTN_PREFILL,
    BOUND_LAUNCH,
    COST_DTYPE,
    ENGINE_TENSOR,
    GEMM,
    MOE,
    CostTable,
    OpTable,
    WorkTable,
)
from kernels.optable import mem_byte as mem_byte_of

TAGS = ("name", "phase", "count", "layer", "request", "microbatch", "work_start", "work_stop")


@dataclasses.dataclass(frozen=True)
class Measurement:
    """One operator's fastest kernel, and every other candidate with its time or the reason it failed."""

    kernel: str
    timing: Timing
    others: dict[str, str]


class ReferenceDevice:
    """A real device behind the door of the modelled ones.

    `kind`: "cuda" or "cpu"; `budget_s`: time spent on one candidate of one operator; `min_repeat`: of slow ones.
    """

    def __init__(self, kind: str, budget_s: float = 0.1, min_repeat: int = 5) -> None:
        self.environment: Environment = read(kind)
        self.budget_s, self.min_repeat = budget_s, min_repeat
        self.torch_device = torch.device(kind)
        self._known: dict[bytes, Measurement] = {}

    def cost(self, ops: OpTable, work: WorkTable) -> CostTable:
        """Measured time of each row times its `count`; energy is not measured and stays 0."""
        cost = np.zeros(len(ops), COST_DTYPE)
        for index, op in enumerate(ops):
            seconds = self.measure(op, work[op["work_start"] : op["work_stop"]]).timing.median_s
            cost[index] = (round(seconds * 1e12) * int(op["count"]), 0, ENGINE_TENSOR, BOUND_LAUNCH)
        return cost

    def measure(self, op: OpTable, work: WorkTable, only: str = "") -> Measurement:
        """The fastest correct kernel of one operator, or the kernel named `only`.

        Raises `InputError` where torch has no kernel, or none of them runs and is right.
        """
        key = op.copy()
        for tag in TAGS:
            key[tag] = np.zeros((), key.dtype[tag])
        name = key.tobytes() + work.tobytes() + only.encode()
        if name not in self._known:
            self._known[name] = self._measure(op, work, only)
        return self._known[name]

    def _measure(self, op: OpTable, work: WorkTable, only: str) -> Measurement:
        timed: dict[str, Timing] = {}
        cold = int(op["kind"]) in (GEMM, MOE, ATTN_PREFILL, ATTN_DECODE)  # the rest finds what the one before left
        working_byte = float(mem_byte_of(op[None])[0]) if cold else np.inf
        others: dict[str, str] = {}
        for candidate in self.candidates(op, work):
            if only not in ("", candidate.kernel):
                continue
            try:
                check(candidate)
                timed[candidate.kernel] = self._time(candidate, working_byte)
            except RuntimeError as error:  # unsupported shape, out of memory, or a wrong result
                others[candidate.kernel] = str(error).splitlines()[0]
        if not timed:
            reasons = "; ".join(f"{kernel}: {reason}" for kernel, reason in others.items())
            raise InputError(
                f"no kernel of torch executes this operator ({reasons})", field="name", value=bytes(op["name"]).decode()
            )
        best = min(timed, key=lambda kernel: timed[kernel].median_s)
        others |= {kernel: f"{timing.median_s:.3e} s" for kernel, timing in timed.items() if kernel != best}
        return Measurement(best, timed[best], others)

    def candidates(self, op: OpTable, work: WorkTable) -> list[Candidate]:
        """Every way in which torch can execute the row."""
        kind = int(op["kind"])
        if kind == GEMM:
            return gemm.candidates(op, self.torch_device)
        if kind in (ATTN_PREFILL, ATTN_DECODE):
            return attention.candidates(op, work, self.torch_device)
        if kind == MOE:
            return moe.candidates(op, self.torch_device)
        return stream.candidates(op, self.torch_device)

    def _time(self, candidate: Candidate, working_byte: float) -> Timing:
        cuda = self.torch_device.type == "cuda"
        free_byte = torch.cuda.mem_get_info()[0] if cuda else self.environment.memory_byte / 4
        number = num_buffer_past_cache(working_byte, self.environment.cache_byte, free_byte)
        runs = [candidate.make(index) for index in range(number)]
        with torch.inference_mode():
            return measure(
                lambda index: runs[index](), self.torch_device, self.budget_s, number, self.min_repeat,
                pass_caches if np.isfinite(working_byte) else lambda: None,
            )  # fmt: skip
