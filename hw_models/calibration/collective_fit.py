"""Profiles of collectives from files of measured ones.

The library's file tells launch, hops, protocols and bandwidths, a kind by itself (point to point with all-to-all);
which protocol runs at which size is the library's own rule, whose one constant the three rings share. The serving
engine's file, where given, tells its direct all-reduce, which becomes the default. Files are small (21 sizes on
three group sizes), so all rows are fitted and the error stated is that of cross-validation: each fifth predicted by
a fit of the other four. Deterministic. `hw_models.calibration.shipped` writes the profiles.
"""

import pathlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict

import numpy as np
import numpy.typing as npt

from hw_models import catalog
from hw_models.calibration.fit import Floats, Parameter, error, fit, spread
from hw_models.calibration.measured import read_folder
from hw_models.device import machine
from hw_models.profile import ErrorSummary, Kernel
from kernels.collective import COLLECTIVE_FIT, IDEAL_COLLECTIVE, collective_s
from kernels.jit import njit
from kernels.optable import ALL_GATHER, ALL_REDUCE, ALL_TO_ALL, KINDS, P2P, REDUCE_SCATTER, OpTable

Ints = npt.NDArray[np.int64]
Chosen = npt.NDArray[np.bool_]
NUM_FOLD = 5
SEARCH = 30  # generations
SIGMA = 0.5  # of the log of a constant from one GPU generation to the next, as between A100 and H100

RING: Mapping[str, tuple[float, float, float]] = {  # start, low, high
    "launch_s": (5e-6, 1e-6, 2e-5),
    "ll_hop_s": (6e-7, 1e-7, 1.5e-6),
    "ll128_hop_s": (1.2e-6, 3e-7, 5e-6),
    "simple_hop_s": (1.5e-6, 3e-7, 1e-5),
    "ll_eff": (0.45, 0.05, 1.0),
    "ll128_eff": (0.7, 0.2, 1.0),
    "simple_eff": (0.8, 0.4, 1.0),
    "simple_s": (1e-5, 1e-7, 5e-5),
    "fill_share": (0.1, 0.001, 1.0),
    "fill_s": (5e-6, 1e-8, 1e-4),
    "ll_copy": (1.0, 0.01, 10.0),
    "copy_ratio": (0.4, 0.001, 1.5),
}
PEER: Mapping[str, tuple[float, float, float]] = {  # messages to peers: two protocols, one hop
    **{name: RING[name] for name in ("launch_s", "ll_eff", "simple_eff", "simple_s", "fill_share", "fill_s")},
    "ll_hop_s": (1e-7, 1e-9, 1e-6),
    "copy_ratio": RING["copy_ratio"],
}
NETWORK = {"out_eff": 0.96, "net_hop": 1.0}  # not fitted: kernels.collective_between says where they are from
NUM_CHANNEL = 16.0  # that share out a message of a ring: times are flat up to 16 parts (both A100 and H100)
PEER_CHANNEL = (2.0, 4.0, 8.0, 16.0)  # and one to peers
SWITCH: Mapping[str, tuple[float, float, float]] = {"nvls_s": (4e-5, 1e-5, 2e-4), "nvls_eff": (0.65, 0.4, 1.0)}
CUSTOM: Mapping[str, tuple[float, float, float]] = {
    "custom_s": (3.5e-6, 1e-6, 2e-5),
    "custom_peer_s": (1e-7, 1e-9, 1e-6),
    "custom_sync_s": (2e-6, 1e-7, 1e-5),
    "one_shot_eff": (0.6, 0.2, 1.0),
    "two_shot_eff": (0.6, 0.2, 1.0),
    "custom_copy": (0.5, 0.001, 5.0),
}
SWITCHED: Mapping[str, tuple[float, float, float]] = {
    "switched_s": (8e-6, 1e-6, 3e-5),
    "switched_eff": (0.68, 0.2, 1.0),
    "switched_copy": (0.6, 0.01, 2.0),
}
TUNER_LL = (87.7e9, 141e9, 282e9)  # byte/s that NCCL's tuning model grants LL in one node: Ampere, Hopper, Blackwell
MIB = 2.0**20
LIMITS: tuple[Mapping[str, float], ...] = (  # vLLM's tables: before compute capability 9.0; from there on
    {"custom_max_byte": 8 * MIB, "custom_wide_max_byte": 8 * MIB},
    {"custom_max_byte": 8 * MIB, "custom_wide_max_byte": MIB / 4, "switched_max_byte": 64 * MIB},
)
EAGER: Mapping[str, tuple[float, float, float]] = {
    "host_s": (3e-5, 5e-6, 1e-4),
    "switched_host_s": (4e-5, 5e-6, 2e-4),
    "host_copy": (0.3, 0.001, 2.0),
}


