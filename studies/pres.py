"""What does a graph that changes gain from batches of four times the events? (PRES, Su et al., ICLR 2024)"""

import functools
from typing import TYPE_CHECKING, Any

import pandas as pd

from studies._kernels import LAUNCH_S, product, seconds, stream
from studies._panels import Panel, panels
from studies._steps import arrays
from studies._verdict import frame, order, point, row

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CLAIM = "PRES (Su et al. 2024): temporal batches four times as large without a loss, and training 3.4 times as fast"
SMALL: dict[str, Any] = {"systems": ("a100_sxm_80gb",), "batches": (200, 800)}
LARGER, FASTER = 4, 3.4
# the authors' script: batches of 200 events, memories of 172 values, 10 neighbours, two heads, a GRU, plain messages
EVENTS, MEMORY, TIME_CODE, EDGE, NEIGHBOUR, HEAD = 200, 172, 100, 172, 10, 2
BATCHES = (100, 200, 400, 800, 1600)
SYSTEMS = ("v100_sxm_32gb", "a100_sxm_80gb", "rtx_3090")
# kernels beside the products, counted in the script's modules: of a forward pass; of a parameter's update; parameters
FORWARD_KERNEL, UPDATE_KERNEL, NUM_PARAMETER = 70, 5, 24
SMOOTH_KERNEL = 25  # of PRES: a memory is predicted from its past and corrected; the coherence of the loss
# host seconds an event, three nodes each: looked up and sliced in Python, in C++, or by threads of it
SAMPLERS = {"Python": 30e-6, "C++": 1e-6, "C++, threads": 0.2e-6}
SPEED, STEP, SHARE = "epochs as fast as", "ms of a batch", "share of a batch's time that grows with it"
NOTE = (
    "GPU, data path and which batch is the smaller one are not published: TGN in batches of 200 and 800 events on "
    "three GPUs, launches of PyTorch 5 to 25 us apart, neighbours looked up by Python, C++ or threads; 3.4 of 4 means "
    "that 6 % of a batch's time grow with its events, which none of Python's look-ups allow"
)


@functools.cache
def batch_s(system: str, event: int, host_s: float, smooth: bool = False, launch_s: float = LAUNCH_S[1]) -> float:
    """Seconds of a batch: look-ups on the host, then memories of both ends, embeddings of both and of a wrong one, by
    kernels or by their launches, whichever takes longer."""
    node, query = 3 * event, MEMORY + TIME_CODE
    key = query + EDGE
    forward = [
        product(2 * event, 3 * MEMORY, 2 * MEMORY + EDGE + TIME_CODE), product(2 * event, 3 * MEMORY, MEMORY),
        product(node, query, query), product(NEIGHBOUR * node, query, key, count=2), product(node, query, query),
        product(1, NEIGHBOUR, query // HEAD, batch=HEAD * node, count=2),
        product(node, MEMORY, query + MEMORY), product(node, MEMORY, MEMORY), product(2 * event, MEMORY, 2 * MEMORY),
    ]  # fmt: skip
    own, update = 3 * (FORWARD_KERNEL + (SMOOTH_KERNEL if smooth else 0)), UPDATE_KERNEL * NUM_PARAMETER
    other = [stream(2.0 * node * MEMORY, 2.0 * node * MEMORY, count=own),
             stream(4.0 * MEMORY**2, 4.0 * MEMORY**2, count=update)]  # fmt: skip
    kernel_s = 3 * seconds(arrays(system), *forward) + seconds(arrays(system), *other)
    return event * host_s + max(kernel_s, launch_s * (3 * (len(forward) + 2) + own + update))


def speed(system: str, host_s: float, launch_s: float = LAUNCH_S[1], larger: int = LARGER) -> float:
    """Of an epoch in larger batches with PRES over one in batches of 200 events without."""
    one, more = (batch_s(system, n * EVENTS, host_s, n > 1 or larger == 1, launch_s) for n in (1, larger))
    return larger * batch_s(system, EVENTS, host_s, False, launch_s) / (more if larger > 1 else one)


def grows(system: str, host_s: float) -> float:
    """Share of a batch's time that is in proportion to its events, by the batches of 200 and 800."""
    one, more = (batch_s(system, n * EVENTS, host_s) for n in (1, LARGER))
    return (more - one) / (LARGER - 1) / one


def run(systems: tuple[str, ...] = SYSTEMS, batches: tuple[int, ...] = BATCHES) -> pd.DataFrame:
    """How much faster epochs are, and what a batch takes."""
    every = [(system, name, launch_s) for system in systems for name in SAMPLERS for launch_s in LAUNCH_S]
    found = {one: speed(one[0], SAMPLERS[one[1]], one[2]) for one in every}
    compiled = [value for (_, name, _), value in found.items() if name != "Python"]
    table: list[dict[str, Any]] = [
        row("PRES", SPEED, "4 times the events", FASTER, sum(compiled) / len(compiled),
            f"the mean over look-ups in C++; {NOTE}", said=True, spread=[*found.values()]),
        order("PRES", "order: faster, by less than four times", "every GPU and look-up",
              all(1 < value < LARGER for value in found.values()), NOTE),
    ]  # fmt: skip
    for system, name, launch_s in every:
        if launch_s == LAUNCH_S[1]:
            table += [point(name, SPEED, system, found[system, name, launch_s], NOTE),
                      point(name, SHARE, system, grows(system, SAMPLERS[name]), NOTE)]  # fmt: skip
    for name, host_s in SAMPLERS.items():
        table += [point(name, STEP, f"{event} events", 1e3 * batch_s(systems[-1], event, host_s), NOTE)
                  for event in batches]  # fmt: skip
    return frame(table)


def plot(table: pd.DataFrame) -> "Figure":
    """How much faster epochs are, what grows with a batch, and what a batch takes."""
    shown = [Panel(SPEED, "batches of 800 over 200 events", "times as fast"), Panel(SHARE, "batches of 200", "share"),
             Panel(STEP, "a batch", "ms", curve=True)]  # fmt: skip
    return panels(table, shown, "PRES: TGN in larger temporal batches", columns=3)
