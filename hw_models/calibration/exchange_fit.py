"""Profiles of expert exchange: dispatch and combine of DeepEP's kernels and of an NVLink rack's all-to-all.

Constants of every (operation, kernel) are fitted on half of the shapes, drawn by a hash of tokens, widths and groups,
and checked on the others. Kernels bear the names that the rows of files have (`hw_models.calibration.measured`); where
both of DeepEP's were measured, `deepep`, the default, takes the low-latency one for few tokens, as engines do.
"""

import pathlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict

import numpy as np
import numpy.typing as npt

from hw_models import catalog
from hw_models.calibration.fit import Floats, Parameter, error, fit, half, spread
from hw_models.calibration.measured import Measured, read_folder
from hw_models.device import machine
from hw_models.profile import ErrorSummary, Kernel
from kernels.expert_exchange import (
    EXCHANGE_FIT,
    IDEAL_EXCHANGE,
    LL_MAX_TOKEN,
    LOW_LATENCY,
    ONE_KERNEL,
    exchange_s,
)
from kernels.jit import njit
from kernels.optable import COMBINE, DISPATCH, KINDS, OpTable

Chosen = npt.NDArray[np.bool_]
FREE: Mapping[str, tuple[float, float, float]] = {  # start, low, high
    "start_s": (2e-5, 1e-6, 2e-4),
    "node_s": (5e-6, 1e-8, 5e-5),
    "peer_s": (1e-7, 1e-10, 2e-6),
    "expert_s": (1e-8, 1e-11, 1e-7),
    "row_s": (1e-8, 1e-11, 1e-6),
    "core_byte_per_s": (2e10, 1e9, 1e13),
    "token_byte_per_s": (2e10, 1e9, 1e13),
    "over_node_share": (0.6, 0.2, 1.0),
    "up_eff": (0.7, 0.1, 1.0),
    "rounding": (4.0, 1.0, 8.0),
}
OUT_EFF = 0.96  # not fitted: as of the library (kernels.collective_between), and what four nodes reach
DEEPEP_CORE = 20.0  # DeepEP's own default
SEARCH = 40  # generations
FEW_TOKEN = 128  # where errors are told apart
LL_TOKEN = 128.0  # SGLang's default number of tokens that the low-latency kernels' buffers hold
KNOWN: Mapping[str, Mapping[str, float]] = {
    "deepep_normal": {"num_core": DEEPEP_CORE},
    "deepep_low_latency": {"a_row_an_expert": 1.0},
    "NVLinkOneSided": {"num_core": 1.0},  # how many is not told: rates are those of all
    "NVLinkTwoSided": {"num_core": 1.0},
}


@njit
def seconds_of(shape: Floats, core: float, link: Floats, values: Floats) -> Floats:
    """Seconds of each row of shapes `[n, EXCHANGE_SHAPE]`."""
    out = np.empty(len(shape))
    for i in range(len(shape)):
        out[i] = exchange_s(shape[i], core, link, values)[0]
    return out


def shapes(ops: OpTable) -> Floats:
    """`[n, EXCHANGE_SHAPE]` of operator rows."""
    names = ("m", "n", "topk", "num_expert", "group_size", "group_node", "window", "k")
    return np.stack([ops[name].astype(float) for name in names], axis=1)


def fit_files(files: Sequence[str | pathlib.Path], system: str) -> list[Kernel]:
    """A kernel for every operation and kernel name of the files, and `deepep` of both of its halves."""
    found: list[Kernel] = []
    read = [rows for file in files for rows in read_folder(file)]
    share = max((reached(rows.ops[priced(rows)], rows.seconds[priced(rows)], system) for rows in read), default=1.0)
    for rows in read:
        names = rows.frame["kernel"].astype(str).to_numpy(str)
        for kind in (DISPATCH, COMBINE):
            for name in sorted(set(names)):
                mine = priced(rows) & (names == name) & (rows.ops["kind"] == kind)
                if mine.any():
                    found.append(fit_kernel(rows.ops[mine], rows.seconds[mine], system, name, rows.file.name, share))
    both = {(kernel.kind, kernel.name): kernel for kernel in found}
    for what in (KINDS[DISPATCH], KINDS[COMBINE]):
        normal, low = both.get((what, "deepep_normal")), both.get((what, "deepep_low_latency"))
        if normal is None or low is None:
            continue
        parameter = {name: normal.parameter[name] for name in EXCHANGE_FIT[:LOW_LATENCY]}
        parameter |= {name: low.parameter[name] for name in EXCHANGE_FIT[LOW_LATENCY:LL_MAX_TOKEN]}
        parameter["ll_max_token"] = LL_TOKEN
        found.append(
            Kernel(kind=what, format="any", name="deepep", default=True, data=normal.data, parameter=parameter,
                   spread=normal.spread)
        )  # fmt: skip
    return found


