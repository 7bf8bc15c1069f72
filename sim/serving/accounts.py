"""Where time and energy of a run went: every operator named again, weighted by how often its step happened."""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from kernels import optable as op
from kernels.attention_work import WINDOW
from kernels.engine.price import HOST_BLOCK, HOST_PREFILL, HOST_SEQ, HOST_STEP, HOST_TOKEN
from kernels.machine import BUSY_W, EXPERT_BYTE, EXPERT_PIM_BYTE, EXPERT_PIM_FLOP, IDLE_W, PIM_BYTE_PER_S, Machine
from sim.serving.adapters import num_product
from sim.serving.apart import FFN, SideTable
from sim.serving.images import Images
from sim.serving.result import Ints, ServeResult
from sim.serving.step_price import Lowered

HOST = -1  # kind of what the host does
AMOUNTS: tuple[str, ...] = ("byte", "flop", "pim_byte", "pim_flop", "link_byte")
"""Of an operator over a run, all devices: bytes of memory and FLOPs on the main engine, on the units in the memory,
and bytes on links."""
BYTE, FLOP, PIM_BYTE, PIM_FLOP, LINK_BYTE = range(len(AMOUNTS))
Floats = npt.NDArray[np.float64]
Row = tuple[list[int], Floats]  # time and energy; amounts


@dataclass(frozen=True, eq=False)
class Accounts:
    """Rows of (operator, kind, bound) with their sums over a run, all replicas.

    `time_ps` is of one device of each stage, summed over stages; `energy_nj` of all devices. Rows whose names begin
    with `ffn` are of a feed-forward side's machine. Without the rows of
    kind `P2P` (hand-overs, which no stage waits for) the times add up to the time in steps. `dispatch` is what
    devices waited for launches; names that begin with `draft` are of the draft model's passes, with `image` of the
    encoder of images.
    """

    name: list[str]
    kind: Ints  # codes of kernels.optable; -1 the host
    bound: Ints
    time_ps: Ints
    energy_nj: Ints
    amount: Floats  # [row, len(AMOUNTS)]
    num_operator: int  # executed, repetitions counted
    # joules of devices that compute nothing, side by side: one machine, or that of attention and of feed-forward (below
    # 0 where engines that ran side by side both counted the idle power)
    side_idle_nj: tuple[int, ...]
    side_idle_w: tuple[float, ...]  # watts of all devices of a side for being awake, one replica
    side: Ints  # of each row

    @property
    def idle_nj(self) -> int:
        """Nanojoules of all devices that compute nothing."""
        return sum(self.side_idle_nj)

    def side_nj(self, side: int) -> int:
        """Nanojoules of all devices of a side."""
        return int(self.energy_nj[self.side == side].sum()) + self.side_idle_nj[side]


