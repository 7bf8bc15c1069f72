"""`ridgeline validate layers FILE --system NAME`: measured operators of whole layers against their prices.

A row is a token count and a tensor parallel size of one model (`num_token, tp, hidden, inter, num_head,
num_kv_head`) with a time for each operator of its layer (`..._ms`). A file without a second norm
(`post_attention_layernorm_ms`) is of a parallel block with a plain feed-forward part, whose result and attention's
are added to the residual one after the other; else the part is gated, and one add is timed.
"""

import argparse
import pathlib
from collections import Counter
from collections.abc import Callable
from typing import Any

import numpy as np
import numpy.typing as npt

from kernels import optable as op
from kernels.errors import InputError

HELP = "measured operators of whole layers (norms, projections, rotary, activations) against their prices"
SHAPE = ("num_token", "tp", "hidden", "inter", "num_head", "num_kv_head")
TIMER_S = 3e-6  # an operator of under three steps of the timer may read 0
SMALL_S = 10e-6  # of which a step of the timer is a tenth and more
BYTE = 2.0  # 16-bit weights and activations
MOST_SIZE = 2**24  # tokens, widths, heads

Floats = npt.NDArray[np.float64]
Shape = dict[str, Any]
Row = dict[str, Any]


def _gemm(m: Any, n: Any, k: Any) -> Row:
    byte = {"weight_byte": n * k * BYTE, "act_byte": m * k * BYTE, "write_byte": m * n * BYTE}
    return {"kind": op.GEMM, "m": m, "n": n, "k": k, "flop": 2.0 * m * n * k, **byte}


def _stream(kind: int, m: Any, n: Any, read: float, flop: float) -> Row:
    return {
        "kind": kind,
        "m": m,
        "n": n,
        "flop": flop * m * n,
        "act_byte": read * m * n * BYTE,
        "write_byte": m * n * BYTE,
    }


def _head_width(s: Shape) -> Any:
    return s["hidden"] // s["num_head"]