def sought(free: Mapping[str, tuple[float, float, float]], known: Mapping[str, float]) -> list[Parameter]:
    """Parameters in the order of the fit vector: `free` ones with bounds, the rest as `known` or ideal."""
    ideal = dict(zip(COLLECTIVE_FIT, IDEAL_COLLECTIVE, strict=True)) | NETWORK | dict(known)
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
        return fit(lambda v: self.predict(chosen, v), self.seconds[chosen], parameters, search=SEARCH)

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


def near(free: Mapping[str, tuple[float, float, float]], known: Mapping[str, float], sigma: float) -> list[Parameter]:
    """As `sought`, from a relative's constants on: what few rows do not tell stays there (`sigma`, of the log)."""
    found = []
    for name in COLLECTIVE_FIT:
        low, high = free[name][1:] if name in free else (known[name], known[name])
        start = min(max(known[name], low), high)
        found.append(Parameter(name, start, low, high, prior=sigma if name in free else 0.0))
    return found


def _vector(values: Mapping[str, float]) -> Floats:
    return np.array([values[name] for name in COLLECTIVE_FIT])


def fit_files(nccl: str | pathlib.Path, custom: str | pathlib.Path | None, system: str) -> list[Kernel]:
    """Fitted kernels of the two files of a system."""
    (library,) = read_folder(nccl)
    rows = Rows(library.ops, library.seconds, system)
    data = library.file.name
    found = []
    trial = [_rings(rows, limit, data, custom is None) for limit in TUNER_LL]
    found += min(trial, key=lambda kernels: sum(map(_miss, kernels)))
    peers = [
        rows.kernels(rows.kind == ALL_TO_ALL, (ALL_TO_ALL, P2P), "nccl", sought(PEER, {"num_channel": n}), data, True)
        for n in PEER_CHANNEL
    ]
    found += min(peers, key=lambda kernels: sum(map(_miss, kernels)))
    ring = next(kernel for kernel in found if kernel.kind == "all_reduce")
    return found + (_custom(custom, system, ring.parameter) if custom is not None else [])


def fit_few(
    nccl: str | pathlib.Path, custom: str | pathlib.Path, system: str, relative: Sequence[Kernel]
) -> list[Kernel]:
    """Fitted kernels where each kind was measured on one group size or not at all: constants start from those of a
    relative, which keeps what one group size does not tell; a kind that was not measured takes those of the nearest
    that was (a gather and a scatter are rings of as many hops)."""
    (library,) = read_folder(nccl)
    rows = Rows(library.ops, library.seconds, system)
    data = library.file.name
    old = {kernel.kind: kernel for kernel in relative if kernel.name == "nccl"}
    found: dict[int, Kernel] = {}
    for kind in (ALL_REDUCE, REDUCE_SCATTER, ALL_GATHER, ALL_TO_ALL):
        mine, known = rows.kind == kind, old[KINDS[kind]].parameter
        if not mine.any():
            continue
        free = PEER if kind == ALL_TO_ALL else {**RING, **SWITCH} if kind == ALL_REDUCE else RING
        beliefs = (0.0,) if kind == ALL_TO_ALL else TUNER_LL
        trial = [
            rows.kernels(mine, (kind,), "nccl", near(free, {**known, "tuner_ll_byte_per_s": ll}, SIGMA), data, False)[0]
            for ll in beliefs
        ]
        found[kind] = min(trial, key=_miss)
    for kind, like in ((ALL_GATHER, REDUCE_SCATTER), (REDUCE_SCATTER, ALL_GATHER), (P2P, ALL_TO_ALL)):
        if kind not in found:  # a ring of as many hops; a message to one peer
            found[kind] = found[like].model_copy(update={"kind": KINDS[kind], "train": None, "held_out": None})
    library_kernels = [k.model_copy(update={"default": k.kind != "all_reduce"}) for k in found.values()]
    ring = found[ALL_REDUCE].parameter
    return library_kernels + _custom(custom, system, ring) + other_engines(custom, system, ring)


