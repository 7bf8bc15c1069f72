"""Profiles of GEMM and fused experts from a folder of measured operators.

The folder holds CSV files in the columns of `hw_models.calibration.measured`. Deterministic: the same rows, in any
order, give the same constants. `hw_models.calibration.shipped` writes the profiles.
"""

import pathlib
from collections.abc import Mapping

import numpy as np

from hw_models import catalog
from hw_models.calibration import gemm, moe
from hw_models.calibration.kernel_fit import Rows, fit_kernel
from hw_models.calibration.measured import Measured, from_frame, read_folder
from hw_models.device import machine
from hw_models.profile import Kernel, Profile
from kernels.formats import FORMAT_CODE, FORMATS
from kernels.machine import Machine

KINDS = ("gemm", "moe")


def fit_folder(
    folder: str | pathlib.Path, device: str, relative: Profile | None = None, kinds: tuple[str, ...] = KINDS
) -> dict[str, list[Kernel]]:
    """Fitted kernels by kind of all files of a folder. `relative`: the profile that few probes start from."""
    arrays = machine(catalog.system(device), "sol")
    fitted: dict[str, list[Kernel]] = {}
    for measured in read_folder(folder, arrays):
        if measured.kind in kinds and measured.label == measured.kind:  # not one rank of many
            fitted.setdefault(measured.kind, []).extend(fit_measured(measured, arrays, relative, device))
    return fitted


def fit_formats(file: pathlib.Path, device: str, but: set[str], names: tuple[str, ...]) -> list[Kernel]:
    """Fitted kernels of a file's formats but some, of the kernels `names`."""
    (measured,) = read_folder(file, machine(catalog.system(device), "sol"))
    formats, kernels = np.array(measured.format_name()), measured.frame["kernel"].astype(str).to_numpy()
    kept = np.isin(kernels, names) & ~np.isin(formats, sorted(but))
    return fit_measured(from_frame(measured.frame[kept], file), machine(catalog.system(device), "sol"))


def fit_measured(
    measured: Measured, arrays: Machine, relative: Profile | None = None, device: str = ""
) -> list[Kernel]:
    """Every (format, kernel) of one file; the one with the most rows of a format is its default."""
    formats = np.array(measured.format_name())
    names = measured.frame["kernel"].astype(str).to_numpy()
    usable = np.array([row not in measured.skipped for row in range(len(formats))])
    groups = sorted({(f, n) for f, n, u in zip(formats.tolist(), names.tolist(), usable, strict=True) if u})
    kernels = []
    for fmt, name in groups:
        rows = _ordered(measured, np.flatnonzero((formats == fmt) & (names == name) & usable))
        kernels.append(_one(measured, rows, arrays, fmt, name, relative, device))
    largest: dict[str, Kernel] = {}
    for k in kernels:
        if k.format not in largest or _rows(k) > _rows(largest[k.format]):
            largest[k.format] = k
    return [k.model_copy(update={"default": k is largest[k.format]}) for k in kernels]


def _one(
    measured: Measured, rows: Rows, arrays: Machine, fmt: str, name: str, relative: Profile | None, device: str
) -> Kernel:
    code = FORMAT_CODE[fmt]
    known: Mapping[str, float] | None = None
    if relative is not None:
        near = relative.find(measured.kind, fmt)
        known = near.parameter if near is not None else None
    if measured.kind == "gemm":
        lists = gemm.variants(FORMATS[code].act_bit < 16, float(measured.seconds[rows].min()), known)
    else:
        lists = moe.variants(known, name, fmt, device)
    return fit_kernel(measured, rows, arrays, kind=measured.kind, fmt=fmt, fmt_code=code, name=name, variants=lists)


def _rows(kernel: Kernel) -> int:
    return 0 if kernel.train is None else kernel.train.n


def _ordered(measured: Measured, rows: Rows) -> Rows:
    """Rows in an order that does not depend on the file's."""
    ops = measured.ops[rows]
    keys = [measured.seconds[rows], *(ops[f] for f in ("ep", "tp", "topk", "num_expert", "k", "n", "m"))]
    return np.asarray(rows[np.lexsort(keys)])
