"""DeepSeek-V4's attention: one shared head of keys that are values too, a window of raw entries in every layer and,
beside it, entries that pool `ratio` tokens each. At ratio 4 (CSA) an indexer picks `topk` of them and the pools
overlap; at 128 (HCA) all are read; at 0 there is the window alone.

Shapes after the checkpoint's modules `wq_a, wq_b, wkv, wo_a, wo_b, compressor, indexer` (DeepSeek-V4-Flash).
Nobody has lowered its operators: `ModelSpec.unpriced` names `compress_ratios`.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from kernels.errors import InputError
from workloads.models.layers.base import State
from workloads.models.tensor import Tensor

if TYPE_CHECKING:
    from workloads.rows import Rows

INDEX_KEY_BYTE = 132.0 / 128.0  # an indexer's key of 128 fp8 values and one fp32 scale


@dataclass(frozen=True)
class Compressed:
    num_head: int
    head_dim: int
    q_rank: int
    o_rank: int  # of each group
    o_group: int
    window: int
    ratio: int = 0
    index_head: int = 0  # 0: no indexer
    index_dim: int = 0
    topk: int = 0

    def _compressor(self, hidden: int, dim: int, series: int) -> int:
        """Projections of entries and gates, the bias of each place in a pool, the norm of the entry."""
        return 2 * hidden * series * dim + self.ratio * series * dim + dim

    def tensors(self, hidden: int) -> list[Tensor]:
        series = 2 if self.index_head else 1
        inner = self.num_head * self.head_dim
        found = [
            Tensor("q_a", "mixer", hidden * self.q_rank, module=("attn.wq_a", "self_attn.q_a_proj")),
            Tensor("q_b", "mixer", self.q_rank * inner, 1, "tp", module=("attn.wq_b", "self_attn.q_b_proj")),
            Tensor("kv_proj", "mixer", hidden * self.head_dim, module=("attn.wkv", "self_attn.kv_proj")),
            Tensor("o_a", "mixer", inner * self.o_rank, 1, "tp", module=("attn.wo_a", "self_attn.o_a_proj")),
            Tensor(
                "o_b", "mixer", self.o_group * self.o_rank * hidden, 1, "tp", module=("attn.wo_b", "self_attn.o_b_proj")
            ),
            Tensor("mix_norm", "norm", self.q_rank + self.head_dim + self.num_head),  # two norms, the sink of each head
        ]
        if self.ratio:
            found.append(Tensor("compressor", "norm", self._compressor(hidden, self.head_dim, series)))
        if self.index_head:
            query = self.q_rank * self.index_head * self.index_dim
            found += [
                Tensor("index_q", "mixer", query, module=("attn.indexer.wq_b", "self_attn.indexer.q_b_proj")),
                Tensor("index_k", "norm", hidden * self.index_head + self._compressor(hidden, self.index_dim, series)),
            ]
        return found

    def states(self) -> tuple[State, ...]:
        found = [State("window", self.head_dim, 0.0, window=self.window, cached=True, sharded=False)]
        if self.ratio:
            found.append(State("compressed", self.head_dim, 0.0, ratio=self.ratio, cached=True, sharded=False))
        if self.index_head:
            found.append(State("index", self.index_dim, INDEX_KEY_BYTE, ratio=self.ratio, sharded=False))
        return tuple(found)

    def lower(self, rows: "Rows", hidden: int) -> None:
        raise InputError("compressed attention is not priced", field="compress_ratios", value=self.ratio)

    def scan(self, rows: "Rows", token: float, sequence: float, decode: bool) -> None:
        raise InputError("compressed attention is not priced", field="compress_ratios", value=self.ratio)
