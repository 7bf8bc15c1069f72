"""How many sweeps solve a chain of steps at once? (Song et al. 2021, parallel nonlinear equation solving)"""

import itertools
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from studies._panels import Panel, panels
from studies._verdict import frame, order, point, row

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CLAIM = "Song et al. 2021: Jacobi sweeps over recurrent gradients, autoregressive samples: 2.1 to 26 times as fast"
SMALL: dict[str, Any] = {"gains": (0.05, 0.1), "side": 14, "seeds": 2}
Floats = npt.NDArray[np.float64]
HIDDEN, STEP, SCALE = 128, 100, 0.1  # the authors' recurrent network over 100 pixels; deviation of its weights
SWEEPS = (10, 20, 30, 50, 80)  # theirs
# PyTorch's launches, which bound both: of a step of the gradient's loop, and of a sweep over all steps (their code)
STEP_KERNEL, SWEEP_KERNEL = 14, 7
MADE_HIDDEN, GAINS, TOLERANCE = 512, (0.05, 0.1, 0.2, 0.4), 1e-3  # layers of the masked network; of its weights
GAIN, ERROR, NEED = "speed over one step at a time", "relative error of the gradient", "sweeps needed of all steps"
RNN, MADE = "recurrent gradient", "masked network, sampling"
NOTE = (
    "networks with the shapes of the authors' configurations and random weights, solved in full here; both ways are "
    "bound by launches, so that a sweep costs 7 to a step's 14, and a sweep of samples what a step does; trained "
    "weights, and so the sweeps of the published rows, are not public as numbers"
)


def slopes(seed: int) -> tuple[Floats, Floats]:
    """The recurrent matrix, and slopes of the activation (softplus) along a forward pass over random pixels."""
    random = np.random.default_rng(seed)
    weight, read = SCALE * random.normal(size=(HIDDEN, HIDDEN)), SCALE * random.normal(size=HIDDEN)
    state, out = np.zeros(HIDDEN), np.zeros((STEP, HIDDEN))
    for at, pixel in enumerate(random.random(STEP)):
        before = weight @ state + read * pixel
        out[at] = 1 / (1 + np.exp(-before))
        state = np.logaddexp(0, before)
    return weight, out


def backward(weight: Floats, slope: Floats, source: Floats) -> Floats:
    """Gradients of all states, one step at a time from the last."""
    grad = np.zeros_like(source)
    for at in range(len(source) - 2, -1, -1):
        grad[at] = (slope[at + 1] * grad[at + 1]) @ weight + source[at + 1]
    return grad


def sweep(weight: Floats, slope: Floats, source: Floats, num: int) -> Floats:
    """The same from nothing by `num` sweeps over all steps at once."""
    grad = np.zeros_like(source)
    for _ in range(num):
        grad[:-1] = ((slope * grad) @ weight + source)[1:]
    return grad


def gradient_error(seed: int, num: int) -> float:
    """Of the gradient of the recurrent matrix's input after so many sweeps."""
    weight, slope = slopes(seed)
    source = SCALE * np.random.default_rng(seed + 1).normal(size=(STEP, HIDDEN))
    exact = backward(weight, slope, source)
    return float(np.linalg.norm(sweep(weight, slope, source, num) - exact) / np.linalg.norm(exact))


def made_sweeps(side: int, gain: float, seed: int, hidden: int = MADE_HIDDEN) -> int:
    """Sweeps until no pixel of a masked network's sample moves any more than the tolerance."""
    random, num = np.random.default_rng(seed), side * side
    rank_in, rank = np.arange(num), np.arange(hidden) % max(1, num - 1)
    first = np.where(rank[:, None] >= rank_in[None, :], gain * random.normal(size=(hidden, num)), 0.0)
    second = np.where(rank_in[:, None] > rank[None, :], gain * random.normal(size=(num, hidden)), 0.0)
    noise, pixel = random.logistic(size=num), np.zeros(num)
    for count in range(1, num + 1):
        now = second @ np.tanh(first @ pixel) + noise
        if np.abs(now - pixel).max() < TOLERANCE:
            return count
        pixel = now
    return num


def run(gains: tuple[float, ...] = GAINS, side: int = 28, seeds: int = 3) -> pd.DataFrame:
    """Error of the gradient and speed by sweeps; sweeps of a sample by the strength of its dependences."""
    rows: list[dict[str, Any]] = []
    error = {num: float(np.mean([gradient_error(seed, num) for seed in range(seeds)])) for num in SWEEPS}
    speed = {num: STEP * STEP_KERNEL / (num * SWEEP_KERNEL) for num in SWEEPS}
    for num in SWEEPS:
        rows += [point(RNN, ERROR, f"{num} sweeps", error[num], NOTE),
                 point(RNN, GAIN, f"{num} sweeps", speed[num], NOTE)]  # fmt: skip
    values = list(error.values())
    rows.append(order(RNN, "order: every sweep brings the gradient nearer", "10 to 80 sweeps",
                      all(a > b for a, b in itertools.pairwise(values)), NOTE))  # fmt: skip
    total = side * side
    need = {gain: [made_sweeps(side, gain, seed) for seed in range(seeds)] for gain in gains}
    fast = [total / float(np.mean(found)) for found in need.values()]
    for gain, found, value in zip(gains, need.values(), fast, strict=True):
        rows += [point(MADE, NEED, f"weights of {gain:g}", float(np.mean(found)) / total, NOTE),
                 point(MADE, GAIN, f"weights of {gain:g}", value, NOTE)]  # fmt: skip
    rows.append(order(MADE, "order: stronger dependences take more sweeps, never more than steps",
                      f"{side} x {side} pixels", fast == sorted(fast, reverse=True) and min(fast) >= 1,
                      NOTE))  # fmt: skip
    every = [*fast, *speed.values()]
    for published, name in ((2.1, "least"), (26.0, "most")):
        edge = min(every) if name == "least" else max(every)
        rows.append(row("all", f"{name} speed over one step at a time", "networks of the paper", published, edge, NOTE,
                        tag="approx", null=1.0, said=True, spread=every))  # fmt: skip
    return frame(rows)


def plot(table: pd.DataFrame) -> "Figure":
    """Error and speed by sweeps, sweeps and speed by weights."""
    return panels(table, [Panel(ERROR, RNN, ERROR, curve=True, log=True), Panel(GAIN, "both", GAIN, log=True),
                          Panel(NEED, MADE, NEED)], "Sweeps in place of steps", columns=3)  # fmt: skip