def accounts(result: ServeResult, lowered: Lowered, images: Images | None = None) -> Accounts:
    """The accounts of a run whose prices come from `lowered`; `images` are those of its requests."""
    price = result.price
    rows: dict[tuple[str, int, int], Row] = {}
    devices = price.num_device
    num_operator, draft_ps = _draft(rows, result, lowered)
    for stage in range(len(price.dense_ps)):
        num_operator += _add_tables(rows, lowered, result.token_count.sum(axis=0), stage, devices)
    num_operator += _add_tables(rows, lowered, result.head_count.sum(axis=0), -1, devices)
    for phase, kind in enumerate((op.ATTN_PREFILL, op.ATTN_DECODE)):
        for bound in range(len(op.BOUNDS)):
            here = (slice(None), slice(price.attn_layer.shape[1]), phase, bound)
            moved = (result.attn_kb[here].sum() * 1e3, result.attn_mflop[here].sum() * 1e6)
            there = bound >= op.BOUND_PIM_COMPUTE
            amount = np.array([0.0, 0.0, *moved, 0.0] if there else [*moved, 0.0, 0.0, 0.0])
            _add(
                rows, "attention", kind, bound,
                int(result.attn_ps[here].sum()), int(result.attn_nj[here].sum()), amount,
            )  # fmt: skip
    num_operator += _add_images(rows, result, lowered, images)
    count = {name: int(values.sum()) for name, values in result.counter.items()}
    num_operator += _add_scans(rows, lowered, result)
    num_layer = int(price.attn_layer.sum())
    num_operator += num_layer * (count["num_prefill_step"] + count["num_decode_step"])
    full = price.attn_layer[:, price.decode_shape[:, WINDOW] == 0]
    num_operator += int(full.sum()) * count["num_span_step"]
    if count["adapter_ps"]:
        amount = np.array([count["adapter_kb"] * 1e3, count["adapter_mflop"] * 1e6, 0.0, 0.0, 0.0])
        bound = int(result.counter["adapter_bound"].max())
        _add(rows, "adapters", op.GEMM, bound, count["adapter_ps"], count["adapter_nj"], amount)
        num_operator += num_layer * num_product(lowered) * count["num_adapter_step"]
    host = price.host_ps
    host_ps = (
        host[HOST_STEP] * count["num_step"]
        + host[HOST_SEQ] * count["num_row"]
        + host[HOST_TOKEN] * count["num_token"]
        + host[HOST_PREFILL] * count["num_prefill_step"]
    )
    busy_w = float(lowered.machine.rate[BUSY_W]) * devices if lowered.host.busy else 0.0
    _add(rows, "host", HOST, op.BOUND_HOST, int(host_ps), round(busy_w * int(host_ps) * 1e-3))
    if price.dispatch_ps.any():
        waits = lowered.ffn is not None  # hand-overs between stages are nobody's time, those between sides a layer's
        on_stage = sum(value[0][0] for (_, kind, _), value in rows.items() if waits or kind != op.P2P)
        on_stage -= count["beside_ps"]
        moved_ps = int(host[HOST_BLOCK]) * count["num_moved_block"]
        _add(rows, "dispatch", HOST, op.BOUND_HOST, int(result.stage_busy_ps.sum()) - on_stage - moved_ps, 0)
    _add(rows, "kv_swap", op.TRANSFER, op.BOUND_LINK, int(host[HOST_BLOCK]) * count["num_moved_block"], 0)
    kept = {key: value for key, value in rows.items() if any(value[0])}
    time_ps = np.array([value[0][0] for value in kept.values()], np.int64)
    kind_of = np.array([key[1] for key in kept], np.int64)
    on_device = (kind_of != HOST) & (kind_of != op.TRANSFER)
    beside_draft = 0 if price.draft is None else (devices - price.draft.num_device) * draft_ps
    stage_ps = result.stage_busy_ps.size * result.span_ps + count["beside_ps"]
    idle_w = float(lowered.machine.rate[IDLE_W])
    side = np.array([int(key[0].startswith(FFN)) for key in kept], np.int64)
    linked = kind_of == op.P2P
    side_idle_w: tuple[float, ...] = (idle_w * devices,)
    idle_nj: tuple[int, ...]
    if lowered.ffn is None:
        # W ps = 1e-3 nJ
        idle_nj = (round(idle_w * (devices * (stage_ps - int(time_ps[on_device].sum())) + beside_draft) * 1e-3),)
    else:
        side_idle_w += (float(lowered.ffn.machine.rate[IDLE_W]) * lowered.ffn.placement.stage_device,)
        works = [int(time_ps[on_device & ((side == number) | linked)].sum()) for number in range(2)]
        span_ps = result.stage_busy_ps.size * result.span_ps
        idle_nj = tuple(round(w * (span_ps - ps) * 1e-3) for w, ps in zip(side_idle_w, works, strict=True))
    return Accounts(
        name=[key[0] for key in kept],
        kind=kind_of,
        bound=np.array([key[2] for key in kept], np.int64),
        time_ps=time_ps,
        energy_nj=np.array([value[0][1] for value in kept.values()], np.int64),
        amount=np.array([value[1] for value in kept.values()]).reshape(len(kept), len(AMOUNTS)),
        num_operator=num_operator,
        side_idle_nj=idle_nj,
        side_idle_w=side_idle_w,
        side=side,
    )


def _draft(rows: dict[tuple[str, int, int], Row], result: ServeResult, lowered: Lowered) -> tuple[int, int]:
    """Adds the draft model's operators, their names after `draft`; how many were executed, and their picoseconds."""
    work, price = result.draft, result.price.draft
    if work is None or price is None or lowered.draft is None:
        return 0, 0
    own: dict[tuple[str, int, int], Row] = {}
    num_operator = _add_tables(own, lowered.draft, work.token_count.sum(axis=0), 0, price.num_device)
    num_operator += _add_tables(own, lowered.draft, work.head_count.sum(axis=0), -1, price.num_device)
    num_operator += int(price.attn_layer.sum() * work.token_count.sum())
    for phase, kind in enumerate((op.ATTN_PREFILL, op.ATTN_DECODE)):
        for bound in range(len(op.BOUNDS)):
            time_ps, energy_nj, kb, mflop = work.attn[:, phase, bound].sum(axis=0)
            moved = (kb * 1e3, mflop * 1e6)
            amount = [0.0, 0.0, *moved, 0.0] if bound >= op.BOUND_PIM_COMPUTE else [*moved, 0.0, 0.0, 0.0]
            _add(own, "attention", kind, bound, int(time_ps), int(energy_nj), np.array(amount))
    device_ps = sum(value[0][0] for value in own.values())
    rows.update({(f"draft {name}", kind, bound): value for (name, kind, bound), value in own.items()})
    _add(rows, "draft host", HOST, op.BOUND_HOST, work.time_ps - device_ps, 0)
    return num_operator, device_ps


def _add_tables(rows: dict[tuple[str, int, int], Row], lowered: Lowered, count: Ints, stage: int, devices: int) -> int:
    """Adds the dense operators of a stage (the head where it is -1), `count` steps a size; how many were executed."""
    size: npt.NDArray[np.int64] = np.flatnonzero(count)
    if not len(size):
        return 0
    if stage < 0:
        ops = lowered.head(size)
        tables: tuple[SideTable, ...] = (
            SideTable(ops, lowered.price(ops, np.zeros(0, op.WORK_DTYPE)), devices, lowered.machine),
        )
    else:
        tables = lowered.dense_tables(stage, size)
    return sum(_add_table(rows, table, count[size][:, None]) for table in tables)


