"""What does orthogonalising every matrix cost where weights are sharded, done once or on every rank? (NorMuon, 2025)"""

from typing import TYPE_CHECKING, Any

import pandas as pd

from kernels.optable import ALL_GATHER
from sim.training.estimate import estimate, known_site
from studies._gpt import llama
from studies._panels import Panel, panels
from studies._second_order import Product, exchange_s, matrices, products_s, stream_s
from studies._verdict import frame, order, point, row
from workloads.optimizers import optimizer, products
from workloads.training import TrainPlan

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CLAIM = (
    "NorMuon (Li et al. 2025): 1.1B parameters with 21.74 % less training than Adam, orthogonalised across FSDP2 ranks"
)
SMALL: dict[str, Any] = {"counts": (8, 64), "tokens": (2**20,)}
SYSTEM, SEQ = "dgx_h100", 2048
MODEL = llama("1.1B", 2048, 22, 32, 4, 5632, 32000)  # shape not published
COUNTS, TOKENS = (8, 16, 32, 64), (2**19, 2**20, 2**21)
SAVED = {"Adam": 0.2174, "Muon": 0.1131}  # of the training that it takes to the same loss
ADAM, ONCE, ALL = "Adam", "each matrix on one rank", "every matrix on every rank"
OVER, NET = "step over Adam's", "time saved over Adam"
NOTE = (
    "a 1.1B Llama on 8 to 64 H100 (shape and number not published), 0.5M to 2M tokens a step, ZeRO 3, five "
    "Newton-Schulz rounds in bf16; a matrix is gathered where it is orthogonalised, and its update sent back"
)


def update_s(way: str, num_gpu: int) -> float:
    """Seconds that an update adds to Adam's: rounds of products, gathers, and the passes of rows' norms."""
    where = known_site(SYSTEM, num_gpu, "pytorch-fsdp", "flash2")
    if way == ADAM:
        return 0.0
    own = 1 / num_gpu if way == ONCE else 1.0
    rounds = optimizer("muon").rounds
    every = [Product(*one, rounds * count * own) for rows, columns, count in matrices(MODEL)
             for one in products("muon", rows, columns)]  # fmt: skip
    value = float(sum(rows * columns * count for rows, columns, count in matrices(MODEL)))
    turns = 2 if way == ONCE else 1  # gathered; the update goes back where only one rank has it
    moved = turns * exchange_s(where, ALL_GATHER, 2.0 * value, num_gpu)
    return products_s(where, every, "bf16") + moved + stream_s(where, 2 * 2.0 * value * own)


def adam_s(num_gpu: int, token: int) -> float:
    """A step of Adam."""
    batch = token // SEQ
    plan = TrainPlan(dp=num_gpu, micro_batch=min(4, batch // num_gpu), batch=batch, seq=SEQ, zero=3)
    return estimate(MODEL, plan, known_site(SYSTEM, num_gpu, "pytorch-fsdp", "flash2")).step_s


def over(way: str, num_gpu: int, token: int) -> float:
    """A step over Adam's."""
    return 1 + update_s(way, num_gpu) / adam_s(num_gpu, token)


def run(counts: tuple[int, ...] = COUNTS, tokens: tuple[int, ...] = TOKENS) -> pd.DataFrame:
    """A step of either way by GPUs, and what is left of the published saving."""
    rows: list[dict[str, Any]] = []
    found = {(way, n, token): over(way, n, token) for way in (ONCE, ALL) for n in counts for token in tokens}
    once, every = ([value for (way, _, _), value in found.items() if way == name] for name in (ONCE, ALL))
    kept = [1 - (1 - SAVED[ADAM]) * one for one in once]
    rows.append(row(ONCE, NET, "1.1B", SAVED[ADAM], kept[0], f"the published saving less what the step adds; {NOTE}",
                    said=True, spread=kept))  # fmt: skip
    fewest = [over(ALL, n, tokens[0]) - over(ONCE, n, tokens[0]) for n in counts]
    rows += [
        order(ONCE, "order: cheaper than on every rank", "1.1B, every size",
              all(a < b for a, b in zip(once, every, strict=True)), NOTE),
        order(ALL, "order: more ranks lose more by repeating", "1.1B", fewest == sorted(fewest), NOTE),
        order(ONCE, "memory: no more than Muon's, a third less than Adam's", "bytes a value",
              optimizer("muon").state_byte < 0.7 * optimizer("adam").state_byte,
              "a second moment a row is a value in two thousand"),
    ]  # fmt: skip
    for way in (ONCE, ALL):
        rows += [point(way, OVER, f"{token / 2**20:g}M tokens, {n}", found[way, n, token])
                 for token in tokens for n in counts]  # fmt: skip
    return frame(rows)


def plot(table: pd.DataFrame) -> "Figure":
    """A step over Adam's by GPUs, a panel a batch, and what is left of the saving."""
    part = table[table["claim"] == OVER]
    sizes = list(dict.fromkeys(part["setup"].str.split(", ").str[0]))
    shown = [Panel(OVER, f"{size} a step, GPUs", OVER, f"{size}, ", curve=True) for size in sizes]
    shown.append(Panel(NET, "with 21.7 % less training", NET))
    return panels(table, shown, "NorMuon: orthogonalisation over FSDP ranks")
