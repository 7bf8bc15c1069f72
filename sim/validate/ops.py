"""`ridgeline validate ops DIR --system NAME`: the price of every measured operator, against its measurement."""

import argparse
import pathlib
from collections import Counter
from collections.abc import Sequence
from typing import Any

import numpy as np

from kernels.errors import InputError

SLOW = "took over a hundred times our price (is the unit right?)"
HELP = "measured operators (GEMM, attention, experts, recurrences, collectives) and blocks of them against their prices"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "folder", metavar="DIR", help="folder of CSV files (or one file); their columns tell what they are"
    )
    parser.add_argument("--system", required=True, help="the machine that was measured")
    parser.add_argument("--fidelity", choices=("calibrated", "sol"), default="calibrated")
    parser.add_argument("--json", metavar="FILE", help="write the rows")


def run(arguments: argparse.Namespace) -> int:
    from sim.validate._rows import finish

    rows, reasons = validate_ops(arguments.folder, arguments.system, arguments.fidelity)
    return finish(rows, arguments.json, reasons, "not priced")


def validate_ops(
    folder: str | pathlib.Path, system: str, fidelity: str = "calibrated"
) -> tuple[list[dict[str, Any]], Counter[str]]:
    """Rows of error by kind, format, kernel and size class (`all`: totals), and why rows were not priced.

    Fits nothing. A row names its kernel; where the machine's profile does not know the name, the default kernel
    of that kind and format prices it.
    """
    from hw_models import catalog
    from hw_models.calibration.measured import other, read_folder
    from hw_models.calibration.plausible import check_slow, slow_rows
    from hw_models.device import machine
    from sim.validate import _blocks
    from sim.validate._published_names import known_system

    system = known_system(system)
    reasons: Counter[str] = Counter()
    rows: list[dict[str, Any]] = []
    try:
        widest = catalog.system(system, 8)
    except InputError:
        widest = catalog.system(system)
    arrays = machine(widest, fidelity)
    apart: list[tuple[pathlib.Path, Any]] = []
    files = read_folder(folder, arrays, reasons, apart)
    for kind in dict.fromkeys(measured.label for measured in files):  # several files of a kind are one
        alike = [measured for measured in files if measured.label == kind]
        prices = [predict(measured, system, fidelity, reasons) for measured in alike]
        if fidelity == "calibrated":
            for measured, price_s in zip(alike, prices, strict=True):
                slow = slow_rows(measured.seconds, price_s)
                if len(files) == 1 and slow.sum() == np.isfinite(price_s).sum():
                    check_slow(measured.seconds, price_s, measured.file, "latency_ms")
                price_s[slow] = np.nan
                reasons.update([SLOW] * int(slow.sum()))
        rows += error_rows(alike, prices, system)
    blocks = [_blocks.priced(frame, arrays, reasons) for _, frame in apart if _blocks.is_block(frame)]
    if blocks:
        kinds, formats, kernels, seconds, predicted = (np.concatenate(each) for each in zip(*blocks, strict=True))
        slow = slow_rows(seconds, predicted)
        predicted[slow] = np.nan
        reasons.update([SLOW] * int(slow.sum()))
        rows += classed(kinds, formats, kernels, seconds, predicted, system)
    for file, frame in apart:
        if not _blocks.is_block(frame):
            reasons[f"{file.name}: {other(frame)}"] += len(frame)
    return rows, reasons


def predict(measured: Any, system: str, fidelity: str, reasons: Counter[str]) -> Any:
    """Seconds of each row; NaN for the rows that cannot be priced, whose reasons are counted."""
    return costs(measured, system, fidelity, reasons)[0]


