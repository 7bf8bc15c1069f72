"""Step prices of a model on a machine: every operator of every step, priced once and looked up after that.

`build` lowers the dense part of each stage for all token counts at once and the head for all sampled counts, and
takes the attention classes' constants; `step_cost` prices one plan from them, and equals the sum over the
operators of `workloads.lowering.lower_step` to the picosecond (a test says so for every family of models).
"""

import dataclasses
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from kernels import optable as op
from kernels.attention import NUM_FEATURE
from kernels.attention_work import SPAN, fit_format, longest_span
from kernels.engine.apart import APART_FIELDS, spread_saved_ps
from kernels.engine.beside import hidden_ps
from kernels.engine.price import (
    PackedPrice,
    StepPrice,
    add_prefill,
    add_verify,
    blank,
    is_padded,
    pack,
    prefill_cost,
    ragged_cost,
    verify_cost,
)
from kernels.engine.records import KV_MAX_STILL, KV_SUM, NUM_KV_FIELD, Ints
from kernels.engine.scan import scan_cost
from kernels.engine.sub_batch import interleaves, saved_ps
from kernels.errors import InputError
from kernels.formats import FORMATS
from kernels.machine import BESIDE, BESIDE_SUB_BATCH, Machine
from kernels.price import price_table
from kernels.units import LONGEST_PS, PS_PER_S
from sim.serving.apart import FfnSide, SideTable, fill, side_tables
from sim.serving.host_link import host_byte_per_s
from sim.serving.plan import NO_SPANS, Spans
from sim.serving.scan_price import ScanRow, scan_rows
from sim.serving.slower import slower, with_block_experts
from workloads import lowering, memory
from workloads.formats import Formats
from workloads.models.spec import Attention, ModelSpec
from workloads.placement import Placement

CHUNK = 2048  # token counts lowered at once
_NO_WORK = np.zeros(0, op.WORK_DTYPE)


@dataclass(frozen=True)
class HostTime:
    """What an engine makes of the device's time: seconds that its host adds, how batches are padded to captured graph
    sizes, and how much slower its kernels are than those of the calibration."""

    step_s: float = 0.0  # a step: scheduling, launch of the step, detokenization
    seq_s: float = 0.0  # a sequence of a step: its inputs prepared, its token handled
    token_s: float = 0.0  # a computed token
    request_s: float = 0.0  # once a request: received, tokenized, queued
    graph_token: tuple[int, ...] = ()  # a step of fewer tokens computes as many as the next of these
    prefill_s: float = 0.0  # a step that holds a prompt
    layer_s: float = 0.0  # a layer of a step
    # launches of a layer, while the device computes: a step lasts no shorter than them, unless it is of decodes alone
    # and no larger than the largest captured graph
    dispatch_layer_s: float = 0.0
    busy: bool = False  # devices draw as busy meanwhile (`sim.serving.engine_profile`)
    device_s: float = 0.0  # a step, each of several devices of a replica
    kernel_factor: float = 1.0  # times of kernels other than collectives, over those of the calibration
    decode_factor: float = 1.0  # of decode attention, over that
    prefill_factor: float = 1.0  # of prompts' attention, likewise
    unshared: bool = False  # each query head of a decode reads its keys itself
    block_expert_s: float = 0.0  # a layer of block-scaled experts, beside its products
    fused: tuple[str, ...] = ()  # kinds of operators that are part of a neighbour's kernel ...
    fused_group: tuple[str, ...] = ()  # ... and those that are where all-reduces stand beside them
    reduce_byte: float = math.inf  # all-reduces of larger messages inside a node ...
    reduce_byte_per_s: float = math.inf  # ... send no faster than this

    def kernels(self, machine: Machine, tp: int) -> Machine:
        """The machine with the engine's kernels, `tp` devices to a group."""
        fused = self.fused + (self.fused_group if tp > 1 else ())
        machine = slower(machine, self.kernel_factor, self.decode_factor, self.unshared, fused, self.prefill_factor)
        return with_block_experts(machine, self.block_expert_s)

    def vector_ps(self, num_layer: int, block_s: float, num_device: int = 1) -> list[int]:
        """`[HOST_FIELDS]` picoseconds for a model of so many layers; `block_s` moves a block."""
        step_s = self.step_s + self.layer_s * num_layer + (self.device_s * num_device if num_device > 1 else 0.0)
        times = (step_s, self.seq_s, self.token_s, self.request_s, self.prefill_s, block_s)
        return [round(seconds * PS_PER_S) for seconds in times]

    def dispatch_ps(self, num_layer: int, token: int, num_prefill: int) -> int:
        """The least that a stage of `num_layer` takes for a step of `token` tokens."""
        graph = num_prefill == 0 and token <= max(self.graph_token, default=0)
        return 0 if graph else round(num_layer * self.dispatch_layer_s * PS_PER_S)

    def reduce_ps(self, ops: op.OpTable) -> Ints:
        """Picoseconds that each row cannot do without: of a large all-reduce, a ring's bytes at the engine's rate."""
        size = ops["group_size"]
        slow = (ops["kind"] == op.ALL_REDUCE) & (ops["link_byte"] > self.reduce_byte) & (size > 1)
        sent = 2.0 * (size - 1) / size * ops["link_byte"] * ops["count"]
        return np.where(slow, np.round(sent / self.reduce_byte_per_s * PS_PER_S), 0.0).astype(np.int64)


