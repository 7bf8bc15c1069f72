"""`ridgeline validate power FILE|DIR`: measured watts and joules against what the same rows are priced to draw.

Three kinds of rows, told by their columns: **operators** with their board power (those of `ridgeline validate ops`, and
`power_w`), **steady serving loads** (power, energy an output token), and **nodes** at the wall. Operators shorter than
0.3 ms are reported apart (`short`) and not in `all`: a meter that averages over some tenths of a second shows what ran
before them. What cannot be priced counts against coverage, with its reason.
"""

import argparse
import pathlib
from collections import Counter
from typing import Any

HELP = "measured power and energy of operators, serving loads and nodes against their prices"
KINDS = ("power", "energy_per_token", "node_power", "node_idle_power")


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", help="CSV file, or a folder of them; their columns tell what they are")
    parser.add_argument("--system", help="machine of rows of operators (default: the folder's name)")
    parser.add_argument("--engine", default="vllm_0.11", help="engine profile of serving rows (default: vllm_0.11)")
    parser.add_argument("--json", metavar="OUT", help="write the rows")


def run(arguments: argparse.Namespace) -> int:
    from sim.validate._rows import report

    rows, reasons = validate_power(arguments.file, arguments.system, arguments.engine)
    print(report(rows, arguments.json, reasons))
    for reason, count in reasons.most_common():
        print(f"not priced: {count} rows: {reason}")
    return 0


def validate_power(
    file: str | pathlib.Path, system: str | None = None, engine: str = "vllm_0.11"
) -> tuple[list[dict[str, Any]], Counter[str]]:
    """Rows of error by kind, format, kernel (or model, or benchmark), system and size class, and why rows were not
    priced. Fits nothing. `InputError` where nothing was measured."""
    import pandas as pd

    from kernels.errors import InputError
    from sim.validate._power_rows import pairs_of

    path = pathlib.Path(file)
    reasons: Counter[str] = Counter()
    found = pairs_of(path, system, engine, reasons)
    if not len(found):
        raise InputError("no row with a measured power", file=path, field="power_w", value="")
    return error_rows(pd.DataFrame(found)), reasons


def error_rows(pairs: Any) -> list[dict[str, Any]]:
    """Errors of pairs (columns `kind, format, kernel, system, size_class, ours, theirs`): a row a kind over all that is
    not short, then by system, kernel, format and class."""
    from sim.validate._rows import error_row

    rows = []
    for kind in (kind for kind in KINDS if (pairs["kind"] == kind).any()):
        of_kind = pairs[pairs["kind"] == kind]
        counted = of_kind[of_kind["size_class"] != "short"]
        groups: list[tuple[dict[str, str], Any]] = [({}, counted)]
        for by in (["system"], ["system", "kernel"], ["system", "kernel", "format"]):
            for key, some in counted.groupby(by, sort=True):
                groups.append((dict(zip(by, map(str, key if isinstance(key, tuple) else (key,)), strict=True)), some))
        classes = set(of_kind["size_class"]) - {"all"}
        groups += [({"size_class": name}, of_kind[of_kind["size_class"] == name]) for name in sorted(classes)]
        for tags, some in groups:
            ran = some.dropna(subset=["ours"])
            rows.append(
                error_row(
                    kind, tags.get("kernel", "all"), tags.get("system", "all"), ran["ours"].tolist(),
                    ran["theirs"].tolist(), len(some), number_format=tags.get("format", "all"),
                    size_class=tags.get("size_class", "all"),
                )
            )  # fmt: skip
    return rows
