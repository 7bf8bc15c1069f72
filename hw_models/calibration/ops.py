"""Profiles of GEMM and fused experts from a folder of measured operators.

    python -m hw_models.calibration.ops FOLDER --device NAME [--relative NAME] [--out FOLDER]

`FOLDER` holds CSV files in the columns of `hw_models.calibration.measured`; `NAME` is a device of the catalogue.
One file a kind is written, `<out>/<kind>.toml`, so that other kinds are fitted by themselves. Deterministic: the
same rows, in any order, give the same file.
"""

import argparse
import datetime
import pathlib
import shlex
import sys
from collections.abc import Mapping

import numpy as np

from hw_models import catalog, profile
from hw_models.calibration import gemm, moe
from hw_models.calibration.kernel_fit import Rows, fit_kernel
from hw_models.calibration.measured import Measured, read_folder
from hw_models.device import machine
from hw_models.profile import Kernel, Profile, ProfileFile
from kernels.formats import FORMAT_CODE, FORMATS
from kernels.machine import Machine

KINDS = ("gemm", "moe")
SOURCE = "operator benchmark rows of the measured data set; constants fitted on half of the shapes"
PROBE_SOURCE = "operator probes; constants fitted on all of them, error by cross-validation"


def fit_folder(
    folder: str | pathlib.Path, device: str, relative: Profile | None = None, kinds: tuple[str, ...] = KINDS
) -> dict[str, list[Kernel]]:
    """Fitted kernels by kind of all files of a folder. `relative`: the profile that few probes start from."""
    arrays = machine(catalog.system(device), "sol")
    fitted: dict[str, list[Kernel]] = {}
    for measured in read_folder(folder, arrays):
        if measured.kind in kinds:
            fitted.setdefault(measured.kind, []).extend(fit_measured(measured, arrays, relative))
    return fitted


def fit_measured(measured: Measured, arrays: Machine, relative: Profile | None = None) -> list[Kernel]:
    """Every (format, kernel) of one file; the one with the most rows of a format is its default."""
    formats = np.array(measured.format_name())
    names = measured.frame["kernel"].astype(str).to_numpy()
    usable = np.array([row not in measured.skipped for row in range(len(formats))])
    groups = sorted({(f, n) for f, n, u in zip(formats.tolist(), names.tolist(), usable, strict=True) if u})
    kernels = []
    for fmt, name in groups:
        rows = _ordered(measured, np.flatnonzero((formats == fmt) & (names == name) & usable))
        kernels.append(_one(measured, rows, arrays, fmt, name, relative))
    largest: dict[str, Kernel] = {}
    for k in kernels:
        if k.format not in largest or _rows(k) > _rows(largest[k.format]):
            largest[k.format] = k
    return [k.model_copy(update={"default": k is largest[k.format]}) for k in kernels]


def _one(measured: Measured, rows: Rows, arrays: Machine, fmt: str, name: str, relative: Profile | None) -> Kernel:
    code = FORMAT_CODE[fmt]
    known: Mapping[str, float] | None = None
    if relative is not None:
        near = relative.find(measured.kind, fmt)
        known = near.parameter if near is not None else None
    if measured.kind == "gemm":
        lists = gemm.variants(FORMATS[code].act_bit < 16, float(measured.seconds[rows].min()), known)
    else:
        lists = moe.variants(known)
    return fit_kernel(measured, rows, arrays, kind=measured.kind, fmt=fmt, fmt_code=code, name=name, variants=lists)


def _rows(kernel: Kernel) -> int:
    return 0 if kernel.train is None else kernel.train.n


def _ordered(measured: Measured, rows: Rows) -> Rows:
    """Rows in an order that does not depend on the file's."""
    ops = measured.ops[rows]
    keys = [measured.seconds[rows], *(ops[f] for f in ("ep", "tp", "topk", "num_expert", "k", "n", "m"))]
    return np.asarray(rows[np.lexsort(keys)])


def write(fitted: Mapping[str, list[Kernel]], device: str, out: pathlib.Path, command: str, date: str) -> None:
    """One file a kind."""
    for kind, kernels in fitted.items():
        few = any(k.held_out is not None and k.train is not None and k.held_out.n == k.train.n for k in kernels)
        content = ProfileFile(
            device=device, command=command, date=date, source=PROBE_SOURCE if few else SOURCE, kernel=tuple(kernels)
        )
        profile.write_file(out / f"{kind}.toml", content)


def main(argv: list[str]) -> int:
    """The command; returns the exit code."""
    parser = argparse.ArgumentParser(prog="python -m hw_models.calibration.ops", description=__doc__.split("\n")[0])
    parser.add_argument("folder", help="measured operators, CSV")
    parser.add_argument("--device", required=True, help="catalogue name")
    parser.add_argument("--relative", help="device or profile that few probes start from")
    parser.add_argument("--out", type=pathlib.Path, required=True, help="folder of the profile")
    parser.add_argument("--date", default=datetime.date.today().isoformat(), help="written into the file")
    given = parser.parse_args(argv)
    relative = profile.load(given.relative) if given.relative else None
    fitted = fit_folder(given.folder, given.device, relative)
    command = "python -m hw_models.calibration.ops " + shlex.join(argv)
    write(fitted, given.device, given.out, command, given.date)
    for kernels in fitted.values():
        for k in kernels:
            if k.held_out is not None and k.train is not None:
                print(
                    f"{k.kind} {k.format} {k.name}: {k.train.n} rows, train {k.train.mape:.1%}, "
                    f"held out {k.held_out.mape:.1%} (median {k.held_out.median:.1%}, p90 {k.held_out.p90:.1%})"
                )
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
