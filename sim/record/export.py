"""What a file of results holds: its provenance, and the same bytes for the same seed. `sim.record.write` writes it.

====================  =========================================================================
CSV                   a first line `# ridgeline {...}` (read back with `read_csv(..., comment="#")`)
Parquet               the key `ridgeline` of the file's metadata
JSON                  the key `ridgeline`
====================  =========================================================================

No file holds the time of day unless `date` asks for it.
"""

import io
import json
import os
import pathlib
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from kernels.errors import InputError
from sim.record.provenance import canonical
from sim.record.records import Run
from sim.record.write import write_files, write_standard_output

if TYPE_CHECKING:
    import pandas as pd

PICTURES: tuple[str, ...] = (".svg", ".png", ".pdf")
FORMATS: tuple[str, ...] = ("csv", "parquet")
KEY = "ridgeline"
_FORMULA = tuple("=+-@\t\r\n")
_NO_NUMBER = ("nan", "inf", "infinity")


def write_json(content: Mapping[str, Any], path: str | os.PathLike[str]) -> None:
    """Write a JSON object whole or not at all; "-" is the process's standard output."""
    if str(path) != "-":
        write_files({pathlib.Path(path): json_bytes(content)})
    else:
        write_standard_output(json_bytes(content))


def json_bytes(content: Mapping[str, Any]) -> bytes:
    """A JSON object with one key a line, and one line a row of a frame; NaN and infinity become null.

    >>> json_bytes({"a": [1, 2], "b": float("nan")}).decode().splitlines()
    ['{', '"a": [1, 2],', '"b": null', '}']
    >>> import pandas as pd
    >>> json_bytes({"rows": pd.DataFrame({"n": [1, 2]})}).decode().splitlines()
    ['{', '"rows": [', '{"n": 1},', '{"n": 2}', ']', '}']
    """
    lines = (f"{json.dumps(str(key))}: {_lines(value)}" for key, value in content.items())
    return ("{\n" + ",\n".join(lines) + "\n}\n").encode()


def _lines(value: Any) -> str:
    if hasattr(value, "to_dict"):  # a frame
        value = value.to_dict("records")
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return "[\n" + ",\n".join(map(_json, value)) + "\n]"
    return _json(value)


def _json(value: Any) -> str:
    try:
        return json.dumps(value, allow_nan=False)  # at once where there is nothing to translate
    except (TypeError, ValueError):
        return json.dumps(canonical(value), allow_nan=False)


def csv_bytes(frame: "pd.DataFrame", about: Mapping[str, Any]) -> bytes:
    """A CSV with the provenance as a comment on its first line."""
    return f"# {KEY} {json.dumps(canonical(about), sort_keys=True)}\n".encode() + table_bytes(frame)


def table_bytes(frame: "pd.DataFrame") -> bytes:
    """A frame as CSV. A text that a spreadsheet would run as a formula (it begins with = + - @ or a control character),
    or that readers would take for a number which is none, gets an apostrophe in front, as spreadsheets mark text.

    >>> import pandas as pd
    >>> table_bytes(pd.DataFrame({"name": ["=1+1", "gemm", "NaN"], "x": [-1, 2, 3]})).decode().splitlines()
    ['name,x', "'=1+1,-1", 'gemm,2', "'NaN,3"]
    """
    texts = [name for name in frame.columns if frame[name].dtype.kind not in "biuf"]
    plain = frame.assign(**{name: frame[name].map(_plain_cell) for name in texts})
    return plain.to_csv(index=False, lineterminator="\n").encode(errors="backslashreplace")


def _plain_cell(cell: Any) -> Any:
    if not isinstance(cell, str):
        return cell
    return "'" + cell if cell.startswith(_FORMULA) or cell.lower() in _NO_NUMBER else cell


def parquet_bytes(frame: "pd.DataFrame", about: Mapping[str, Any]) -> bytes:
    """A Parquet file with the provenance in its metadata."""
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise InputError(
            "Parquet needs the extra: pip install 'ridgeline[parquet]'", field="format", value="parquet", allowed="csv"
        ) from None
    table = pyarrow.Table.from_pandas(frame, preserve_index=False)
    note = json.dumps(canonical(about), sort_keys=True).encode()
    table = table.replace_schema_metadata({**(table.schema.metadata or {}), KEY.encode(): note})
    buffer = io.BytesIO()
    pyarrow.parquet.write_table(table, buffer)
    return buffer.getvalue()


