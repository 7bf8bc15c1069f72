"""DeepSeek-V4's attention: one shared head of keys that are values too, a window of raw entries in every layer and,
beside it, entries that pool `ratio` tokens each. At ratio 4 (CSA) an indexer picks `topk` of them and the pools
overlap; at 128 (HCA) all are read; at 0 there is the window alone.

Shapes after the checkpoint's modules `wq_a, wq_b, wkv, wo_a, wo_b, compressor, indexer` (DeepSeek-V4-Flash).
Its kernels are no plain attention (keys are gathered, and are values too), so that its products are written as such.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from kernels import optable as op
from kernels.optable import WorkTable
from workloads.models.layers.base import State
from workloads.models.tensor import Tensor
from workloads.work import visible, work_size

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
    rope_dim: int = 0
    index_head: int = 0  # 0: no indexer
    index_dim: int = 0
    topk: int = 0

    def _compressor(self, hidden: int, dim: int, series: int) -> int:
        """Projections of entries and gates, the bias of each place in a pool, the norm of the entry."""
        return 2 * hidden * series * dim + self.ratio * series * dim + dim

    @property
    def width(self) -> int:
        return 2 * self.num_head * self.head_dim

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
        if self.ratio:
            # the pool that is not whole yet: entries and gates of its tokens in fp32 (of two pools where they overlap)
            series = 2 if self.index_head else 1
            tail = 2 * series * self.ratio * series * (self.head_dim + (self.index_dim if self.index_head else 0))
            found.append(State("pool", tail, 4.0, sharded=False))
        return tuple(found)

    def lower(self, rows: "Rows", hidden: int) -> None:
        """Down and up projections, norms, rotary channels, the window's and the pools' writes, the grouped projection
        of the result."""
        m, tp, dim = rows.m, rows.placement.tp, self.head_dim
        head, group = self.num_head // tp, max(1, self.o_group // tp)
        rows.gemm("qkv_a_proj", m, self.q_rank + dim, hidden, "mixer")
        small = self.q_rank + dim + self.num_head  # two norms, the sink of each head
        rows.stream("latent_norm", op.NORM, m, self.q_rank + dim, 4.0, weight=small)
        rows.gemm("q_b_proj", m, head * dim, self.q_rank, "mixer")
        rows.stream("rope", op.ROPE, m, 2 * (head + 1) * self.rope_dim, 3.0)  # on queries and key, back on the result
        rows.kv_write(dim)
        if self.ratio:
            self._pool(rows, hidden, dim, "pool")
            rows.kv_write(dim, every=self.ratio)
        if self.index_head:
            rows.gemm("index_q", m, self.index_head * self.index_dim, self.q_rank, "mixer")
            rows.gemm("index_weight", m, self.index_head, hidden, "activation")
            self._pool(rows, hidden, self.index_dim, "index_pool")
            rows.kv_write(self.index_dim, "fp8", every=self.ratio)
        rows.gemm("o_a", m, self.o_rank, self.num_head * dim // self.o_group, "mixer", batch=group)
        rows.gemm("o_proj", m, hidden, self.o_group * self.o_rank // tp, "mixer")

    def _pool(self, rows: "Rows", hidden: int, dim: int, name: str) -> None:
        """Entries and gates of every token, and their weighted sums over a pool's tokens."""
        series = 2 if self.index_head else 1
        rows.gemm(name, rows.m, 2 * series * dim, hidden, "activation")
        rows.stream(
            f"{name}_sum",
            op.ACT,
            rows.m,
            series * dim,
            7.0,
            read=2,
            write=1 / self.ratio,
            weight=(self.ratio * series + 1) * dim,
        )  # the bias of each place, the norm of the entry

    def scan(self, rows: "Rows", work: WorkTable, decode: bool) -> None:
        """Attention over the window and the entries that are read, and the indexer's scores of all entries.

        An entry of a pool is seen once its pool is whole: `visible` of a span `ratio` times longer, over `ratio`.
        """
        pair, seen = visible(work, self.window)
        if self.ratio:
            reach = self.topk * self.ratio if self.index_head else 0
            more = visible(work, reach)
            pair, seen = pair + more[0] / self.ratio, seen + more[1] / self.ratio
        tp = rows.placement.tp
        self._product(rows, work, "attention", self.num_head // tp, self.head_dim, 2, pair, seen * self.head_dim
                      * rows.formats.kv_byte, decode)  # fmt: skip
        if self.index_head:  # on every device
            every_pair, every_key = (value / self.ratio for value in visible(work, 0))
            byte = every_key * self.index_dim * INDEX_KEY_BYTE
            self._product(rows, work, "index_score", self.index_head, self.index_dim, 1, every_pair, byte, decode)

    def _product(
        self, rows: "Rows", work: WorkTable, name: str, head: int, dim: int, products: int, pair: float,
        kv_byte: float, decode: bool,
    ) -> None:  # fmt: skip
        """Queries by keys (and scores by values) as one row: `head` rows a query against the mean keys that it sees."""
        query, sequence = work_size(work)
        batch = round(sequence) if decode else 1
        rows.add(
            name,
            op.GEMM,
            phase=op.PHASE_CODE["decode" if decode else "prefill"],
            m=round(query * head / batch),
            n=max(1, round(products * pair / query)),
            k=dim,
            batch=batch,
            flop=2.0 * products * pair * head * dim,
            act_byte=kv_byte + query * head * dim * rows.byte,
            write_byte=query * head * (dim if products > 1 else 0) * rows.byte,
        )
