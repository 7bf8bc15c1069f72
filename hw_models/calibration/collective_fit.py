"""Profiles of collectives from a folder of measured ones.

    python -m hw_models.calibration.collective_fit NCCL.csv [CUSTOM.csv] --system NAME --out FOLDER

The library's file tells launch, hops, protocols and bandwidths (one ring for all-reduce, all-gather and
reduce-scatter; all-to-all and point to point by themselves); the serving engine's file, where given, its direct
all-reduce, which becomes the default. Files are small (21 sizes on three group sizes), so all rows are fitted and
the error stated is that of cross-validation: each fifth predicted by a fit of the other four. Deterministic.
"""

import argparse
import datetime
import pathlib
import shlex
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict

import numpy as np
import numpy.typing as npt

from hw_models import catalog, profile
from hw_models.calibration.fit import Floats, Parameter, error, fit, spread
from hw_models.calibration.measured import read_folder
from hw_models.device import machine
from hw_models.profile import ErrorSummary, Kernel, ProfileFile
from kernels.collective import COLLECTIVE_FIT, IDEAL_COLLECTIVE, collective_s
from kernels.jit import njit
from kernels.optable import ALL_GATHER, ALL_REDUCE, ALL_TO_ALL, KINDS, P2P, REDUCE_SCATTER, OpTable

Ints = npt.NDArray[np.int64]
Chosen = npt.NDArray[np.bool_]
NUM_FOLD = 5

RING: Mapping[str, tuple[float, float, float]] = {  # start, low, high
    "launch_s": (5e-6, 1e-6, 2e-5),
    "ll_hop_s": (8e-7, 3e-7, 1.3e-6),
    "ll128_hop_s": (1.2e-6, 6e-7, 2.5e-6),
    "simple_hop_s": (1.5e-6, 3e-7, 1e-5),
    "ll_eff": (0.1, 0.001, 0.6),
    "ll128_eff": (0.4, 0.02, 0.95),
    "simple_eff": (0.8, 0.4, 1.0),
    "simple_s": (1e-5, 1e-7, 5e-5),
    "ramp_s": (1e-7, 1e-9, 1e-4),
    "copy_ratio": (0.4, 0.001, 1.5),
}
SWITCH: Mapping[str, tuple[float, float, float]] = {"nvls_s": (6e-5, 3e-5, 2e-4), "nvls_eff": (0.65, 0.4, 1.0)}
CUSTOM: Mapping[str, tuple[float, float, float]] = {
    "custom_s": (3.5e-6, 1e-6, 2e-5),
    "custom_peer_s": (1e-7, 1e-9, 1e-6),
    "custom_sync_s": (2e-6, 1e-7, 1e-5),
    "one_shot_eff": (0.6, 0.2, 1.0),
    "two_shot_eff": (0.6, 0.2, 1.0),
    "custom_copy": (0.5, 0.001, 5.0),
}
TUNER_BYTE = (9.5e5, 1.85e6, 1e18)  # where the library's tuner leaves LL128: A100, H100, as it should
EAGER: Mapping[str, tuple[float, float, float]] = {"host_s": (3e-5, 5e-6, 1e-4), "host_copy": (0.3, 0.001, 2.0)}


def sought(free: Mapping[str, tuple[float, float, float]], known: Mapping[str, float]) -> list[Parameter]:
    """Parameters in the order of the fit vector: `free` ones with bounds, the rest as `known` or ideal."""
    ideal = dict(zip(COLLECTIVE_FIT, IDEAL_COLLECTIVE, strict=True)) | dict(known)
    return [
        Parameter(name, *free[name]) if name in free else Parameter(name, ideal[name], ideal[name], ideal[name])
        for name in COLLECTIVE_FIT
    ]


@njit
def seconds_of(kind: Ints, byte: Floats, size: Ints, link: Floats, fit_vector: Floats) -> Floats:
    """Seconds of each collective inside a node; `link` is `[n, links, fields]`."""
    seconds = np.empty(len(kind))
    for i in range(len(kind)):
        seconds[i] = collective_s(kind[i], byte[i], size[i], 1, link[i], fit_vector)[0]
    return seconds