def _add_table(rows: dict[tuple[str, int, int], Row], table: SideTable, weight: Ints) -> int:
    ops, cost, devices = table.ops, table.cost, table.num_device
    time_ps, energy_nj = cost["time_ps"] * weight, cost["energy_nj"] * weight * devices
    amount = amounts(ops, cost["bound"], table.machine) * (ops["count"] * weight * float(devices))[..., None]
    for column in range(ops.shape[1]):
        for bound in np.unique(cost["bound"][:, column]):
            here = cost["bound"][:, column] == bound
            name, kind = ops["name"][0, column].decode(), int(ops["kind"][0, column])
            _add(rows, name, kind, int(bound), int(time_ps[here, column].sum()), int(energy_nj[here, column].sum()),
                 amount[here, column].sum(axis=0))  # fmt: skip
    return int((ops["count"] * weight).sum())


def _add_scans(rows: dict[tuple[str, int, int], Row], lowered: Lowered, result: ServeResult) -> int:
    """Adds the operators of recurrent layers, whose accounts stand behind those of attention; how many there were."""
    num_operator = 0
    steps = [int(result.counter[name].sum()) for name in ("num_prefill_step", "num_decode_step")]
    for c, scan in enumerate(lowered.scans(), result.price.attn_layer.shape[1]):
        for phase, kind in enumerate(scan.kind):
            num_operator += sum(scan.layer) * steps[phase] * (kind >= 0)
            for bound in range(len(op.BOUNDS)):
                here = (slice(None), c, phase, bound)
                amount = np.array(
                    [result.attn_kb[here].sum() * 1e3, result.attn_mflop[here].sum() * 1e6, 0.0, 0.0, 0.0]
                )
                _add(rows, scan.name, kind, bound, int(result.attn_ps[here].sum()), int(result.attn_nj[here].sum()),
                     amount)  # fmt: skip
    return num_operator


def _add_images(
    rows: dict[tuple[str, int, int], Row], result: ServeResult, lowered: Lowered, images: Images | None
) -> int:
    """Adds what was encoded of the requests that began, operators by their names after `image`; how many there were."""
    num_operator = 0
    began = result.request["start_ps"] >= 0
    for number, batch in enumerate(() if images is None else images.batch):
        times = int((began & (images.kind == number)).sum()) if images is not None else 0
        amount = (
            amounts(batch.ops, batch.cost["bound"], lowered.machine) * batch.ops["count"][:, None] * batch.num_device
        )
        for row, (name, kind) in enumerate(zip(batch.ops["name"], batch.ops["kind"], strict=True)):
            cost = batch.cost[row]
            _add(
                rows, f"image {name.decode()}", int(kind), int(cost["bound"]), times * int(cost["time_ps"]),
                times * int(cost["energy_nj"]) * batch.num_device, times * amount[row],
            )  # fmt: skip
        num_operator += times * int(batch.ops["count"].sum())
    return num_operator


def amounts(ops: op.OpTable, bound: Ints, machine: Machine) -> Floats:
    """`AMOUNTS` of one repetition of each operator on one device, shape `[*ops.shape, len(AMOUNTS)]`."""
    found = np.zeros((*ops.shape, len(AMOUNTS)))
    found[..., BYTE], found[..., FLOP], found[..., LINK_BYTE] = op.mem_byte(ops), ops["flop"], ops["link_byte"]
    there = bound >= op.BOUND_PIM_COMPUTE
    table = machine.expert
    if len(table):
        chosen = ops["kind"] == op.MOE
        at = np.minimum(ops["m"][chosen], len(table) - 1)
        scale = np.maximum(1.0, ops["m"][chosen] / (len(table) - 1))
        flop = ops["flop"][chosen]
        found[chosen, PIM_BYTE], found[chosen, PIM_FLOP] = (
            table[at, EXPERT_PIM_BYTE] * scale,
            np.minimum(flop, table[at, EXPERT_PIM_FLOP] * scale),
        )
        found[chosen, BYTE] = (table[at, EXPERT_BYTE] - table[at, EXPERT_PIM_BYTE]) * scale
        found[chosen, FLOP] = flop - found[chosen, PIM_FLOP]
        there = there & ~chosen
    if machine.rate[PIM_BYTE_PER_S] > 0:
        found[there, PIM_BYTE], found[there, PIM_FLOP] = found[there, BYTE], found[there, FLOP]
        found[there, BYTE] = found[there, FLOP] = 0.0
    return found


def _add(
    rows: dict[tuple[str, int, int], Row], name: str, kind: int, bound: int, time_ps: int, energy_nj: int,
    amount: Floats | None = None,
) -> None:  # fmt: skip
    total, moved = rows.setdefault((name, kind, bound), ([0, 0], np.zeros(len(AMOUNTS))))
    total[0] += time_ps
    total[1] += energy_nj
    if amount is not None:
        moved += amount
