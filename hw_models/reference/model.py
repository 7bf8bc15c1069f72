"""A randomly initialised transformer of any described shape, with a paged KV cache, run step by step.

What the simulator prices as an operator table this runs as a model: embedding, attention over block tables,
dense or expert feed-forward parts, LM head and greedy sampling, for a batch that mixes prefill chunks and
decodes. On CUDA a pure-decode step is captured once per padded batch and span, and replayed.
"""

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch.nn import functional

from hw_models.reference import layers
from hw_models.reference.candidate import seeded
from hw_models.reference.environment import read, settle_threads
from hw_models.reference.gemm import TORCH_DTYPE
from hw_models.reference.timing import host_clock
from kernels.errors import InputError


@dataclasses.dataclass(frozen=True)
class Span:
    """One sequence's part of a step: `query_len` new tokens, the last of which sees `kv_len` keys (its own
    included); `block` lists its KV blocks in order."""

    query_len: int
    kv_len: int
    block: Sequence[int]


def build_model(
    spec: Any,
    kind: str,
    number_format: str,
    num_block: int,
    block_token: int,
    pad_batch: Sequence[int] = (),
    seed: int = 0,
    threads: int = 0,
) -> "ReferenceModel":
    """The model by names: `kind` "cpu" or "cuda", weights and KV in `number_format`; `threads` of a CPU (0: as many
    as torch uses).

    Raises `InputError` for a device that is not there or a format that torch does not run a whole model in.
    """
    if number_format not in TORCH_DTYPE:
        raise InputError("torch runs whole models in these alone", field="weight_format", value=number_format,
                         allowed=list(TORCH_DTYPE))  # fmt: skip
    read(kind)
    if kind == "cpu" and threads > 0:
        settle_threads(threads)
    return ReferenceModel(spec, torch.device(kind), TORCH_DTYPE[number_format], num_block, block_token, pad_batch, seed)


def graph_batches(kind: str, most: int) -> list[int]:
    """Batches of decodes that a device captures as graphs: close enough that padding to the next costs little.

    >>> graph_batches("cuda", 20), graph_batches("cpu", 20)
    ([1, 2, 4, 8, 16, 24], [])
    """
    return [1, 2, 4, *range(8, most + 8, 8)] if kind == "cuda" else []