def priced(rows: Measured) -> Chosen:
    """Rows that an operator of ours stands for."""
    found = np.ones(len(rows.ops), np.bool_)
    found[list(rows.skipped)] = False
    return found


def reached(ops: OpTable, seconds: Floats, system: str) -> float:
    """The largest share of a device's links that an exchange inside one node reaches; 1 where there is none."""
    inside = ops["group_node"] <= 1
    if not inside.any():
        return 1.0
    built = catalog.system(system, int(ops["group_size"].max()))
    link, ideal, core = machine(built).link, np.array(IDEAL_EXCHANGE), float(built.device.num_core)
    least = np.array([exchange_s(shape, core, link, ideal)[1] for shape in shapes(ops[inside])])
    return float((least / seconds[inside]).max())


def fit_kernel(ops: OpTable, seconds: Floats, system: str, name: str, data: str, share: float = 1.0) -> Kernel:
    """One named kernel of one operation, fitted on its rows' half; `share` of the links is the most that any row of the
    machine reaches: rows whose cores bind as well do not tell a larger one from the rounding where the two meet."""
    built = catalog.system(system, int(ops["group_size"].max()))
    arrays = machine(built)
    shape, core = shapes(ops), float(built.device.num_core)
    low = name == "deepep_low_latency"
    known = {**KNOWN.get(name, {}), "out_eff": OUT_EFF}
    if int(ops["group_node"].max()) == 1:
        known |= {"node_s": 0.0, "over_node_share": 1.0}
    ideal = dict(zip(ONE_KERNEL, IDEAL_EXCHANGE, strict=False)) | known
    start, low_share, high = FREE["up_eff"]
    free = {**FREE, "up_eff": (min(start, share), low_share, min(high, share))}
    parameters = [
        Parameter(n, *free[n] if n in free and n not in known else (ideal[n],) * 3) for n in ONE_KERNEL
    ]  # fmt: skip

    def predict(chosen: Chosen, values: Floats) -> Floats:
        return np.asarray(seconds_of(shape[chosen], core, arrays.link, _vector(values, low)))

    mine = half(*(ops[column] for column in ("m", "n", "num_expert", "group_size")))
    found = fit(lambda v: predict(mine, v), seconds[mine], parameters, search=SEARCH)
    values = _vector(np.array([found[n] for n in ONE_KERNEL]), low)
    price = np.asarray(seconds_of(shape, core, arrays.link, values))
    return Kernel(
        kind=KINDS[int(ops["kind"][0])], format="any", name=name, data=data,
        parameter=dict(zip(EXCHANGE_FIT, values.tolist(), strict=True)),
        train=ErrorSummary(**asdict(error(price[mine], seconds[mine]))),
        held_out=ErrorSummary(**asdict(error(price[~mine], seconds[~mine]))),
        part=_parts(ops, ~mine, price, seconds),
        spread=spread(price[~mine], seconds[~mine]),
    )  # fmt: skip


def _parts(ops: OpTable, checked: Chosen, price: Floats, seconds: Floats) -> dict[str, ErrorSummary]:
    """Held-out errors by nodes (devices, in one node) and by tokens of a device."""
    over = int(ops["group_node"].max()) > 1
    column, unit = ("group_node", "nodes") if over else ("group_size", "devices")
    found = {}
    for count in np.unique(ops[column]):
        for few in (True, False):
            mine = checked & (ops[column] == count) & ((ops["m"] <= FEW_TOKEN) == few)
            if mine.any():
                label = f"{count} {unit}, {'up to' if few else 'over'} {FEW_TOKEN} tokens"
                found[label] = ErrorSummary(**asdict(error(price[mine], seconds[mine])))
    return found


def _vector(values: Floats, low: bool) -> Floats:
    """A fit vector whose only kernel is a low-latency one, or one that is not."""
    found = np.array(IDEAL_EXCHANGE)
    at = LOW_LATENCY if low else 0
    found[at : at + LOW_LATENCY] = values
    found[LL_MAX_TOKEN] = 1e9 if low else 0.0
    return found
