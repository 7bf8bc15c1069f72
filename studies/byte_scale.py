"""ByteScale: hybrid data parallelism, a group size for every sequence, against a static mesh."""

import functools
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from hw_models import catalog, topology
from kernels.errors import InputError
from sim.training.group_cost import GroupCost, group_cost
from sim.training.hybrid_data import hybrid_step, static_step
from studies._long_tail import filled, grouped, spread_for
from studies._verdict import frame, order, point, row
from workloads import models as catalogue
from workloads.models.spec import ModelSpec
from workloads.training import TrainPlan

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CLAIM = "ByteScale (Ge et al. 2025): up to 7.89 times faster than a static mesh, 7B to 141B, 256K to 2048K tokens"
SMALL = {"models": ("llama-2-7b",), "contexts": (256, 512), "num_rank": 64, "token": 2**22}
# context parallelism is 256 at 2M; four such meshes, times tensor parallelism: 1K to 8K GPUs of the paper's 1K to 12K
SYSTEM, NUM_RANK, TOKEN = "hgx_h800", 4 * 256, 32 * 2**20  # tokens a step
CONTEXTS = (256, 512, 1024, 2048)  # K tokens
MODELS = {"llama-2-7b": (1, 1), "llama-2-70b": (8, 1), "mixtral-8x22b": (8, 3)}  # tensor parallelism, ZeRO stage
NUM_GROUP = 8  # of keys and values, in every model of the paper
SHARE = {"GitHub": 0.16, "Byted": 0.44}  # of the tokens, in sequences of 128K and more
LONG, MEDIAN = 128 * 1024, 1000.0
MEDIANS = (500.0, 1000.0, 4000.0)  # of a length: published of neither mix
MESH_TOKEN = 8192  # of a context on a rank of the mesh: 256 ranks at 2M
SERIES = ("static mesh", "hybrid", "+ balance", "+ offload")
OVER, SECONDS = "faster than the static mesh", "seconds a step"
NOTE = (
    "log-normal lengths with the published share of tokens beyond 128K, median 1,000 (not published); 1,024 ranks of 1 "
    "or 8 H800 (1K to 12K GPUs by model in print), 32M tokens a step; one pipeline stage; the mesh's ring crosses "
    "nodes by one port a hop; layers recomputed where a context does not fit"
)
UNSET = (
    "tokens a step and tensor parallelism of the mesh are not published, and decide: with the 7B "
    "model in 2, 4 and 8 parts the largest gain is 8.9, 7.3 and 3.3 (3.2, 3.0 and 1.7 of the other mix), with 8M and "
    "16M tokens a step 28 and 23 (4.8 and 7.0); "
)


@functools.cache
def model_of(name: str) -> ModelSpec:
    """The model with eight groups of keys and values."""
    spec = catalogue.load(name)
    return replace(
        spec, block=tuple(replace(b, attention=replace(b.attention, num_kv_head=NUM_GROUP)) for b in spec.block)
    )


@functools.cache
def costs(model: str, context: int, num_device: int) -> GroupCost:
    """Of every number of ranks, with the least recomputation that lets all together hold `context` tokens."""
    tp, zero = MODELS[model]
    degrees = [2**n for n in range(11) if 2**n * tp <= num_device]
    for recompute in ("none", "full"):
        plan = TrainPlan(tp=tp, zero=zero, sequence_parallel=tp > 1, recompute=recompute)
        found = group_cost(model_of(model), SYSTEM, plan, degrees, num_device=num_device)
        if found.capacity.max() >= context:
            return found
    raise InputError("does not fit", field="context", value=context)


@functools.cache
def case(
    model: str, context_k: int, data: str, median: float = MEDIAN, num_rank: int = NUM_RANK, token: int = TOKEN
) -> dict[str, float]:
    """Seconds of a step of the static mesh and of hybrid data parallelism with more and more of its parts."""
    context, num_device = context_k * 1024, num_rank * MODELS[model][0]
    cost = costs(model, context, num_device)
    length = filled(median, spread_for(median, SHARE[data], LONG, context), token, context)
    host = float(topology.link_rows(catalog.system(SYSTEM, num_device))[2][0])
    # the mesh has as many ranks as its context wants at 8K each, where there are so many
    wanted = min(context // MESH_TOKEN, num_rank)
    mesh = cost._replace(capacity=np.where(np.array(cost.degree) < wanted, 0.0, cost.capacity))
    seconds = (
        static_step(mesh, length, num_rank, context).seconds,
        hybrid_step(cost, length, num_rank, balance=False).seconds,
        hybrid_step(cost, length, num_rank).seconds,
        hybrid_step(cost, length, num_rank, host_byte_per_s=host).seconds,
    )
    return dict(zip(SERIES, seconds, strict=True))


def run(
    models: tuple[str, ...] = tuple(MODELS), contexts: tuple[int, ...] = CONTEXTS, num_rank: int = NUM_RANK,
    token: int = TOKEN,
) -> pd.DataFrame:  # fmt: skip
    """The largest gain over the static mesh of each mix of lengths, the larger models at the longest context, and
    seconds of every part."""
    rows: list[dict[str, Any]] = []
    size = {"num_rank": num_rank, "token": token}
    dealt: list[float] = []
    for data, published in (("GitHub", 7.89), ("Byted", 4.26)):
        found: dict[tuple[str, int], dict[str, float]] = {
            (model, context): case(model, context, data, **size) for model in models for context in contexts
        }
        gain = {key: one[SERIES[0]] / one[SERIES[-1]] for key, one in found.items()}
        model, context = top = max(gain, key=gain.__getitem__)
        others = [case(model, context, data, median, **size) for median in MEDIANS]
        spread = [one[SERIES[0]] / one[SERIES[-1]] for one in others]
        rows.append(row("ByteScale", f"{OVER}, up to", data, published, gain[top],
                        f"medians of 500 to 4,000 tokens; at {model}, {context}K; {UNSET}{NOTE}", null=1.0,
                        spread=spread))  # fmt: skip
        dealt += [one[SERIES[0]] / one[SERIES[1]] for one in found.values()]
        large = [gain[one, contexts[-1]] for one in models if one != "llama-2-7b"]
        if data == "GitHub" and large:
            where = f"70B and 8x22B, {contexts[-1]}K, {data}"
            for end, value, text in (("least", min(large), 3.42), ("most", max(large), 4.28)):
                rows.append(row("ByteScale", f"{OVER}, {end}", where, text, value, UNSET + NOTE, null=1.0))
        for (model, context), one in found.items():
            rows += [point(name, SECONDS, f"{data}; {model.split('-')[-1]}, {context}K", s) for name, s in one.items()]
        for model in models:
            grows = [gain[model, context] for context in contexts]
            rows.append(order("ByteScale", "order: the gain grows with the context", f"{model}, {data}",
                              grows == sorted(grows), ", ".join(f"{value:.2f}" for value in grows)))  # fmt: skip
    rows.append(order("hybrid", "order: without balance and offload faster than the mesh", "every case",
                      min(dealt) > 1, f"least {min(dealt):.2f}"))  # fmt: skip
    return frame(rows)


def plot(table: pd.DataFrame) -> "Figure":
    """Seconds of a step for every model and context, a panel a mix of lengths."""
    title = "ByteScale: a static mesh and hybrid data parallelism"
    return grouped(table[table["claim"] == SECONDS], SERIES, SECONDS, title)