OPERATORS: dict[str, Callable[[Shape], Row]] = {
    "emb_ms": lambda s: _stream(op.EMBED, s["num_token"], s["hidden"], 1, 0),
    "input_layernorm_ms": lambda s: _stream(op.NORM, s["num_token"], s["hidden"], 1, 4),
    "post_attention_layernorm_ms": lambda s: _stream(op.NORM, s["num_token"], s["hidden"], 1, 4),
    "attn_pre_proj_ms": lambda s: _gemm(
        s["num_token"], (s["num_head"] + 2 * s["num_kv_head"]) * _head_width(s) // s["tp"], s["hidden"]
    ),
    "attn_rope_ms": lambda s: _stream(
        op.ROPE, s["num_token"], (s["num_head"] + s["num_kv_head"]) * _head_width(s) // s["tp"], 1, 3
    ),
    "attn_post_proj_ms": lambda s: _gemm(s["num_token"], s["hidden"], s["hidden"] // s["tp"]),
    "mlp_up_proj_ms": lambda s: _gemm(s["num_token"], s["num_up"] * s["inter"] // s["tp"], s["hidden"]),
    "mlp_act_ms": lambda s: _stream(op.ACT, s["num_token"], s["inter"] // s["tp"], s["num_up"], 5),
    "mlp_down_proj_ms": lambda s: _gemm(s["num_token"], s["hidden"], s["inter"] // s["tp"]),
    "add_ms": lambda s: {**_stream(op.ADD, s["num_token"], s["hidden"], 2, 1), "count": 3 - s["num_up"]},
}


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", help="a CSV file, or a folder of them")
    parser.add_argument("--system", required=True, help="the machine that was measured")
    parser.add_argument("--fidelity", choices=("calibrated", "sol"), default="calibrated")
    parser.add_argument("--json", metavar="OUT", help="write the rows")


def run(arguments: argparse.Namespace) -> int:
    from sim.validate._rows import finish

    rows, reasons = validate_layers(arguments.file, arguments.system, arguments.fidelity)
    return finish(rows, arguments.json, reasons, "not compared")


def validate_layers(
    path: str | pathlib.Path, system: str, fidelity: str = "calibrated"
) -> tuple[list[dict[str, Any]], Counter[str]]:
    """Rows of error by operator and file, by operator, by token class, and in all; and why times were not compared.
    The timer's step is 1 us: times of under 10 us are a class of their own, and a time that reads 0 counts against
    coverage, as does what is no measurement. A file of a folder that cannot be read is a reason."""
    from hw_models import catalog
    from hw_models.calibration.measured import csv_files
    from hw_models.device import machine
    from sim.validate._published_names import known_system
    from sim.validate._rows import error_row

    system = known_system(system)
    arrays = machine(catalog.system(system), fidelity)
    folder = pathlib.Path(path)
    files = csv_files(folder) if folder.is_dir() else [folder]
    if not files:
        raise InputError("no CSV file in this folder", file=folder)
    reasons: Counter[str] = Counter()
    found: list[tuple[str, str, Floats, Floats]] = []  # operator, file, simulated and measured seconds
    first = InputError("no operator was timed", file=folder, field="columns", value="", allowed=list(OPERATORS))
    for file in files:
        try:
            pairs = _file(file, arrays, reasons)
        except InputError as error:
            if len(files) == 1:
                raise
            reasons[str(error)] += 1
            first = error
            continue
        found += [(name.removesuffix("_ms"), file.name.split(".csv")[0], *pair) for name, pair in pairs.items()]
    if not found:
        raise first
    rows = []

    def add(kind: str, name: str, machines: str, some: list[tuple[str, str, Floats, Floats]], classes: bool) -> None:
        simulated, measured = (np.concatenate([one[k] for one in some]) for k in (2, 3))
        small, ran = measured < SMALL_S, np.isfinite(simulated)
        sizes = (("all", small | True), ("under_10us", small), ("over_10us", ~small))
        for size, chosen in sizes if classes else sizes[:1]:
            pair = simulated[chosen & ran].tolist(), measured[chosen & ran].tolist()
            fmt = "bf16" if machines != "all" else "all"
            rows.append(
                error_row(kind, name, machines, *pair, int(chosen.sum()), number_format=fmt, size_class=size)
            )  # fmt: skip

    for one in found:
        add(one[0], one[1], system, [one], classes=True)
    for kind in dict.fromkeys(one[0] for one in found):
        add(kind, "all", "all", [one for one in found if one[0] == kind], classes=False)
    add("all", "all", "all", found, classes=False)
    return rows, reasons


def _file(file: pathlib.Path, arrays: Any, reasons: Counter[str]) -> dict[str, tuple[Floats, Floats]]:
    """Simulated (NaN: not compared) and measured seconds of every operator column of a file. `InputError` where no
    time of the file is a measurement."""
    from hw_models.calibration.measured import read_frame
    from hw_models.calibration.odd_rows import OddRows
    from hw_models.calibration.plausible import TOO_FAST, light_s, slow_rows
    from hw_models.device import cost
    from kernels.formats import FORMAT_CODE

    frame = read_frame(file, OPERATORS)
    for name in SHAPE:
        if name not in frame.columns:
            raise InputError("column is missing", file=file, field=name, value="", allowed=SHAPE)
    sizes = OddRows(file)
    shape: Shape = {
        name: sizes.number(frame, name, positive=True, whole=True, most=MOST_SIZE).astype(np.int64) for name in SHAPE
    }
    head, kv_head = shape["num_head"], shape["num_kv_head"]
    sizes.note(shape["hidden"] % head != 0, "does not divide hidden", "num_head", frame["num_head"].to_list())
    sizes.note(kv_head > head, "more than num_head", "num_kv_head", frame["num_kv_head"].to_list())
    good = sizes.stands(len(frame))
    sizes.count(reasons)
    shape["num_up"] = 2 if "post_attention_layernorm_ms" in frame.columns else 1
    found: dict[str, tuple[Floats, Floats]] = {}
    first: InputError | None = None
    for column, build in OPERATORS.items():
        if column not in frame.columns:
            continue
        odd = OddRows(file)
        written = frame[column].to_list()
        measured = odd.number(frame, column) * 1e-3
        ops, work = op.empty(len(frame))
        ops["fmt"] = FORMAT_CODE["bf16"]
        for field, values in build(shape).items():
            ops[field] = values
        least, simulated = light_s(ops, arrays), cost(ops, work, arrays)["time_ps"] * 1e-12
        timed = good & (measured > 0)
        fast, slow = timed & (measured * TOO_FAST < least), timed & slow_rows(measured, simulated)
        hidden = good & (measured == 0) & (simulated <= TIMER_S)  # under the timer's step
        unit = "milliseconds that the machine can reach"
        odd.note(fast, "beats the speed of light of the machine", column, written, unit)
        odd.note(slow, "100 times slower than the machine is", column, written, unit)
        odd.note(good & (measured == 0) & ~hidden, "not a measurement", column, written, "a number above 0")
        first = first or odd.first
        odd.count(reasons)
        simulated[hidden | ~good] = np.nan
        simulated[list(odd.reason)] = np.nan
        found[column] = simulated, measured
    if not found:
        raise InputError("no operator was timed", file=file, field="columns", value="", allowed=list(OPERATORS))
    if first is not None and not any(np.isfinite(ours).any() for ours, _ in found.values()):
        raise first
    return found
