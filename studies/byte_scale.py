"""ByteScale: hybrid data parallelism, a group size for every sequence, against a static mesh."""

import functools
from typing import TYPE_CHECKING, Any

import pandas as pd

from hw_models import catalog, topology
from kernels.errors import InputError
from sim.training.fitted.group_cost import GroupCost, group_cost
from sim.training.hybrid_data import hybrid_step, static_step
from studies._long_tail import filled, grouped
from studies._table import row
from workloads.training import TrainPlan

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CLAIM = "ByteScale (Ge et al. 2025): up to 7.89 times faster than a static mesh, 7B to 141B, 256K to 2048K tokens"
SYSTEM, NUM_DEVICE, TOKEN = "hgx_h800", 1024, 32 * 2**20  # tokens a step
CONTEXTS = (256, 512, 1024, 2048)  # K tokens
MODELS = {"llama-2-7b": (1, 1), "llama-2-70b": (8, 1), "mixtral-8x22b": (8, 3)}  # tensor parallelism, ZeRO stage
SERIES = ("static mesh", "hybrid", "+ balance", "+ offload")
NOTE = (
    "lengths are ours (log-normal, seeded), as are 1,024 H800 and 32M tokens a step of the more than 12,000 GPUs; one "
    "pipeline stage; the mesh's ring crosses nodes by one port a hop; layers recomputed where a context does not fit"
)


@functools.cache
def costs(model: str, context: int, num_device: int) -> GroupCost:
    """Of every number of ranks, with the least recomputation that lets all together hold `context` tokens."""
    tp, zero = MODELS[model]
    degrees = [2**n for n in range(11) if 2**n * tp <= num_device]
    for recompute in ("none", "full"):
        plan = TrainPlan(tp=tp, zero=zero, sequence_parallel=tp > 1, recompute=recompute)
        found = group_cost(model, SYSTEM, plan, degrees, num_device=num_device)
        if found.capacity.max() >= context:
            return found
    raise InputError("does not fit", field="context", value=context)


@functools.cache
def case(model: str, context_k: int, num_device: int = NUM_DEVICE, token: int = TOKEN) -> dict[str, Any]:
    """Seconds of a step of the static mesh and of hybrid data parallelism with more and more of its parts."""
    context, num_rank = context_k * 1024, num_device // MODELS[model][0]
    cost, length = costs(model, context, num_device), filled(token, context)
    host = float(topology.link_rows(catalog.system(SYSTEM, num_device))[2][0])
    seconds = (
        static_step(cost, length, num_rank, context).seconds,
        hybrid_step(cost, length, num_rank, balance=False).seconds,
        hybrid_step(cost, length, num_rank).seconds,
        hybrid_step(cost, length, num_rank, host_byte_per_s=host).seconds,
    )
    return {"model": model, "context": f"{context_k}K"} | dict(zip(SERIES, seconds, strict=True))


def run(
    models: tuple[str, ...] = tuple(MODELS), contexts: tuple[int, ...] = CONTEXTS, num_device: int = NUM_DEVICE,
    token: int = TOKEN,
) -> pd.DataFrame:  # fmt: skip
    """Gains over the static mesh of every model and context, their largest, and that they grow with the context."""
    rows: list[dict[str, Any]] = []
    gains: dict[str, list[float]] = {}
    for model in models:
        gains[model] = []
        for context in contexts:
            one = case(model, context, num_device, token)
            mesh, dealt, balanced, full = (one[name] for name in SERIES)
            gains[model].append(mesh / full)
            note = f"hybrid alone {mesh / dealt:.2f} x, balanced {mesh / balanced:.2f} x; {NOTE}"
            rows.append(row("ByteScale", "faster than the static mesh, ratio", f"{model}, {one['context']} context",
                            (1.0, 7.89), gains[model][-1], note, 0.1))  # fmt: skip
        grows = all(a <= b for a, b in zip(gains[model], gains[model][1:], strict=False))
        cause = (
            "a mesh for the longest sequence suits the others the less; 70B recomputes from 1024K on, which needs less"
        )
        rows.append(row("ByteScale", "gain grows with the context, 1 if so", model, 1.0, float(grows), cause, 0.0))
    largest = max(max(values) for values in gains.values())
    rows.append(row("ByteScale", "faster than the static mesh, up to", "every model and context", 7.89, largest,
                    f"7B keeps 32 heads of keys, which the mesh sends round 512 ranks; {NOTE}", 0.15))  # fmt: skip
    return pd.DataFrame(rows)


def plot(table: pd.DataFrame) -> "Figure":
    """Seconds of a step for every context, a panel a model."""
    cases = pd.DataFrame([case(model, context) for model in MODELS for context in CONTEXTS])
    title = "ByteScale: a static mesh and hybrid data parallelism, 1,024 H800, 32M tokens a step"
    return grouped(cases, "model", ("context",), SERIES, "seconds a step", title)
