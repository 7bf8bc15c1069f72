"""Fits the engine profiles of a software stack, one a host, on measured prompt and token times.

    python -m sim.reference.step_fit ../shared/data/serving/dgx_prompt_token_latency.csv --stack vllm_2023

Shapes (tensor parallel size, batch, prompt) are divided into a fitting and a checking half by a hash of the shape.
Five constants a host: how much longer the stack's kernels take than those of the calibration, the launches of a
layer, the host's time a sequence and for a prompt, and the rate of all-reduces above `REDUCE_BYTE`, beyond which the
stack's leave their rate. Least squares on the logarithm, growing only linearly beyond `DISTURBED`.
"""

import argparse
import dataclasses
import datetime
import pathlib
import sys
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from hw_models import catalog
from hw_models.calibration.fit import half
from sim.reference.engine_fit import write
from sim.serving.engine_profile import EngineProfile, Fit
from sim.serving.step_time import Batch, Deployment, step_s
from sim.validate.steps import measured, read

Floats = npt.NDArray[np.float64]

NAMES: tuple[str, ...] = ("kernel_factor", "dispatch_layer_s", "seq_s", "prefill_s", "reduce_byte_per_s")
START = (1.2, 4e-4, 2e-4, 1e-2, 60e9)  # where the search starts, which is also its scale
REDUCE_BYTE = 2.0**25  # 2,048 tokens of 8,192 bf16 values: every longer prompt on more than two devices is slower
DISTURBED = 0.1  # of the logarithm: beyond it the loss grows linearly
KINDS = ("prompt", "token")


@dataclasses.dataclass(frozen=True, eq=False)
class Case:
    """A shape: the median of its repetitions."""

    kind: str
    where: Deployment
    batch: Batch
    seconds: float


def cases(file: str | pathlib.Path, device: str) -> list[Case]:
    """The shapes that were served as one batch on machines of this device."""
    found: dict[tuple[str, Deployment, Batch], list[float]] = {}
    for kind, where, batch, seconds, _, why in measured(read(pathlib.Path(file))):
        if not why and catalog.system(where.system).device.name == device:
            found.setdefault((kind, where, batch), []).append(seconds)
    return [Case(*key, float(np.median(times))) for key, times in found.items()]


def fitting(some: list[Case]) -> npt.NDArray[np.bool_]:
    """Which cases are of the fitting half; both kinds of a shape are on one side."""
    shape = [(c.where.tp, c.batch.num_prompt + c.batch.num_decode, c.batch.prompt_len) for c in some]
    return half(*(np.array(column) for column in zip(*shape, strict=True)))


def errors(some: list[Case], profile: EngineProfile) -> Floats:
    """Logarithms of simulated over measured."""
    return np.array([np.log(step_s(c.where, profile, c.batch) / c.seconds) for c in some])


def fit(some: list[Case], base: EngineProfile, max_round: int = 12) -> EngineProfile:
    """`base` with the constants of `NAMES` fitted on these cases."""
    return search(some, base, NAMES, START, max_round)


def search(
    some: list[Case], base: EngineProfile, names: Sequence[str], start: Sequence[float], max_round: int,
    first: Sequence[float] | None = None, low: Sequence[float] | float = 0.0,
) -> EngineProfile:  # fmt: skip
    """`base` with the constants `names` that come nearest to these cases, looked for in units of `start`: from `first`
    of them (absent: one each) on, between `low` and fifty of them."""
    from scipy.optimize import least_squares

    scale = np.array(start)

    def residual(x: Floats) -> Floats:
        return errors(some, changed(base, names, x * scale))

    found = least_squares(
        residual,
        np.ones(len(names)) if first is None else np.array(first),
        bounds=(low, 50.0),
        loss="soft_l1",
        f_scale=DISTURBED,
        diff_step=np.full(len(names), 0.02),
        max_nfev=max_round,
        xtol=1e-4,
    )
    return changed(base, names, found.x * scale)


def changed(base: EngineProfile, names: Sequence[str], values: Floats) -> EngineProfile:
    """`base` with these values of the constants `names`."""
    found: dict[str, Any] = {name: max(float(value), 1e-9) for name, value in zip(names, values, strict=True)}
    return dataclasses.replace(base, **found)


def mean_error(some: list[Case], logs: Floats) -> dict[str, float]:
    """Mean absolute fraction by kind."""
    kinds = np.array([case.kind for case in some])
    each = {kind: np.abs(np.expm1(logs[kinds == kind])) for kind in sorted(set(kinds.tolist()))}
    return {kind: round(float(values.mean()), 4) for kind, values in each.items()}


def fitted(file: pathlib.Path, stack: str, device: str) -> EngineProfile:
    """The profile of one host, with its errors on both halves."""
    some = cases(file, device)
    train = fitting(some)
    base = EngineProfile(
        title=f"vLLM of 2023, eager, host of {device}",
        source=f"fit of {', '.join(NAMES)} on half of the shapes of {file.name}; stated: reduce_byte",
        step_s=0.0, seq_s=0.0, token_s=0.0, request_s=0.0, stream_s=0.0,
        reduce_byte=REDUCE_BYTE, stack=stack, device=device,
    )  # fmt: skip
    ours = [case for case, here in zip(some, train, strict=True) if here]
    found = fit(ours, base)
    logs = errors(some, found)
    rest = [case for case, here in zip(some, train, strict=True) if not here]
    command = (
        f"python -m sim.reference.step_fit ../shared/data/serving/{file.name} --stack {stack} --out sim/serving/engines"
    )
    today = datetime.datetime.now(datetime.UTC).date().isoformat()
    num_shape = sum(case.kind == KINDS[0] for case in ours)
    both = mean_error(ours, logs[train]), mean_error(rest, logs[~train])
    done = Fit(file.name, command, today, num_shape, *both, left_out="half of the shapes, by a hash")
    for case, log, here in zip(some, logs, train, strict=True):
        side = "fitted" if here else "held out"
        print(f"{case.kind} tp {case.where.tp} {case.batch} {case.seconds:.4f} {np.expm1(log):+.3f} {side}")
    print(device, {name: getattr(found, name) for name in NAMES}, done.error, done.left_out_error)
    return dataclasses.replace(found, fit=done)


def main(words: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(
        prog="python -m sim.reference.step_fit", description="fit a stack's engine profiles"
    )
    parser.add_argument("file", metavar="FILE", help="CSV of prompt and token times, as `validate steps` reads it")
    parser.add_argument("--stack", default="vllm_2023", help="its name")
    parser.add_argument("--out", required=True, metavar="FOLDER", help="where STACK_GPU.toml go")
    given = parser.parse_args(words)
    file = pathlib.Path(given.file)
    for system in dict.fromkeys(where.system for _, where, *_ in measured(read(file))):
        device = catalog.system(system).device.name
        path = pathlib.Path(given.out) / f"{given.stack}_{device.split('_')[0]}.toml"
        write(path, fitted(file, given.stack, device))
    return 0


if __name__ == "__main__":
    sys.exit(main())
