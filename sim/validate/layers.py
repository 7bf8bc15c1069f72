"""`ridgeline validate layers FILE --system NAME`: measured operators of whole layers against their prices.

A row is a token count and a tensor parallel size of one model (`num_token, tp, hidden, inter, num_head,
num_kv_head`) with a time for each operator of its layer (`..._ms`). A file without a second norm
(`post_attention_layernorm_ms`) is of a parallel block with a plain feed-forward part, whose result and attention's
are added to the residual one after the other; else the part is gated, and one add is timed.
"""

import argparse
import pathlib
from collections.abc import Callable
from typing import Any

import numpy as np

from kernels import optable as op
from kernels.errors import InputError

HELP = "measured operators of whole layers (norms, projections, rotary, activations) against their prices"
SHAPE = ("num_token", "tp", "hidden", "inter", "num_head", "num_kv_head")
TIMER_S = 3e-6  # an operator of under three steps of the timer may read 0
BYTE = 2.0  # 16-bit weights and activations

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

    return finish(validate_layers(arguments.file, arguments.system, arguments.fidelity), arguments.json)


def validate_layers(path: str | pathlib.Path, system: str, fidelity: str = "calibrated") -> list[dict[str, Any]]:
    """Rows of error by operator and file, by token class, and in all. The timer's step is 1 us: times of under
    10 us are a class of their own, and a time that reads 0 counts against coverage."""
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
    rows = []
    total: tuple[list[float], list[float]] = ([], [])
    for file in files:
        for column, (simulated, measured) in _file(file, arrays).items():
            total[0].extend(simulated)
            total[1].extend(measured)
            small, ran = np.array(measured) < 10e-6, np.isfinite(simulated)
            for name, chosen in (("all", small | True), ("under_10us", small), ("over_10us", ~small)):
                pair = np.array(simulated)[chosen & ran].tolist(), np.array(measured)[chosen & ran].tolist()
                kind = column.removesuffix("_ms")
                rows.append(
                    error_row(kind, file.name.split(".csv")[0], system, *pair, int(chosen.sum()),
                              number_format="bf16", size_class=name)
                )  # fmt: skip
    ran = np.isfinite(total[0])
    pair = np.array(total[0])[ran].tolist(), np.array(total[1])[ran].tolist()
    return [*rows, error_row("all", "all", system, *pair, len(ran), number_format="bf16")]


def _file(file: pathlib.Path, arrays: Any) -> dict[str, tuple[list[float], list[float]]]:
    """Simulated and measured seconds of every operator column of a file."""
    from hw_models.calibration.measured import read_frame
    from hw_models.calibration.measured_rows import number
    from hw_models.calibration.plausible import check_light, check_slow
    from hw_models.device import cost
    from kernels.formats import FORMAT_CODE

    frame = read_frame(file)
    for name in SHAPE:
        if name not in frame.columns:
            raise InputError("column is missing", file=file, field=name, value="", allowed=SHAPE)
    shape: Shape = {name: number(frame, name, file, positive=True, whole=True).astype(np.int64) for name in SHAPE}
    shape["num_up"] = 2 if "post_attention_layernorm_ms" in frame.columns else 1
    found: dict[str, tuple[list[float], list[float]]] = {}
    for column, build in OPERATORS.items():
        if column not in frame.columns:
            continue
        measured = number(frame, column, file)
        ops, work = op.empty(len(frame))
        ops["fmt"] = FORMAT_CODE["bf16"]
        for field, values in build(shape).items():
            ops[field] = values
        check_light(ops, measured * 1e-3, arrays, file, column)
        simulated = cost(ops, work, arrays)["time_ps"] * 1e-12
        check_slow(measured * 1e-3, simulated, file, column)
        hidden = (measured == 0) & (simulated <= TIMER_S)  # under the timer's step
        number(frame.assign(**{column: np.where(hidden, 1.0, measured)}), column, file, positive=True)
        simulated[hidden] = np.nan
        found[column] = simulated.tolist(), (measured * 1e-3).tolist()
    if not found:
        raise InputError("no operator was timed", file=file, field="columns", value="", allowed=list(OPERATORS))
    return found
