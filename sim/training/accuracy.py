"""Held-out errors of the training stacks: as their files state them, or fitted again on a folder of measured rows."""

import pathlib
from collections.abc import Callable, Mapping, Sequence

import numpy as np
import pandas as pd

from kernels.errors import NothingServedError
from sim.training.estimate import known_site
from sim.training.fit_factors import Case, case, fit, left_out
from sim.training.stack import load_stack, names
from sim.validate._training_old import read_old
from sim.validate._training_rows import is_common, read_rows
from workloads.training_flop import model_flop

COLUMNS = ("kind", "format", "kernel", "system", "size_class", "n", "coverage", "mape", "median", "p90", "bias", "data")
# Which factors of a stack are fitted, on which file, and what is left out a group at a time
FITS: dict[str, tuple[str, tuple[str, ...], tuple[tuple[str, Callable[[Case], str]], ...]]] = {
    "llm-foundry": ("mosaic_mpt_throughput.csv", ("vector", "exposed"),
                    (("model size", lambda c: c.group), ("machine", lambda c: c.where.system.device.name[:4]))),
    "scaling-2023": ("llama_layouts_a100.csv", ("compute", "vector", "exposed"),
                     (("model size", lambda c: c.group),)),
    "megatron-2021": ("a100_single_node_iterations.csv", ("compute", "vector", "host_s", "step_s"),
                      (("width", lambda c: c.group),)),
    "megatron-core-2024": ("megatron-core-2024.csv", ("vector",), (("the row", lambda c: c.group),)),
    "megatron-core": ("megatron-core.csv", ("vector",), (("the row", lambda c: c.group),)),
}  # fmt: skip
PUBLISHED = pathlib.Path(__file__).parent / "published"
"""Rows that were published with their set-up, in the common form: Megatron-LM's table of GPTs on H100 (MFU; its README
of 2024, sizes, parallel groups and batches as there, widths of the larger ones from its configurations) and Llama 3 in
FP8 on H100 (tokens/s a GPU; NVIDIA's performance summary of 2025, batch assumed)."""
EVERY = {"megatron-2021": 5}  # of its rows, that a fit takes


def stated() -> pd.DataFrame:
    """A row a stack (`kernel`) and what was left out of its fit (`size_class`); stacks without any say so."""
    rows = []
    for name in names():
        file = load_stack(name).file
        rows += [
            _row(name, held.left_out, held.data, held.model_dump(exclude={"left_out", "data"}))
            for held in file.held_out
        ]
        if not file.held_out:
            rows.append(_row(name, "nothing", file.source, {"n": 0, "coverage": 0.0}))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def _row(stack: str, what: str, data: str, values: Mapping[str, float]) -> dict[str, object]:
    named = {"kind": "step", "format": "all", "kernel": stack, "system": load_stack(stack).file.device or "-",
             "size_class": what, "coverage": 1.0, "data": data}  # fmt: skip
    return named | dict(values)


def cases(stack: str, folder: pathlib.Path) -> list[Case]:
    """The measured or published rows of a stack, priced."""
    file = _file(stack, folder)
    table = pd.read_csv(file)
    read = read_rows(table, file) if is_common(table) else read_old(table, file)
    rows = [row for row in read.rows if stack != "llm-foundry" or row.precision != "fp8"][:: EVERY.get(stack, 1)]
    found = []
    for row in rows:
        where = known_site(row.system, row.plan.num_device, stack, row.plan.attention, row.precision, row.power_limit_w)
        step_s = row.step_s
        if np.isnan(step_s) and row.mfu > 0:
            flop = model_flop(row.model, row.plan, causal=row.mfu_causal)
            step_s = flop / (row.mfu * where.peak_flop_per_s * row.plan.num_device)
        if not np.isnan(step_s):
            found.append(case(f"{row.model.hidden}", row.model, row.plan, where, step_s))
    return found


def _file(stack: str, folder: pathlib.Path) -> pathlib.Path:
    name = FITS[stack][0]
    return PUBLISHED / name if (PUBLISHED / name).exists() else folder / name


def fitted_again(folder: str | pathlib.Path | None) -> pd.DataFrame:
    """The factors of every stack whose rows lie in `folder` (the shared `training` folder) or were published, fitted
    afresh, and their held-out errors; None is the published rows alone. An `InputError` where `folder` holds none."""
    rows: list[dict[str, object]] = []
    files = sorted({file for file, _, _ in FITS.values() if not (PUBLISHED / file).exists()})
    if folder is not None and not any((pathlib.Path(folder) / file).exists() for file in files):
        raise NothingServedError("no measured rows of a stack here", field="data", value=str(folder), allowed=files)
    measured = PUBLISHED if folder is None else pathlib.Path(folder)
    for name, (file, free, groups) in FITS.items():
        if not _file(name, measured).exists():
            continue
        priced = cases(name, measured)
        factors = ", ".join(f"{key} {value:.3g}" for key, value in fit(priced, free).items())
        for label, key in groups:
            rows.append(_row(name, f"{label} (on all: {factors})", file, summary(left_out(priced, free, key))))
    return pd.DataFrame(rows, columns=list(COLUMNS))


def summary(error: Sequence[float] | np.ndarray) -> dict[str, float]:
    """n, mean, median and 90th percentile of the absolute relative errors, and their bias."""
    signed = np.asarray(error, float)
    signed = signed[np.isfinite(signed)]
    size = np.abs(signed)
    return {"n": len(signed), "mape": float(size.mean()), "median": float(np.median(size)),
            "p90": float(np.percentile(size, 90)), "bias": float(signed.mean())}  # fmt: skip


def markdown(frame: pd.DataFrame) -> str:
    """The table as docs/accuracy.md has it, errors in percent."""
    lines = ["| stack | data | left out | rows | MAPE % | median % | p90 % | bias % |"]
    lines.append("|---|---|---|---:|---:|---:|---:|---:|")
    for row in frame.to_dict("records"):
        values = [f"{100 * row[name]:.1f}" if row[name] == row[name] else "-" for name in COLUMNS[7:11]]
        lines.append(f"| {row['kernel']} | {row['data']} | {row['size_class']} | {row['n']} | {' | '.join(values)} |")
    return "\n".join(lines)
