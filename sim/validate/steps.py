"""`ridgeline validate steps FILE`: measured iterations of a serving engine against their prices.

A file of **prompt and token times** has a row a batch: how many prompts of how many tokens, the tensor parallel size,
the time of the prompts and the time a token after that. A file of **iterations** has a row a step: its prompt tokens,
its decoding sequences and its time. Columns go by the names in `ALIASES`; what a file leaves out (the model, the
machine) is said on the command line. `--engine` names an engine profile, or a stack of which there is one a host.
"""

import argparse
import pathlib
from collections import Counter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import numpy as np
    import pandas as pd

    from hw_models.calibration.odd_rows import OddRows
    from sim.serving.step_time import Batch, Deployment

    Step = tuple[str, Deployment, Batch, float, int, str]  # kind, where, what, seconds, line, why it is not priced

HELP = "measured prompt and token times, or single iterations, of a serving engine against their prices"

ALIASES: dict[str, tuple[str, ...]] = {
    "model": ("model", "model_id", "model_path"),
    "system": ("system", "gpu", "hardware", "device"),
    "tp": ("tp", "tensor_parallel", "tp_size"),
    "pp": ("pp", "pipeline_parallel", "pp_size"),
    "batch_size": ("batch_size", "batch", "num_seq"),
    "prompt_len": ("prompt_len", "prompt_size", "input_len", "isl", "prompt_token"),
    "output_len": ("output_len", "token_size", "osl", "output_token"),
    "prompt_s": ("prompt_s", "prompt_time_s", "prompt_time", "prompt_time_ms", "prompt_ms"),
    "token_s": ("token_s", "token_time_s", "token_time", "token_time_ms", "token_ms"),
    "e2e_s": ("e2e_s", "e2e_time_s", "e2e_time", "e2e_time_ms", "e2e_ms"),
    "num_prefill_token": ("num_prefill_token", "batch_num_prefill_tokens", "num_prefill_tokens"),
    "num_decode_token": ("num_decode_token", "batch_num_decode_tokens", "num_decode_tokens"),
    "kv_len": ("kv_len", "context_len"),
    "step_s": ("step_s", "step_time_s", "batch_execution_time", "step_time_ms", "step_ms"),
}
BATCHED, ITERATION = ("batch_size", "prompt_len"), ("num_prefill_token", "num_decode_token", "step_s")
MILLISECOND = ("prompt_time", "token_time", "e2e_time")  # names without a unit; all others are seconds
MOST = 2**31  # of sequences or tokens
UNIT_S = {"s": 1.0, "ms": 1e-3, "us": 1e-6}
TOO_FAST, TOO_SLOW = 10.0, 100.0  # times the speed of light, times our price: another unit, not a measurement
IN_PARTS = 1.5  # end to end over prompt and tokens: the batch was not served at once
ODD = "no measurement"
CONTEXT = 1024  # keys of a decoding sequence whose file does not tell them
BLANK = {"pp": 1.0, "output_len": 1.0, "kv_len": float(CONTEXT)}  # what an empty cell means
ENGINE = "vllm_2023"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", help="CSV of prompt and token times, or of iterations")
    parser.add_argument("--engine", default=ENGINE, help=f"engine profile, or a stack of them (default: {ENGINE})")
    parser.add_argument("--model", help="where the file has no such column")
    parser.add_argument("--system", help="likewise")
    parser.add_argument("--tp", type=int, help="likewise")
    parser.add_argument("--unit", choices=tuple(UNIT_S), help="of columns of time whose names do not tell it")
    parser.add_argument("--json", metavar="OUT", help="write the rows")


def run(arguments: argparse.Namespace) -> int:
    from sim.validate._rows import finish

    given = {name: getattr(arguments, name) for name in ("model", "system", "tp") if getattr(arguments, name)}
    rows, reasons = validate_steps(arguments.file, arguments.engine, unit=arguments.unit, **given)
    return finish(rows, arguments.json, reasons, "not priced")


def validate_steps(
    file: str | pathlib.Path, engine: str = ENGINE, *, unit: str | None = None, **given: Any
) -> tuple[list[dict[str, Any]], Counter[str]]:
    """Rows of error by kind (`prompt`, `token`; `prefill`, `decode`, `hybrid` of iterations), by model and system, by
    tensor parallel size and by batch (`size_class`); and why rows were not priced. Fits nothing. Where neither the
    columns nor `unit` tell it, and no time is plausible in the usual one, another is tried, and `unit` of each row
    names it."""
    from kernels.errors import InputError

    try:
        return _validate(file, engine, unit, given)
    except InputError as error:
        if unit is not None or error.field != "seconds":
            raise
        for other in UNIT_S:
            try:
                rows, reasons = _validate(file, engine, other, given)
            except InputError:
                continue
            return [row | {"unit": other} for row in rows], reasons
        raise