def fit_pcie(nccl: str | pathlib.Path, system: str) -> list[Kernel]:
    """Fitted kernels of a box whose devices meet over PCIe alone, each kind on one or two group sizes: rings share all
    constants, and messages to peers theirs; both share `crowd`, by which the way through the host narrows."""
    (library,) = read_folder(nccl)
    rows = Rows(library.ops, library.seconds, system)
    data = library.file.name
    free = {**RING, "simple_eff": (0.5, 0.05, 1.0), "ll_eff": (0.3, 0.02, 1.0), "crowd": (0.5, 1e-3, 3.0)}
    ring = rows.kind != ALL_TO_ALL
    found = rows.kernels(
        ring, (ALL_GATHER, REDUCE_SCATTER, ALL_REDUCE), "nccl", sought(free, {"num_channel": 1.0}), data, True
    )
    if ring.all():  # messages to peers were not measured: the relative's stand
        return found
    crowd = found[0].parameter["crowd"]
    shares = {name: free[name] for name in ("simple_eff", "ll_eff")}
    peers = sought({**PEER, **shares}, {"num_channel": 2.0, "crowd": crowd})
    return found + rows.kernels(~ring, (ALL_TO_ALL, P2P), "nccl", peers, data, True)


def _rings(rows: Rows, tuner_ll_byte_per_s: float, data: str, default: bool) -> list[Kernel]:
    """The three collectives of rings, each with constants of its own: a reduce-scatter adds, an all-gather copies."""
    known = {"tuner_ll_byte_per_s": tuner_ll_byte_per_s, "num_channel": NUM_CHANNEL}
    found = []
    for kind in (ALL_GATHER, REDUCE_SCATTER, ALL_REDUCE):
        mine = rows.kind == kind
        trial = [
            rows.kernels(mine, (kind,), "nccl", sought(free, known), data, default or kind != ALL_REDUCE)
            for free in ((RING, {**RING, **SWITCH}) if kind == ALL_REDUCE else (RING,))
        ]
        found += min(trial, key=lambda kernels: sum(map(_miss, kernels)))
    return found


def other_engines(file: str | pathlib.Path, system: str, known: Mapping[str, float]) -> list[Kernel]:
    """All-reduces of engines other than vLLM, beside the library's constants `known`; none is a default."""
    return [kernel for engine in ("SGLang", "TRTLLM") for kernel in _custom(file, system, known, engine)]


def _custom(file: str | pathlib.Path, system: str, known: Mapping[str, float], engine: str = "vLLM") -> list[Kernel]:
    """A serving engine's all-reduce in a CUDA graph (vLLM's is the default), and eager, which adds the host."""
    (read,) = read_folder(file)
    names = read.frame["kernel"].astype(str).to_numpy()
    own = np.char.startswith(names.astype(str), engine)
    if not own.any():
        return []
    rows, names = Rows(read.ops[own], read.seconds[own], system), names[own]
    graph = np.array(["eager" not in name for name in names])
    default = engine == "vLLM"
    trial = []
    for limits in LIMITS:
        free = {**CUSTOM, **SWITCHED} if "switched_max_byte" in limits else CUSTOM
        parameters = sought(free, {**known, **limits})
        trial += rows.kernels(graph, (ALL_REDUCE,), str(names[graph][0]), parameters, read.file.name, default)
    best = min(trial, key=_miss)
    if graph.all():
        return [best]
    free = dict(EAGER)
    if best.parameter["switched_max_byte"] == 0.0:
        free.pop("switched_host_s")
    parameters = sought(free, best.parameter)
    eager = rows.kernels(~graph, (ALL_REDUCE,), str(names[~graph][0]), parameters, read.file.name, False)
    return [best, *eager]


def _miss(kernel: Kernel) -> float:
    return kernel.train.mape if kernel.train is not None else np.inf
