"""Writing results: each file whole or not at all, with its provenance inside, and the same bytes for the same seed.

====================  =========================================================================
CSV                   a first line `# ridgeline {...}` (read back with `read_csv(..., comment="#")`)
Parquet               the key `ridgeline` of the file's metadata
JSON                  the key `ridgeline`
====================  =========================================================================

No file holds the time of day unless `date` asks for it.
"""

import contextlib
import io
import json
import os
import pathlib
import sys
import tempfile
from collections.abc import Mapping
from typing import Any

import pandas as pd

from kernels.errors import InputError
from sim.record.provenance import canonical
from sim.record.records import Run

FORMATS: tuple[str, ...] = ("csv", "parquet")
KEY = "ridgeline"


def write_files(contents: Mapping[pathlib.Path, bytes]) -> list[pathlib.Path]:
    """Write all of these files or none: every one under a temporary name first, then all renamed.

    Folders are made as needed. Whatever fails (a full disk, no permission) is an `InputError`, and no temporary file
    stays behind.
    """
    staged: list[tuple[str, pathlib.Path]] = []
    made: list[pathlib.Path] = []
    path = pathlib.Path()
    try:
        for path, content in contents.items():
            made += _make_folder(path.parent)
            handle, temporary = tempfile.mkstemp(prefix=f".{path.name}.", suffix=".part", dir=path.parent)
            staged.append((temporary, path))
            with os.fdopen(handle, "wb") as file:
                file.write(content)
                file.flush()
                os.fsync(file.fileno())
            os.chmod(temporary, 0o644)
        for temporary, path in staged:
            os.replace(temporary, path)
    except BaseException as error:
        for temporary, _ in staged:
            with contextlib.suppress(OSError):
                os.unlink(temporary)
        for folder in reversed(made):
            with contextlib.suppress(OSError):  # not empty: it holds what was written before
                folder.rmdir()
        if isinstance(error, OSError):
            raise InputError(f"cannot be written: {error.strerror or error}", file=path) from None
        raise
    return list(contents)


def _make_folder(folder: pathlib.Path) -> list[pathlib.Path]:
    """Make a folder and its parents; returns those that were not there, outermost first."""
    missing = []
    while not folder.exists():
        missing.append(folder)
        folder = folder.parent
    for each in reversed(missing):
        each.mkdir(exist_ok=True)
    return missing[::-1]


def write_json(content: Mapping[str, Any], path: str | os.PathLike[str]) -> None:
    """Write a JSON object whole or not at all; "-" is the process's standard output."""
    if str(path) != "-":
        write_files({pathlib.Path(path): json_bytes(content)})
    elif sys.__stdout__ is not None:
        sys.__stdout__.write(json_bytes(content).decode())
        sys.__stdout__.flush()


def json_bytes(content: Mapping[str, Any]) -> bytes:
    """A JSON object with one key a line, and one line a row of a frame; NaN and infinity become null.

    >>> json_bytes({"a": [1, 2], "b": float("nan")}).decode().splitlines()
    ['{', '"a": [1, 2],', '"b": null', '}']
    >>> json_bytes({"rows": pd.DataFrame({"n": [1, 2]})}).decode().splitlines()
    ['{', '"rows": [', '{"n": 1},', '{"n": 2}', ']', '}']
    """
    lines = (f"{json.dumps(str(key))}: {_lines(value)}" for key, value in content.items())
    return ("{\n" + ",\n".join(lines) + "\n}\n").encode()


def _lines(value: Any) -> str:
    if isinstance(value, pd.DataFrame):
        value = value.to_dict("records")
    if isinstance(value, list) and value and isinstance(value[0], dict):
        return "[\n" + ",\n".join(map(_json, value)) + "\n]"
    return _json(value)


def _json(value: Any) -> str:
    try:
        return json.dumps(value, allow_nan=False)  # at once where there is nothing to translate
    except (TypeError, ValueError):
        return json.dumps(canonical(value), allow_nan=False)


def csv_bytes(frame: pd.DataFrame, about: Mapping[str, Any]) -> bytes:
    """A CSV with the provenance as a comment on its first line."""
    head = f"# {KEY} {json.dumps(canonical(about), sort_keys=True)}\n"
    return (head + frame.to_csv(index=False, lineterminator="\n")).encode()


def parquet_bytes(frame: pd.DataFrame, about: Mapping[str, Any]) -> bytes:
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


def frame_bytes(frame: pd.DataFrame, about: Mapping[str, Any], form: str) -> bytes:
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
        done = run.requests[run.requests["status"] == "finished"]
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


def figure_bytes(figure: Any, about: Mapping[str, Any], form: str = "png") -> bytes:
    """A matplotlib figure as PNG or SVG with the provenance in its metadata."""
    note = json.dumps(canonical(about), sort_keys=True)
    metadata = {"Description": note, "Date": None} if form == "svg" else {"Description": note}
    buffer = io.BytesIO()
    import matplotlib as mpl

    with mpl.rc_context({"svg.hashsalt": KEY}):
        figure.savefig(buffer, format=form, metadata=metadata)
    return buffer.getvalue()
