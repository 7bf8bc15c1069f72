"""What do tokens cost that travel to experts on other GPUs, and back? (DeepEP 2025, expert parallelism on H800)"""

import functools
import math
from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd

from hw_models.calibration.exchange_fit import shapes
from hw_models.device import cost
from kernels import optable
from kernels.expert_exchange import EXCHANGE_FIT, copies
from kernels.formats import FORMAT_CODE
from studies._panels import Panel, panels
from studies._steps import arrays
from studies._verdict import frame, order, row

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CLAIM = "DeepEP (2025): 153 GB/s inside a node and 58 between nodes, 77 us to send 128 tokens to 8 GPUs, 194 us to 256"
SMALL: dict[str, Any] = {}
SYSTEM, HIDDEN, TOPK, NUM_EXPERT = "h800", 7168, 8, 256
FP8_BYTE = 1 + 4 / 128  # a value with its share of the scales
WAYS = {"dispatch": (optable.DISPATCH, FP8_BYTE), "combine": (optable.COMBINE, 2.0)}
MANY, FEW, GROUP_LIMIT = 4096, 128, 4  # tokens of a GPU; nodes that a token of training goes to at most
# as the README has it: GPUs: GB/s of dispatch and of combine, the bottleneck's (NVLink of 8, RDMA of more)
RATE = {8: (153, 158), 16: (43, 43), 32: (58, 57), 64: (51, 50)}
LATENCY = {8: (77, 114), 16: (118, 195), 32: (155, 273), 64: (173, 314), 128: (192, 369), 256: (194, 360)}  # us
# the README until June 2025, whose low-latency kernels used the network alone, inside a node too
RDMA = {8: (163, 318), 16: (173, 329), 32: (182, 350), 64: (186, 353), 128: (192, 369), 256: (194, 360)}  # us
CORES, EXPERTS = (24, 20), (256, 288)  # of the authors' tests, by version; with 32 copies of experts or without
BANDWIDTH, MICROSECOND, ALONE = "bottleneck bandwidth, GB/s", "latency, us", "latency over the network alone, us"
OPEN = (
    "constants are those of a later version of the library on H100 (SGLang 0.5's), carried to H800 by its links alone; "
    "no row there is bound by links alone (73 % of them at most; here 67 % and, where 8 GPUs of each of two nodes pass "
    "on, 62 %), and its low-latency kernels were rewritten since the tables (bulk copies, unrolled sends): on H100 "
    "they take 102 and 186 us for 16 GPUs, which the fit misses by some per cent"
)
NORMAL = (
    "kernels on 24 or on 20 cores, by version; bytes as the authors' test counts them, a GPU's own included; fitted "
    f"up to 4 nodes; {OPEN}"
)
SAME = "both versions print this number: one row, with links inside a node and over the network alone"
LOW = f"256 or 288 experts where they divide evenly; fitted up to 8 nodes; {OPEN}"


class Exchanged(NamedTuple):
    """One exchange: seconds, and the bytes of a GPU's tokens by device and by node that they go to."""

    second: float
    device_byte: float
    node_byte: float


@functools.cache
def exchange(
    way: str, token: int, num_gpu: int, expert: int, core: int, node_limit: int, system: str, per_node: int = 8
) -> Exchanged:
    """Dispatch or combine of `token` tokens a GPU; `node_limit` 0: a token goes to any node; `per_node` 1: over the
    network wherever it goes."""
    ops, work = optable.empty(1)
    one, (kind, byte) = ops[0], WAYS[way]
    one["kind"], one["fmt"], one["m"], one["n"] = kind, FORMAT_CODE["bf16"], token, HIDDEN * byte
    one["topk"], one["num_expert"], one["group_size"], one["group_node"] = TOPK, expert, num_gpu, num_gpu // per_node
    one["window"], one["k"] = node_limit, core
    where = arrays(system, num_gpu)
    second = float(cost(ops, work, where)["time_ps"][0]) * 1e-12
    if per_node == 1:  # bytes leave by every port, but the time of a doubling, fitted on nodes of eight, counts nodes
        doubled_s = where.fit[kind, FORMAT_CODE["bf16"], EXCHANGE_FIT.index("ll_node_s")]
        second -= math.log2(num_gpu / max(num_gpu // 8, 2)) * doubled_s
    device, node = copies(shapes(ops)[0])
    return Exchanged(second, token * HIDDEN * byte * device, token * HIDDEN * byte * node)


def rate(way: str, num_gpu: int, core: int, system: str = SYSTEM) -> float:
    """GB/s of the training kernels at what binds them."""
    node = num_gpu // 8
    found = exchange(way, MANY, num_gpu, NUM_EXPERT, core, min(node, GROUP_LIMIT) if node > 1 else 0, system)
    return (found.node_byte if node > 1 else found.device_byte) / found.second / 1e9


def run(rates: tuple[int, ...] = tuple(RATE), latencies: tuple[int, ...] = tuple(LATENCY)) -> pd.DataFrame:
    """Every number of the published tables."""
    table: list[dict[str, Any]] = []
    for at, way in enumerate(WAYS):
        for num_gpu in rates:
            found = [rate(way, num_gpu, core) for core in CORES]
            table.append(row(f"DeepEP {way}", BANDWIDTH, f"{num_gpu} GPUs", RATE[num_gpu][at], found[0], NORMAL,
                             spread=found))  # fmt: skip
        for num_gpu in latencies:
            both, alone = (
                [1e6 * exchange(way, FEW, num_gpu, expert, 0, 0, SYSTEM, per_node).second
                 for expert in EXPERTS if expert % num_gpu == 0]
                for per_node in (8, 1)
            )  # fmt: skip
            again = RDMA[num_gpu] == LATENCY[num_gpu]
            table.append(row(f"DeepEP {way}", MICROSECOND, f"{num_gpu} GPUs", LATENCY[num_gpu][at], both[0],
                             f"{SAME}; {LOW}" if again else LOW, spread=both + alone * again))  # fmt: skip
            if not again:
                table.append(row(f"DeepEP {way}", ALONE, f"{num_gpu} GPUs", RDMA[num_gpu][at], alone[0], LOW,
                                 spread=alone))  # fmt: skip
    peak = [rate("dispatch", num_gpu, CORES[0]) for num_gpu in (16, 32, 64)]
    table.append(order("DeepEP", "order: four nodes move more than two, and than eight of which a token reaches four",
                       "dispatch of 4,096 tokens", peak[1] == max(peak), NORMAL))  # fmt: skip
    return frame(table)


def plot(table: pd.DataFrame) -> "Figure":
    """The tables: GB/s of the training kernels, microseconds of the low-latency ones."""
    shown = [Panel(BANDWIDTH, "4,096 tokens a GPU", "GB/s"), Panel(MICROSECOND, "128 tokens a GPU", "us", curve=True),
             Panel(ALONE, "the same, network alone", "us", curve=True)]  # fmt: skip
    return panels(table, shown, "DeepEP: tokens to their experts and back, H800", columns=3)
