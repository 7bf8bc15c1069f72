"""How many machines for prompts, how many for decodes: pools sized until a load keeps its objectives (Splitwise).

Objectives are slowdowns against the same request alone on a DGX-A100, at three quantiles, all of which must hold.
"""

import functools
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

from sim.cluster.simulate import simulate_pools
from sim.run.scenario import Scenario
from sim.run.simulate import simulate

if TYPE_CHECKING:
    import pandas as pd

MODEL = "bloom-176b"  # of the authors' configurations
ENGINES = {"dgx_a100": "vllm_2023_a100", "dgx_h100": "vllm_2023_h100"}  # fitted on the measured prompt and token times
FIXED_S = {"dgx_a100": 8e-3, "dgx_h100": 5e-3}  # of a transfer that no layer hides (section 6.1)
LINK_BYTE_PER_S = 200e9  # of a machine: `transfer_bandwidth` of the authors' simulator
MEMORY_SHARE = 1.0  # of a device, for weights and KV: their machines keep nothing back
# lognormal lengths of both traces of 2023-11-11: means and medians of coding, means and deviations of conversation, and
# the shortest and longest of each as the authors' generator of traces states them
TRACES = {
    "coding": "prompt=lognormal:mean=2048:sigma=0.79:min=3:max=7437,output=lognormal:mean=28:sigma=1.24:min=6:max=1899",
    "conversation": "prompt=lognormal:mean=1155:std=1109:min=2:max=14050,"
    "output=lognormal:mean=211:std=163:min=7:max=1000",
}
QUANTILES = (0.5, 0.9, 0.99)
SLOWDOWN = {"ttft_s": (2.0, 3.0, 6.0), "tpot_s": (1.25, 1.5, 5.0), "e2e_s": (1.25, 1.5, 5.0)}  # at those quantiles


class Split(NamedTuple):
    """Machines for prompts and machines for decodes."""

    prompt: str
    num_prompt: int
    token: str
    num_token: int


def scenario(system: str, trace: str, rate: float, num: int) -> Scenario:
    """A machine's engine under `num` requests of a trace."""
    return Scenario(
        model=MODEL, system=system, tp=8, engine=ENGINES[system], prefix_cache=False,
        requests=f"poisson:rate={rate},n={num},{TRACES[trace]}", max_model_len=16384, memory_share=MEMORY_SHARE,
        policy="splitwise",
    )  # fmt: skip


def several(num: int, router: str = "least_pending") -> dict[str, object]:
    """Fields of a pool of `num`: a prompt goes to the shortest queue of pending tokens, a decode to the least KV."""
    return {"dp": num, "router": router} if num > 1 else {}


@functools.cache
def alone(trace: str, num: int) -> "pd.DataFrame":
    """Each request of a trace by itself on a DGX-A100."""
    return simulate(scenario("dgx_a100", trace, 0.01, num)).run.requests


def kept(seen: "pd.DataFrame", trace: str) -> bool:
    """Whether every objective holds."""
    base, num = alone(trace, len(seen)), seen["output_token"]
    for field, most in SLOWDOWN.items():
        part = (num - 1) / num if field == "tpot_s" else 1.0  # their time between tokens is over all of them
        slow = seen[field] * part / base[field]
        if seen["e2e_s"].isna().any() or any(slow.quantile(q) > high for q, high in zip(QUANTILES, most, strict=True)):
            return False
    return True


def split_keeps(split: Split, trace: str, rate: float, second: int, limit_w: float = 0.0) -> bool:
    """Whether two pools keep the objectives at `rate` requests a second, of `second` seconds of arrivals; boards of the
    machines for decodes may draw `limit_w` (0: their TDP)."""
    one = scenario(split.prompt, trace, rate, round(rate * second))
    decode = {**several(split.num_token, "least_token"), "system": split.token, "engine": ENGINES[split.token],
              "power_limit_W": limit_w}  # fmt: skip
    run = simulate_pools(
        one, several(split.num_prompt), decode, transfer="layered", latency_s=FIXED_S[split.prompt],
        link_byte_per_s=LINK_BYTE_PER_S,
    )  # fmt: skip
    return kept(run.requests, trace)


def mixed_keeps(system: str, num: int, trace: str, rate: float, second: int) -> bool:
    """Whether machines that each do both phases keep the objectives."""
    one = scenario(system, trace, rate, round(rate * second))
    changed = {**vars(one), **several(num)}
    return kept(simulate(Scenario(**changed)).run.requests, trace)


def most(keeps: Callable[[int], bool], low: int, high: int) -> int:
    """The largest whole number that keeps its objectives between two, of which more never keep them better; `low - 1`
    where none does.

    >>> most(lambda rate: rate <= 37, 1, 100), most(lambda rate: False, 1, 100)
    (37, 0)
    """
    found = low - 1
    while low <= high:
        middle = (low + high) // 2
        if keeps(middle):
            found, low = middle, middle + 1
        else:
            high = middle - 1
    return found


def best_split(keeps: Callable[[int, int], bool], start: int, step: int, total: int, high: int) -> dict[int, int]:
    """The largest rate up to `high` by machines for prompts, of `total`, from `start` on in steps as long as it grows:
    below the best split the machines for prompts bind, above it those for decodes. `keeps(machines, rate)`.

    >>> best_split(lambda num, rate: rate <= 30 - abs(num - 20), 10, 5, 40, 100)
    {10: 20, 15: 25, 20: 30}
    """
    found = {start: most(functools.partial(keeps, start), 5, high)}
    for sign in (1, -1):
        here = start
        while 0 < (there := here + sign * step) < total and keeps(there, found[here] + 1):
            found[there] = most(functools.partial(keeps, there), found[here] + 1, high)
            here = there
    return found


def cheapest(system: str, trace: str, rate: float, tokens: range, second: int, limit: int = 40) -> Split | None:
    """The fewest machines of one kind that keep the objectives at a rate, for numbers of token machines of a range."""
    found: Split | None = None
    for num_token in tokens:
        high = limit if found is None else found.num_prompt + found.num_token - num_token - 1
        spare = most(
            lambda spare, top=high, token=num_token: split_keeps(  # type: ignore[misc]
                Split(system, top - spare, system, token), trace, rate, second
            ),
            0,
            high - 1,
        )
        if spare >= 0:
            found = Split(system, high - spare, system, num_token)
    return found