def frame_bytes(frame: "pd.DataFrame", about: Mapping[str, Any], form: str) -> bytes:
    """A frame in one of `FORMATS`."""
    if form not in FORMATS:
        raise InputError("no such table format", field="format", value=form, allowed=FORMATS)
    return csv_bytes(frame, about) if form == "csv" else parquet_bytes(frame, about)


def read_provenance(path: pathlib.Path) -> dict[str, Any]:
    """The provenance that a file written here carries."""
    if path.suffix == ".parquet":
        import pyarrow.parquet

        return dict(json.loads(pyarrow.parquet.read_schema(path).metadata[KEY.encode()]))
    if path.suffix == ".csv":
        with path.open(encoding="utf-8") as file:
            return dict(json.loads(file.readline().removeprefix(f"# {KEY} ")))
    content = json.loads(path.read_text())
    return dict(content.get("otherData", content)[KEY])


def benchmark_json(run: Run, metrics: Mapping[str, Any], *, date: str = "", details: bool = False) -> dict[str, Any]:
    """The object that vLLM's benchmark saves: its field names, and the provenance under `ridgeline`.

    `details` adds its per-request lists (`input_lens`, `output_lens`, `ttfts`, `latencies`, `start_times`) of finished
    requests, which the `vllm_bench` trace format reads back. `date` is written as given, and only where given.
    """
    found: dict[str, Any] = {"date": date} if date else {}
    found |= {"backend": KEY, "model_id": run.about.get("config", {}).get("model"), **metrics}
    if details:
        done = run.request.rows(run.request.equal("status", "finished"))
        found |= {
            "input_lens": done["prompt_token"].tolist(),
            "output_lens": done["committed_token"].tolist(),
            "ttfts": done["ttft_s"].tolist(),
            "latencies": done["e2e_s"].tolist(),
            "start_times": done["arrival_s"].tolist(),
        }
    return found | {KEY: dict(run.about)}


def run_files(
    run: Run, metrics: Mapping[str, Any], folder: pathlib.Path, *, form: str = "csv", date: str = ""
) -> dict[pathlib.Path, bytes]:
    """Names and contents of a run's tables and metrics in `folder`; hand them to `write_files`."""
    files = {folder / "metrics.json": json_bytes(benchmark_json(run, metrics, date=date))}
    tables = {"requests": run.requests, "steps": run.steps, "operators": run.operators}
    for name, frame in tables.items():
        if frame is not None:
            files[folder / f"{name}.{form}"] = frame_bytes(frame, run.about, form)
    return files


def figure_bytes(figure: Any, about: Mapping[str, Any], form: str = "png", dpi: float | None = None) -> bytes:
    """A matplotlib figure as PNG, SVG or PDF, the same bytes for the same figure, with the provenance in its
    metadata."""
    note = json.dumps(canonical(about), sort_keys=True)
    metadata = {
        "svg": {"Description": note, "Date": None},
        "pdf": {"Keywords": note, "CreationDate": None},
    }.get(form, {"Description": note})
    buffer = io.BytesIO()
    import matplotlib as mpl

    with mpl.rc_context({"svg.hashsalt": KEY}):
        figure.savefig(buffer, format=form, metadata=metadata, dpi=dpi or "figure")
    return buffer.getvalue()


def check_picture(path: str | os.PathLike[str]) -> str:
    """The format of a picture by its name; an `InputError` where there is none."""
    suffix = pathlib.Path(path).suffix
    if suffix not in PICTURES:
        raise InputError("no such picture format", field="plot", value=str(path), allowed=PICTURES)
    return suffix[1:]


def write_picture(figure: Any, path: str | os.PathLike[str], about: Mapping[str, Any] | None = None) -> None:
    """Draw a figure into a file, in the format of its name."""
    form = check_picture(path)
    write_files({pathlib.Path(path): figure_bytes(figure, about or {}, form, dpi=150)})