def graph_blocks(longest: int) -> int:
    """KV blocks a sequence of the graph that serves `longest`: four sizes an octave, so that few are captured and
    little more is read.

    >>> [graph_blocks(n) for n in (1, 7, 9, 17, 100)]
    [1, 7, 10, 20, 112]
    """
    step = max(1, 1 << (longest - 1).bit_length() >> 3)
    return -(-longest // step) * step


class ReferenceModel:
    """Weights and KV cache on one device.

    `spec`: an architecture with the fields of a model description (`hidden`, `vocab`, `layer`, `block`, ...);
    `num_block` KV blocks of `block_token` tokens. Raises `InputError` for what it cannot run, or where weights
    and cache do not fit.
    """

    def __init__(
        self,
        spec: Any,
        device: torch.device,
        dtype: torch.dtype,
        num_block: int,
        block_token: int,
        pad_batch: Sequence[int] = (),
        seed: int = 0,
    ) -> None:
        if spec.position not in ("rope", "learned", "none"):
            raise InputError("the reference model has no such positions", field="position", value=spec.position,
                             allowed=["rope", "learned", "none"])  # fmt: skip
        for block in spec.block:
            a, f = block.attention, block.ffn
            odd = {"recurrent layers": block.mixer, "no attention": not a.num_head, "no feed-forward part": f.empty,
                   "an indexer": a.indexer, "a gated result": a.gate, "shared keys": a.shared_kv or a.key_is_value,
                   "experts in latent space": f.latent}  # fmt: skip
            if any(odd.values()):
                what = next(name for name, is_there in odd.items() if is_there)
                raise InputError(f"the reference model has no layers with {what}", field="model", value=spec.name,
                                 allowed="attention and a feed-forward part in every layer")  # fmt: skip
        self.spec, self.device, self.dtype, self.block_token = spec, device, dtype, block_token
        self.num_block = num_block
        self.pad_batch = sorted(pad_batch)
        count = iter(range(seed * 1_000_003, (seed + 1) * 1_000_003))

        def weight(*shape: int) -> torch.Tensor:
            scale = shape[-1] ** -0.5
            return seeded(*shape, seed=next(count), device=device, dtype=dtype, scale=scale)

        try:
            self.embedding = weight(spec.vocab, spec.hidden)
            self.head = self.embedding if spec.tied else weight(spec.vocab, spec.hidden)
            self.position = weight(spec.position_row, spec.hidden) if spec.position == "learned" else None
            self.layers = [layers.build(spec.block[index], spec.hidden, weight) for index in spec.layer]
            width = [layers.cache_width(spec.block[index].attention) for index in spec.layer]
            self.cache = [torch.zeros(num_block + 1, block_token, size, device=device, dtype=dtype) for size in width]
        except torch.OutOfMemoryError as error:
            raise InputError(
                f"model and KV cache do not fit: {str(error).splitlines()[0]}", field="num_block", value=num_block
            ) from None
        self._graph: dict[tuple[int, int], tuple[Callable[[], None], dict[str, torch.Tensor], torch.Tensor]] = {}
        # captured graphs run one after the other, so that they can share the memory of what they compute between
        self._pool = torch.cuda.graph_pool_handle() if device.type == "cuda" else None

    def step(self, spans: Sequence[Span]) -> tuple[torch.Tensor, float]:
        """Run one step and wait for it: the sampled token of each span, and the seconds it took on the host's
        clock (`timing.host_clock`), which is what an engine iteration waits for."""
        clock = host_clock(self.device)
        with torch.inference_mode():
            decode = all(span.query_len == 1 for span in spans)
            if decode:
                self._capture(self._shape(spans))  # a server captures before it serves: not part of the step
            start = clock()
            sampled = self._decode(spans) if decode else self._mixed(spans)
            token = sampled.cpu()  # waits for the device
        return token, clock() - start

    def _mixed(self, spans: Sequence[Span]) -> torch.Tensor:
        """Prefill chunks one by one, and the decodes among them as one batch."""
        order = sorted(range(len(spans)), key=lambda row: spans[row].query_len == 1)
        ranked = [spans[row] for row in order]
        chunks = [s for s in ranked if s.query_len > 1]
        decodes = ranked[len(chunks) :]
        position = torch.cat([torch.arange(s.kv_len - s.query_len, s.kv_len) for s in ranked]).to(self.device)
        slot = torch.cat([self._slot(s)[s.kv_len - s.query_len : s.kv_len] for s in ranked]).to(self.device)
        last = torch.cumsum(torch.tensor([s.query_len for s in ranked]), 0).to(self.device) - 1
        tables = [(s.query_len, s.kv_len, torch.tensor(list(s.block), device=self.device)) for s in chunks]
        num_block = max((len(s.block) for s in decodes), default=0)
        table = torch.tensor([[*s.block, *[0] * (num_block - len(s.block))] for s in decodes], device=self.device)
        kv_len = torch.tensor([s.kv_len for s in decodes], device=self.device)

        def attend(q: torch.Tensor, cache: torch.Tensor, attention: Any) -> torch.Tensor:
            parts, begin = [], 0
            for query_len, length, blocks in tables:
                keys = layers.gather(cache, blocks)[None, :length]
                parts.append(layers.attend_prefill(q[begin : begin + query_len], keys, attention))
                begin += query_len
            if decodes:
                keys = layers.gather(cache, table).unflatten(0, (len(decodes), -1))
                parts.append(layers.attend_decode(q[begin:], keys, kv_len, attention))
            return torch.cat(parts)

        sampled = self._forward(position % self.spec.vocab, position, slot, attend, last)
        return sampled[torch.tensor(order).argsort().to(self.device)]

    def _shape(self, spans: Sequence[Span]) -> tuple[int, int]:
        """Batch and KV blocks a sequence that a pure-decode step is padded to."""
        batch = next((size for size in self.pad_batch if size >= len(spans)), len(spans))
        longest = max(len(s.block) for s in spans)
        return batch, graph_blocks(longest) if self.pad_batch else longest

    def _decode(self, spans: Sequence[Span]) -> torch.Tensor:
        batch, num_block = shape = self._shape(spans)
        run, buffer, sampled = self._graph[shape]
        scratch = self.cache[0].shape[0] - 1  # the spare block takes what padded rows write
        table = torch.full((batch, num_block), scratch, dtype=torch.int64)
        kv_len = torch.ones(batch, dtype=torch.int64)
        for row, span in enumerate(spans):
            table[row, : len(span.block)] = torch.tensor(list(span.block))
            kv_len[row] = span.kv_len
        buffer["table"].copy_(table)
        buffer["kv_len"].copy_(kv_len)
        run()
        return sampled[: len(spans)]

    def _capture(self, shape: tuple[int, int]) -> None:
        """Make the decode step of this shape ready: on CUDA a graph of it."""
        if shape in self._graph:
            return
        batch, num_block = shape
        buffer = {
            "table": torch.zeros(batch, num_block, dtype=torch.int64, device=self.device),
            "kv_len": torch.ones(batch, dtype=torch.int64, device=self.device),
        }
        sampled = torch.zeros(batch, dtype=torch.int64, device=self.device)
        last = torch.arange(batch, device=self.device)

        def run() -> None:
            table, kv_len = buffer["table"], buffer["kv_len"]
            position = kv_len - 1
            block = table.gather(1, (position // self.block_token)[:, None])[:, 0]
            slot = block * self.block_token + position % self.block_token

            def attend(q: torch.Tensor, cache: torch.Tensor, attention: Any) -> torch.Tensor:
                keys = layers.gather(cache, table).unflatten(0, (batch, -1))
                return layers.attend_decode(q, keys, kv_len, attention)

            sampled.copy_(self._forward(position % self.spec.vocab, position, slot, attend, last))

        if self.device.type != "cuda":
            self._graph[shape] = run, buffer, sampled
            return
        stream = torch.cuda.Stream()
        stream.wait_stream(torch.cuda.current_stream())
        with torch.cuda.stream(stream):
            run()
        torch.cuda.current_stream().wait_stream(stream)
        graph = torch.cuda.CUDAGraph()
        with torch.cuda.graph(graph, pool=self._pool):
            run()
        torch.cuda.synchronize()
        self._graph[shape] = graph.replay, buffer, sampled

    def _forward(
        self,
        token: torch.Tensor,
        position: torch.Tensor,
        slot: torch.Tensor,
        attend: Callable[[torch.Tensor, torch.Tensor, Any], torch.Tensor],
        last: torch.Tensor,
    ) -> torch.Tensor:
        x = functional.embedding(token, self.embedding)
        if self.position is not None:
            x = x + self.position[position]
        for layer, cache in zip(self.layers, self.cache, strict=True):
            x = layers.run(layer, x, position, slot, cache, attend)
        x = layers.norm(x[last])
        return functional.linear(x, self.head).argmax(-1)

    def _slot(self, span: Span) -> torch.Tensor:
        block = torch.tensor(list(span.block))
        return (block[:, None] * self.block_token + torch.arange(self.block_token)[None]).flatten()