@dataclass(frozen=True)
class Lowered:
    """What a step price was built from; enough to name every operator again."""

    model: ModelSpec
    formats: Formats
    placement: Placement
    machine: Machine
    skew: float
    host: HostTime
    draft: "Lowered | None" = None  # of the draft model
    ffn: FfnSide | None = None  # the machine that computes the feed-forward parts; None: the same

    def classes(self) -> list[Attention]:
        """Attention classes of the whole model, in order of first layer."""
        return list(self.model.attention_class(0, self.model.num_layer))

    def scans(self) -> list[ScanRow]:
        """Operators of the recurrent kinds of the whole model, as rows of a step price."""
        return scan_rows(self.model, self.formats, self.placement, self.machine)

    def price(self, ops: op.OpTable, work: op.WorkTable) -> np.ndarray:
        """Costs of operators in any shape of table, as this engine runs them."""
        return self.price_on(ops, work, self.machine)

    def price_on(self, ops: op.OpTable, work: op.WorkTable, machine: Machine) -> np.ndarray:
        """As `price`, on a device of either side."""
        cost = price_table(ops.reshape(-1), work, machine).reshape(ops.shape)
        if math.isfinite(self.host.reduce_byte_per_s):
            cost["time_ps"] = np.maximum(cost["time_ps"], self.host.reduce_ps(ops))
        if cost.size and int(cost["time_ps"].max()) >= LONGEST_PS:
            row = ops.flat[int(cost["time_ps"].argmax())]
            raise InputError(
                "an operator takes longer than a step may",
                field=row["name"].decode(), value=f"{cost['time_ps'].max() / PS_PER_S:.3g} s",
                allowed=f"up to {LONGEST_PS / PS_PER_S:.0f} s",
            )  # fmt: skip
        return cost

    def padded(self, num_token: npt.ArrayLike) -> Ints:
        """Tokens that a step of `num_token` computes in its dense part: those of the next captured graph."""
        token = np.asarray(num_token, np.int64)
        graph = np.array(sorted({0, *self.host.graph_token}), np.int64)
        at = np.searchsorted(graph, token)
        return np.where(at < len(graph), graph[np.minimum(at, len(graph) - 1)], token)

    def dense_tables(self, stage: int, num_token: npt.ArrayLike) -> tuple[SideTable, ...]:
        """Dense operators of a stage for each token count with their costs, machine by machine: `dense`, or the tables
        of two sides."""
        if self.ffn is None:
            ops = self.dense(stage, num_token)
            return (SideTable(ops, self.price(ops, _NO_WORK), self.placement.stage_device, self.machine),)
        return side_tables(
            self.model, self.formats, self.placement, self.machine, self.skew, self.ffn, num_token, self.padded,
            lambda ops, machine: self.price_on(ops, _NO_WORK, machine),
        )  # fmt: skip

    def dense(self, stage: int, num_token: npt.ArrayLike) -> op.OpTable:
        """Dense operators of a stage for each token count of a replica (an even share of it in each attention group):
        shape `[count, rows]`."""
        token = self.padded(-(-np.asarray(num_token, np.int64) // self.placement.attn_dp))
        return lowering.lower_dense(self.model, self.formats, self.placement, stage, token, self.skew)

    def head(self, num_sampled: npt.ArrayLike) -> op.OpTable:
        """Operators of the head on the last stage for each number of sampled tokens."""
        last = self.placement.pp - 1
        sampled = -(-np.asarray(num_sampled, np.int64) // self.placement.attn_dp)
        return lowering.lower_head(self.model, self.formats, self.placement, last, sampled)

    def step(
        self, stage: int, plan: lowering.Plan, read_len: Ints | None = None, spans: Spans = NO_SPANS
    ) -> tuple[op.OpTable, op.WorkTable]:
        """Operators and work rows of one plan on a stage: `workloads.lowering.lower_step` at captured sizes. Layers
        without a window read `read_len` keys a sequence (None: all of the plan's) and the spans beside them."""
        if read_len is not None and (read_len != plan.kv_len).any():
            return self._reading(stage, plan, read_len, spans)
        model, formats, placement = self.model, self.formats, self.placement
        prefill = lowering.work_rows(plan.query_len[~plan.is_decode], plan.kv_len[~plan.is_decode])
        decode = lowering.work_rows(plan.query_len[plan.is_decode], plan.kv_len[plan.is_decode])
        attend = lowering.lower_attention(model, formats, placement, stage, decode, "decode")
        attend["work_start"] += len(prefill)
        attend["work_stop"] += len(prefill)
        ops = [
            self.dense(stage, [int(plan.query_len.sum())])[0],
            lowering.lower_attention(model, formats, placement, stage, prefill, "prefill"),
            attend,
        ]
        if stage == placement.pp - 1:
            ops.append(self.head([int(plan.samples.sum())])[0])
        return np.concatenate(ops), np.concatenate([prefill, decode])

    def _reading(
        self, stage: int, plan: lowering.Plan, read_len: Ints, spans: Spans
    ) -> tuple[op.OpTable, op.WorkTable]:
        """The step with other keys in the layers without a window, and a row of work more for each span."""
        ops, work = self.step(stage, plan)
        own_ops, own = self.step(stage, dataclasses.replace(plan, kv_len=read_len))
        together = lowering.work_rows(spans.query_len, spans.kv_len)
        together["causal"] = SPAN
        shared = lowering.lower_attention(self.model, self.formats, self.placement, stage, together, "decode")
        shared = shared[shared["window"] == 0]
        mine = ((ops["kind"] == op.ATTN_DECODE) | (ops["kind"] == op.ATTN_PREFILL)) & (ops["window"] == 0)
        for rows, offset in ((own_ops, len(work)), (shared, len(work) + len(own))):
            rows["work_start"] += offset
            rows["work_stop"] += offset
        ops[mine] = own_ops[mine]
        return np.concatenate([ops, shared]), np.concatenate([work, own, together])


def build(
    model: ModelSpec,
    formats: Formats,
    placement: Placement,
    machine: Machine,
    *,
    max_token: int,
    max_seq: int,
    max_sampled: int = 0,
    skew: float = 0.0,
    host: HostTime | None = None,
    block_token: int = 16,
    block_byte: float | None = None,
    ffn: FfnSide | None = None,
) -> tuple[StepPrice, Lowered]:
    """Prices of all steps of up to `max_token` computed tokens and `max_seq` sequences (of `max_sampled` tokens that go
    through the head, where that is more), and what they came from.

    Times are of one device of each stage; energies of all devices of a stage. A hand-over between stages is no
    part of either stage's time. A block swapped moves its share of every device over the host link, which those behind
    one PCIe switch share: `block_byte` a device, by default what `block_token` tokens keep. `ffn` computes the
    feed-forward parts of the layers, of one stage, under this engine too.
    Raises `InputError` for what this path cannot price.
    """
    host = host or HostTime()
    machine = host.kernels(machine, placement.tp)
    if ffn is not None:
        ffn = dataclasses.replace(ffn, machine=host.kernels(ffn.machine, ffn.placement.tp))
    lowered = Lowered(model, formats, placement, machine, skew, host, ffn=ffn)
    classes, scans = lowered.classes(), lowered.scans()
    if scans and machine.rate[BESIDE] == BESIDE_SUB_BATCH:
        raise InputError(
            "sub-batches are of layers of attention", field="dispatch", value="sub_batch", allowed="another dispatch"
        )
    max_sampled = max(max_sampled, max_seq)
    price = blank(placement.pp, len(classes), max_token, max_sampled)
    if ffn is not None:
        price = price._replace(apart=np.zeros((len(APART_FIELDS), max_token + 1), np.int64))
    for stage in range(placement.pp):
        for start in range(0, max_token + 1, CHUNK):
            token = np.arange(start, min(start + CHUNK, max_token + 1))
            if ffn is not None:
                tables = lowered.dense_tables(stage, token)
                fill(price, token, tables, ffn.microbatch(token)[0])
                continue
            ops = lowered.dense(stage, token)
            cost = lowered.price(ops, _NO_WORK)
            sends = ops["kind"] == op.P2P
            for kept, time_ps, energy_nj in (
                (~sends, price.dense_ps, price.dense_nj), (sends, price.send_ps, price.send_nj),
            ):  # fmt: skip
                time_ps[stage, token] = (cost["time_ps"] * kept).sum(axis=1)
                energy_nj[stage, token] = (cost["energy_nj"] * kept).sum(axis=1) * placement.stage_device
            price.before_ps[stage, token] = (cost["time_ps"] * before_attention(ops)).sum(axis=1)
    cost = lowered.price(lowered.head(np.arange(max_sampled + 1)), _NO_WORK)
    price.head_ps[:] = cost["time_ps"].sum(axis=1)
    price.head_nj[:] = cost["energy_nj"].sum(axis=1) * placement.stage_device
    _attention(price, lowered, classes)
    if block_byte is None:
        block_byte = block_token * memory.kv_byte_per_token(model, formats, placement)
    link_byte_per_s = host_byte_per_s(machine, placement)
    block_s = block_byte / link_byte_per_s if link_byte_per_s > 0 else 0.0
    price.host_ps[:] = host.vector_ps(model.num_layer, block_s, placement.num_device)
    layers = [stop - start for start, stop in placement.stages(model.num_layer)]
    price.dispatch_ps[:] = np.round(np.array(layers) * host.dispatch_layer_s * PS_PER_S)
    price = price._replace(graph_token=max(host.graph_token, default=0))
    if scans:
        price = price._replace(
            scan=np.stack([row.price for row in scans]), scan_layer=np.array([row.layer for row in scans]).T
        )
    return price._replace(num_device=placement.stage_device, num_group=placement.attn_dp), lowered


def before_attention(ops: op.OpTable) -> npt.NDArray[np.bool_]:
    """Operators that a layer does before its attention: from its first norm up to the output projection."""
    names = ops["name"].reshape(-1, ops.shape[-1])[0]
    inside, found = False, []
    for name in names:
        inside = (inside or name == b"attn_norm") and name != b"o_proj"
        found.append(inside)
    return np.array(found)


def _attention(price: StepPrice, lowered: Lowered, classes: Sequence[Attention]) -> None:
    """Layers of each class on each stage, and the constants of its two kernels, read off its operator rows."""
    model, machine, placement = lowered.model, lowered.machine, lowered.placement
    work = lowering.work_rows([1], [1])
    for stage, (start, stop) in enumerate(placement.stages(model.num_layer)):
        held = model.attention_class(start, stop)
        price.attn_layer[stage] = [held.get(attention, 0) for attention in classes]
    price.rate[:] = machine.rate
    for phase, shape, fit in (
        ("prefill", price.prefill_shape, price.prefill_fit),
        ("decode", price.decode_shape, price.decode_fit),
    ):
        for c, attention in enumerate(classes):
            row = _row(lowered, attention, work, phase)
            stored_byte = FORMATS[row["kv_fmt"]].weight_bit / 8
            shape[c] = [
                *(row[name] for name in ("num_head", "num_kv_head", "head_dim", "v_head_dim", "window")),
                stored_byte,
            ]
            heads, wide, narrow = (float(row[name]) for name in ("num_kv_head", "head_dim", "v_head_dim"))
            fit[c] = machine.fit[row["kind"], fit_format(heads, wide, narrow, int(row["fmt"]), int(row["kv_fmt"]))]
            price.peak_flop_per_s[c] = machine.peak_flop_per_s[row["fmt"]]


def _row(lowered: Lowered, attention: Attention, work: op.WorkTable, phase: str) -> np.void:
    rows = lowering.Rows(lowered.formats, lowered.placement, 1, 0)
    lowering.attention_row(rows, attention, work, phase)
    return rows.table()[0]


def step_cost(price: StepPrice | PackedPrice, stages: StepPrice, plan: lowering.Plan) -> tuple[Ints, Ints, Ints]:
    """Picoseconds and nanojoules of each stage, and picoseconds of each hand-over, for one plan.

    `price` may be packed already; `stages` is the unpacked one.
    """
    packed = pack(price) if isinstance(price, StepPrice) else price
    num_stage, num_class = stages.attn_layer.shape
    token, sampled = int(plan.query_len.sum()), int(plan.samples.sum())
    time_ps, energy_nj = stages.dense_ps[:, token].copy(), stages.dense_nj[:, token].copy()
    sums = np.zeros(num_class * NUM_KV_FIELD, np.int64)
    for c in range(num_class):
        feature = np.zeros(NUM_FEATURE)
        for query, kv in zip(plan.query_len[~plan.is_decode], plan.kv_len[~plan.is_decode], strict=True):
            add_prefill(packed, c, feature, int(query), int(kv))
        window = int(stages.decode_shape[c, 4])
        query, kv_len = plan.query_len[plan.is_decode], plan.kv_len[plan.is_decode]
        longest = int(kv_len.max(initial=0))
        keys = np.minimum(kv_len, window + query - 1) if window else kv_len
        prefill = prefill_cost(packed, c, feature)
        most = int(query.max(initial=1))
        if (query == most).all() or is_padded(packed, c):
            decode = verify_cost(packed, c, len(keys), most, int(keys.sum()), longest_span(longest, window))
        else:
            feature[:] = 0.0
            for one, kv in zip(query, kv_len, strict=True):
                add_verify(packed, c, feature, int(one), int(kv))
            decode = ragged_cost(packed, c, feature)
        layer_ps = prefill[0] + decode[0] - hidden_ps(prefill[0], decode[0], decode[2], packed.real)
        time_ps += stages.attn_layer[:, c] * layer_ps
        energy_nj += stages.attn_layer[:, c] * (prefill[1] + decode[1])
        field = c * NUM_KV_FIELD
        sums[field + KV_SUM], sums[field + KV_MAX_STILL] = int(keys.sum()), longest_span(longest, window)
    num_decode = int(plan.is_decode.sum())
    num_prompt, prompt_token = int((~plan.is_decode).sum()), int(plan.query_len[~plan.is_decode].sum())
    for row in range(len(stages.scan)):
        for phase, counts in enumerate(((prompt_token, num_prompt), (num_decode, num_decode))):
            scan = scan_cost(packed, row, phase, *counts)
            time_ps += stages.scan_layer[:, row] * scan[0]
            energy_nj += stages.scan_layer[:, row] * scan[1]
    if plan.is_decode.all() and (plan.query_len == 1).all() and interleaves(packed, num_decode):
        time_ps -= [saved_ps(packed, stage, num_decode, sums, 0) for stage in range(num_stage)]
    elif num_prompt:
        time_ps[0] -= spread_saved_ps(packed, token, int(time_ps[0] - stages.dense_ps[0, token]))
    time_ps[num_stage - 1] += stages.head_ps[sampled]
    energy_nj[num_stage - 1] += stages.head_nj[sampled]
    return time_ps, energy_nj, stages.send_ps[:, token].copy()