def _validate(
    file: str | pathlib.Path, engine: str, unit: str | None, given: dict[str, Any]
) -> tuple[list[dict[str, Any]], Counter[str]]:
    import numpy as np

    from hw_models.calibration.odd_rows import OddRows

    reasons: Counter[str] = Counter()
    odd = OddRows(pathlib.Path(file))
    frame = read(odd.file, unit, odd, **given)
    odd.stands(len(frame))
    steps = measured(frame, odd)
    predicted = predict(steps, engine, odd, reasons)
    odd.stands(len(frame))
    odd.count(reasons)
    return _rows(steps, np.asarray(predicted)), reasons


def read(path: pathlib.Path, unit: str | None = None, odd: "OddRows | None" = None, **given: Any) -> "pd.DataFrame":
    """The file with our column names, times in seconds, `line` of each row; an `InputError` for what is amiss, of
    values where there is no `odd` to note them."""
    from hw_models.calibration.measured import read_frame
    from hw_models.calibration.odd_rows import OddRows
    from kernels.errors import InputError

    raw = read_frame(path, ("prompt_s", "token_s", "e2e_s", "step_s"))
    noted = OddRows(path) if odd is None else odd
    lower = {str(name).lower(): str(name) for name in raw.columns}
    frame = raw.iloc[:, :0].copy()
    for name, aliases in ALIASES.items():
        source = next((lower[alias] for alias in aliases if alias in lower), None)
        if source is None:
            if name in given:
                frame[name] = given[name]
        elif name in ("model", "system"):
            frame[name] = raw[source].fillna(given[name]).astype(str) if name in given else noted.text(raw, source)
        else:
            counted = name in ("num_prefill_token", "num_decode_token")
            blank = BLANK.get(name) if name != "tp" else given.get(name)
            values = noted.number(raw, source, positive=not counted, most=MOST, blank=blank)
            frame[name] = values * _unit_s(source.lower(), unit) if name.endswith("_s") else values.astype(int)
    has = set(frame.columns)
    if not (set(ITERATION) <= has or (set(BATCHED) <= has and {"prompt_s", "token_s"} & has)):
        wanted = f"{', '.join(BATCHED)} and prompt_time or token_time; or {', '.join(ITERATION)}"
        raise InputError("columns are missing", file=path, field="columns", value=", ".join(lower), allowed=wanted)
    if odd is None:
        noted.check()
    for name in ("model", "system", "tp"):
        if name not in has:
            option = f"a column ({', '.join(ALIASES[name])}) or the option --{name}"
            raise InputError("not given", file=path, field=name, value="", allowed=option)
    return frame.assign(line=range(2, len(frame) + 2))


def _unit_s(column: str, unit: str | None) -> float:
    told = column.rsplit("_", 1)[-1]
    if told in UNIT_S:
        return UNIT_S[told]
    return UNIT_S[unit or ("ms" if column in MILLISECOND else "s")]