def costs(
    measured: Any, system: str, fidelity: str, reasons: Counter[str], power_limit_w: float = 0.0
) -> tuple[Any, Any]:
    """Seconds and joules of each row; NaN for the rows that cannot be priced, whose reasons are counted."""
    from hw_models import catalog
    from hw_models.clock import limited_system
    from hw_models.device import calibration, cost, fit_rows, machine
    from kernels.optable import KINDS

    predicted, joule = np.full(len(measured.seconds), np.nan), np.full(len(measured.seconds), np.nan)
    formats = np.array(measured.format_name())
    names = _kernel_names(measured)
    groups = measured.ops["group_size"]
    for name, fmt, size in sorted(set(zip(names.tolist(), formats.tolist(), groups.tolist(), strict=True))):
        chosen = (names == name) & (formats == fmt) & (groups == size)
        for index in np.flatnonzero(chosen):
            if index in measured.skipped:
                reasons[measured.skipped[index]] += 1
                chosen[index] = False
        try:
            built = limited_system(catalog.system(system, max(1, size)), power_limit_w)
            arrays = machine(built, fidelity, group_size=size if size > 1 else None)
            if fidelity == "calibrated":
                fitted, _ = calibration(built.device)
                kinds = {KINDS[kind] for kind in measured.ops["kind"][chosen]}
                named = {(kind, fmt): name for kind in kinds if fitted.find(kind, fmt, name) is not None}
                eager = "graph" not in name  # as the benchmark ran it
                arrays = arrays._replace(fit=fit_rows(built, fitted, named=named, eager=eager))
            price = [cost(measured.ops[chosen], measured.work, arrays)]
            if measured.beside is not None:
                price.append(cost(measured.beside[chosen], measured.work, arrays))
        except InputError as error:
            reasons[str(error)] += int(chosen.sum())
            continue
        predicted[chosen] = sum(part["time_ps"] for part in price) * 1e-12
        joule[chosen] = sum(part["energy_nj"] for part in price) * 1e-9
    return predicted, joule


def _kernel_names(measured: Any) -> Any:
    if "kernel" in measured.frame.columns:
        return measured.frame["kernel"].astype(str).to_numpy(str)
    return np.full(len(measured.seconds), "nccl")


def error_rows(files: Sequence[Any], prices: Sequence[Any], system: str) -> list[dict[str, Any]]:
    """Error by (kind, format, kernel) and size class, and in all, of files of one kind with the seconds priced."""
    from kernels.optable import KINDS

    if files[0].kind in ("collective", "exchange", "recurrent"):
        kinds = np.array([KINDS[kind] for measured in files for kind in measured.ops["kind"]])
    else:  # as the file has it: a prefill of one token is priced by the decode kernel and is still a prefill
        kinds = np.array([measured.label for measured in files for _ in measured.ops])
    formats = np.array([name for measured in files for name in measured.format_name()])
    kernels = np.concatenate([_kernel_names(measured) for measured in files])
    seconds, predicted = np.concatenate([measured.seconds for measured in files]), np.concatenate(prices)
    return classed(kinds, formats, kernels, seconds, predicted, system)


def classed(kinds: Any, formats: Any, kernels: Any, seconds: Any, predicted: Any, system: str) -> list[dict[str, Any]]:
    """Error rows of measured rows: what each is, its format and kernel, its seconds and their price (NaN: none)."""
    from hw_models.calibration.fit import size_class
    from sim.validate._rows import error_row

    classes = size_class(seconds)
    rows = []
    for kind in sorted(set(kinds)):
        for fmt in ["all", *sorted(set(formats[kinds == kind]))]:
            of_format = (kinds == kind) & ((formats == fmt) | (fmt == "all"))
            for kernel in ["all", *sorted(set(kernels[of_format]))] if fmt != "all" else ["all"]:
                of_kernel = of_format & ((kernels == kernel) | (kernel == "all"))
                for name in ["all", *sorted(set(classes[of_kernel]))]:
                    chosen = of_kernel & ((classes == name) | (name == "all"))
                    priced = chosen & np.isfinite(predicted)
                    pair = predicted[priced].tolist(), seconds[priced].tolist()
                    row = error_row(kind, kernel, system, *pair, int(chosen.sum()), number_format=fmt, size_class=name)
                    rows.append(row)
                    if fmt == kernel == name == "all":
                        rows.append(row | {"system": "all"})  # over the whole of what was given
    return rows
