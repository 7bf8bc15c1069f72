"""FlexSP: sequence-parallel groups of many sizes, chosen for every batch of long-tailed lengths."""

import functools
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import pandas as pd

from hw_models import catalog
from hw_models.spec import System
from sim.training.batch_plan import heterogeneous_batch, homogeneous_batch
from sim.training.fitted.group_cost import GroupCost, group_cost
from studies._long_tail import DATA, grouped, lengths
from studies._table import row
from workloads.training import TrainPlan

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CLAIM = "FlexSP (Wang et al. 2025): up to 1.98 times faster than sequence parallelism of one size, on 64 GPUs"
NUM_DEVICE, NUM_SEQUENCE = 64, 512
DEGREES = (1, 2, 4, 8, 16, 32, 64)
MODELS, CONTEXTS = ("gpt3-7b", "gpt3-13b", "gpt3-30b"), (192, 384)  # contexts in K tokens
NOTE = (
    "lengths are ours (log-normal, seeded), as are 512 sequences a batch and 400 Gbit/s a node; ZeRO-3, exchange of "
    "heads, constants of megatron-a100; layers recomputed where the context does not fit without"
)


@functools.cache
def system() -> System:
    """Eight nodes of eight A100-40GB with 400 Gbit/s each: two HDR ports."""
    base = catalog.system("dgx_a100_40gb", NUM_DEVICE)
    return replace(base, node=replace(base.node, num_nic=2))


@functools.cache
def costs(model: str, context: int) -> GroupCost:
    """Of every group size, with the least recomputation that lets all devices together hold `context` tokens."""
    for recompute in ("none", "full"):
        plan = TrainPlan(zero=3, ulysses=True, recompute=recompute, grad_byte=2.0)
        found = group_cost(model, system(), plan, DEGREES, num_device=NUM_DEVICE)
        if found.capacity.max() >= context:
            break
    return found


@functools.cache
def case(model: str, context_k: int, data: str, num_sequence: int = NUM_SEQUENCE, seed: int = 0) -> dict[str, Any]:
    """Seconds of one batch: the one group size that holds the context, the best one size for this batch, and many."""
    context = context_k * 1024
    cost, length = costs(model, context), lengths(data, num_sequence, context, seed)
    holds = [at for at, room in enumerate(cost.capacity) if room >= context]
    single = {at: plan for at in range(len(DEGREES)) if (plan := homogeneous_batch(cost, length, NUM_DEVICE, at))}
    many = heterogeneous_batch(cost, length, NUM_DEVICE)
    return {
        "model": model, "context": f"{context_k}K context", "data": data, "degree": DEGREES[holds[0]],
        "static": single[holds[0]].seconds, "best single size": min(plan.seconds for plan in single.values()),
        "many sizes": many.seconds,
    }  # fmt: skip


def run(
    models: tuple[str, ...] = MODELS, contexts: tuple[int, ...] = CONTEXTS, data: tuple[str, ...] = tuple(DATA),
    num_sequence: int = NUM_SEQUENCE,
) -> pd.DataFrame:  # fmt: skip
    """Gains over the static size for every model, context and data; their largest; never below the best single size."""
    cases = [case(m, c, d, num_sequence) for m in models for c in contexts for d in data]
    rows = []
    for one in cases:
        setup = f"{one['model']}, {one['context']}, {one['data']}, static size {one['degree']}"
        gain = one["static"] / one["many sizes"]
        rows.append(row("many sizes", "faster than the static size, ratio", setup, (1.0, 1.98), gain, NOTE, 0.1))
    largest = max(one["static"] / one["many sizes"] for one in cases)
    over = min(one["best single size"] / one["many sizes"] for one in cases)
    cause = f"largest of {len(cases)} cases: it depends on lengths and network; {NOTE}"
    rows.append(row("many sizes", "faster than the static size, up to", "every case", 1.98, largest, cause, 0.15))
    rows.append(
        row("many sizes", "faster than the best single size, at least", "every case", (1.0, 9.0), over, NOTE, 0.0)
    )
    return pd.DataFrame(rows)


def plot(table: pd.DataFrame) -> "Figure":
    """Seconds of a batch for every model and data, a panel a context."""
    cases = pd.DataFrame([case(m, c, d) for c in CONTEXTS for m in MODELS for d in DATA])
    series = ("static", "best single size", "many sizes")
    title = "FlexSP: groups of one size and of many, 64 A100-40GB"
    return grouped(cases, "context", ("model", "data"), series, "seconds a batch of 512 sequences", title)