class Rows:
    """Rows of one file as arrays, with the links of their group sizes."""

    def __init__(self, ops: OpTable, seconds: Floats, system: str) -> None:
        self.kind, self.size = ops["kind"].astype(np.int64), ops["group_size"].astype(np.int64)
        self.byte, self.seconds = ops["link_byte"].copy(), seconds
        self.fold = np.random.default_rng(0).permutation(len(seconds)) % NUM_FOLD
        order = np.lexsort([seconds, self.byte, self.size, self.kind])
        self.fold = self.fold[np.argsort(order)]  # whatever the order of the file
        links = {int(p): machine(catalog.system(system, int(p)), group_size=int(p)).link for p in set(self.size)}
        self.link = np.array([links[int(p)] for p in self.size])

    def predict(self, chosen: Chosen, values: Floats) -> Floats:
        return np.asarray(
            seconds_of(self.kind[chosen], self.byte[chosen], self.size[chosen], self.link[chosen], values)
        )

    def solve(self, chosen: Chosen, parameters: Sequence[Parameter]) -> dict[str, float]:
        """Constants fitted to the chosen rows."""
        return fit(lambda v: self.predict(chosen, v), self.seconds[chosen], parameters, search=12)

    def kernels(
        self, chosen: Chosen, kinds: Sequence[int], name: str, parameters: Sequence[Parameter], data: str, default: bool
    ) -> list[Kernel]:
        """One kernel a kind, of constants that the chosen rows share."""
        values = self.solve(chosen, parameters)
        fitted = self.predict(chosen, _vector(values))
        checked = np.zeros(len(self.seconds))
        predicted = np.zeros(len(self.seconds))
        predicted[chosen] = fitted
        for i in range(NUM_FOLD):
            out = chosen & (self.fold == i)
            checked[out] = self.predict(out, _vector(self.solve(chosen & (self.fold != i), parameters)))
        found = []
        for kind in kinds:
            mine = chosen & (self.kind == (ALL_TO_ALL if kind == P2P else kind))
            found.append(
                Kernel(
                    kind=KINDS[kind],
                    format="any",
                    name=name,
                    default=default,
                    data=data,
                    parameter=values,
                    train=ErrorSummary(**asdict(error(predicted[mine], self.seconds[mine]))),
                    held_out=ErrorSummary(**asdict(error(checked[mine], self.seconds[mine]))),
                    spread=spread(checked[mine], self.seconds[mine]),
                )
            )
        return found


def _vector(values: Mapping[str, float]) -> Floats:
    return np.array([values[name] for name in COLLECTIVE_FIT])


def fit_files(nccl: str | pathlib.Path, custom: str | pathlib.Path | None, system: str) -> list[Kernel]:
    """Fitted kernels of the two files of a system."""
    (library,) = read_folder(nccl)
    rows = Rows(library.ops, library.seconds, system)
    data = library.file.name
    found = []
    for chosen, kinds, free in (
        ((ALL_GATHER, REDUCE_SCATTER), (ALL_GATHER, REDUCE_SCATTER), (RING,)),
        ((ALL_REDUCE,), (ALL_REDUCE,), (RING, {**RING, **SWITCH})),
        ((ALL_TO_ALL,), (ALL_TO_ALL, P2P), ({**RING, "copy_ratio": (0.0, 0.0, 0.0)},)),
    ):
        mine = np.isin(rows.kind, chosen)
        default = custom is None or ALL_REDUCE not in kinds
        trial = [
            rows.kernels(mine, kinds, "nccl", sought(some, {"ll128_max_byte": limit}), data, default)
            for some in free
            for limit in TUNER_BYTE
        ]
        found += min(trial, key=lambda kernels: sum(map(_miss, kernels)))
    ring = next(kernel for kernel in found if kernel.kind == "all_reduce")
    return found + (_custom(custom, system, ring.parameter) if custom is not None else [])


def _custom(file: str | pathlib.Path, system: str, known: Mapping[str, float]) -> list[Kernel]:
    """The serving engine's all-reduce in a CUDA graph (the default) and eager, which adds the host."""
    (engine,) = read_folder(file)
    rows = Rows(engine.ops, engine.seconds, system)
    names = engine.frame["kernel"].astype(str).to_numpy()
    graph = np.array(["graph" in name for name in names])
    trial = []
    for limit in (4.2e6, 3.4e7):  # vLLM: below 8 MiB, or larger where it has symmetric memory
        limits = {"custom_max_byte": limit, "custom_pair_max_byte": 4.2e6}
        parameters = sought(CUSTOM, {**known, **limits})
        trial += rows.kernels(graph, (ALL_REDUCE,), str(names[graph][0]), parameters, engine.file.name, True)
    best = min(trial, key=_miss)
    parameters = sought(EAGER, best.parameter)
    eager = rows.kernels(~graph, (ALL_REDUCE,), str(names[~graph][0]), parameters, engine.file.name, False)
    return [best, *eager]


def _miss(kernel: Kernel) -> float:
    return kernel.train.mape if kernel.train is not None else np.inf


def main(argv: list[str]) -> int:
    """The command; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m hw_models.calibration.collective_fit")
    parser.add_argument("nccl", help="measured collectives of the library, CSV")
    parser.add_argument("custom", nargs="?", help="measured all-reduce of a serving engine, CSV")
    parser.add_argument("--system", required=True, help="catalogue name of the device")
    parser.add_argument("--out", type=pathlib.Path, required=True, help="folder of the profile")
    parser.add_argument("--date", default=datetime.date.today().isoformat(), help="written into the file")
    given = parser.parse_args(argv)
    kernels = fit_files(given.nccl, given.custom, given.system)
    command = "python -m hw_models.calibration.collective_fit " + shlex.join(argv)
    source = "collective benchmark rows of the measured data set; constants fitted on all, error by cross-validation"
    content = ProfileFile(device=given.system, command=command, date=given.date, source=source, kernel=tuple(kernels))
    profile.write_file(given.out / "collective.toml", content)
    for k in kernels:
        if k.train is not None and k.held_out is not None:
            print(f"{k.kind} {k.name}: train {k.train.mape:.1%}, held out {k.held_out.mape:.1%}")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