def measured(frame: "pd.DataFrame", odd: "OddRows | None" = None) -> "list[Step]":
    """Everything that was measured, with why it is not to be priced: a batch that took much longer in all than its
    prompts and its tokens did not run as one (its times are of some part of it), or the row is `odd`."""
    from sim.serving.step_time import Batch, Deployment
    from sim.validate._published_names import known_model, known_system

    found = []
    for row in frame.to_dict("records"):
        system = known_system(str(row["system"]))
        where = Deployment(known_model(str(row["model"])), system, int(row["tp"]), int(row.get("pp", 1)))
        line = int(row["line"])
        amiss = ODD if odd is not None and line - 2 in odd.reason else ""
        if "step_s" in row:
            prompt, decode = int(row["num_prefill_token"]), int(row["num_decode_token"])
            num_prompt = max(1, int(row.get("batch_size", 1)) - decode) if prompt else 0
            kind = "hybrid" if prompt and decode else "prefill" if prompt else "decode"
            kv_len = int(row.get("kv_len", CONTEXT))
            batch = Batch(num_prompt, prompt // num_prompt if prompt else 0, decode, kv_len if decode else 0)
            found.append((kind, where, batch, float(row["step_s"]), line, amiss))
            continue
        num, prompt, output = int(row["batch_size"]), int(row["prompt_len"]), int(row.get("output_len", 0))
        held = num * (prompt + output)
        parts_s = float(row.get("prompt_s", 0.0)) + max(0, output - 1) * float(row.get("token_s", 0.0))
        whole = {"prompt_s", "token_s", "e2e_s"} <= set(row) and output > 0
        in_parts = whole and float(row["e2e_s"]) > IN_PARTS * parts_s
        why = amiss or (
            f"a batch of {num} served in parts: over {IN_PARTS} times its phases end to end" if in_parts else ""
        )
        if "prompt_s" in row:
            found.append(("prompt", where, Batch(num, prompt, kv_held=held), float(row["prompt_s"]), line, why))
        if "token_s" in row:  # the mean over the answer: halfway through it
            batch = Batch(0, prompt, num, prompt + max(1, output // 2), held)
            found.append(("token", where, batch, float(row["token_s"]), line, why))
    return found


def predict(steps: "list[Step]", engine: str, odd: "OddRows", reasons: Counter[str]) -> list[float]:
    """Seconds of each; NaN for what cannot be priced, whose reasons are counted, and for a time that is ten times
    faster than light or a hundred times slower than its price, whose row is `odd`."""
    import functools

    from hw_models import catalog
    from kernels.errors import InputError
    from sim.serving.engine_profile import load, of_stack
    from sim.serving.step_time import step_s

    ideal, host = load("none"), functools.cache(lambda name: load(of_stack(engine, name)))
    price = functools.cache(lambda where, batch: step_s(where, host(catalog.system(where.system).device.name), batch))
    light = functools.cache(lambda where, batch: step_s(where, ideal, batch, "sol"))
    found = []
    for _, where, batch, seconds, line, why in steps:
        if why == ODD:
            found.append(float("nan"))
            continue
        try:
            ours = price(where, batch)
        except InputError as error:
            reasons[str(error)] += 1
            found.append(float("nan"))
            continue
        fast = TOO_FAST * (TOO_FAST if why else 1.0)  # what was served in parts may be short, but not in another unit
        if seconds * fast < light(where, batch) or seconds > TOO_SLOW * ours:
            allowed = f"about {ours:.3g} s; where the column is in another unit, say so (--unit)"
            why = "not plausible"
            amiss = InputError(why, file=odd.file, line=line, field="seconds", value=seconds, allowed=allowed)
            odd.add(line - 2, f"seconds: {why} (is the unit right?)", amiss)
            found.append(float("nan"))
            continue
        reasons.update([why] if why else [])
        found.append(float("nan") if why else ours)
    return found


def _rows(steps: "list[Step]", predicted: "np.ndarray[Any, Any]") -> list[dict[str, Any]]:
    import numpy as np
    import pandas as pd

    from sim.validate._rows import error_row

    frame = pd.DataFrame(
        {
            "kind": [kind for kind, *_ in steps],
            "model": [where.model for _, where, *_ in steps],
            "system": [where.system for _, where, *_ in steps],
            "tp": [f"tp{where.tp}" for _, where, *_ in steps],
            "batch": ["one" if batch.num_prompt + batch.num_decode == 1 else "several" for _, _, batch, *_ in steps],
            "ours": predicted,
            "theirs": [seconds for _, _, _, seconds, *_ in steps],
        }
    )
    rows = []

    def label(text: str) -> str:  # a file's own word
        return f"'{text}'" if text.strip("+- ").lower() in ("nan", "inf", "infinity") else text

    def add(some: pd.DataFrame, kind: str, model: str, system: str, size_class: str) -> None:
        ran = some[np.isfinite(some["ours"])]
        pair = ran["ours"].tolist(), ran["theirs"].tolist()
        fmt = "all" if system == "all" else "-"  # the model's own
        model, system = label(model), label(system)
        rows.append(error_row(kind, model, system, *pair, len(some), number_format=fmt, size_class=size_class))

    for kind, of_kind in frame.groupby("kind", sort=False):
        add(of_kind, str(kind), "all", "all", "all")
        for (model, system), some in of_kind.groupby(["model", "system"]):
            for name in ("all", *sorted(some["tp"].unique()), *sorted(some["batch"].unique())):
                chosen = (some["tp"] == name) | (some["batch"] == name) | (name == "all")
                add(some[chosen], str(kind), str(model), str(system), name)
    add(frame, "all", "all", "all", "all")
    return rows
