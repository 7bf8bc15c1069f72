"""How wrong machines are that are priced by a relative's calibration, on what was measured of the machine itself.

    python -m sim.reference.inherited_fit DATA     # a folder with ops/, collectives/ and serving/

writes `inherited_accuracy.toml`, which `ridgeline accuracy --inherited` prints. Nothing is fitted.

Operators: a machine with a profile of its own is priced without it, from the relative that few probes of its kind
start from (`hw_models.calibration.shipped`); A100 and H100, of which whole sweeps were measured, from each other. Whole
batches: without what was fitted on the machine's own, which are its `kernel_factor` and its engine profiles; both are
those of the machine that stands for it (`STANDS`). Where that ran no such framework, kernels alone are left.
"""

import dataclasses
import datetime
import pathlib
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np

from hw_models import catalog, relatives
from hw_models.calibration import paged_fit
from hw_models.calibration.shipped import ALL, PAGED
from hw_models.profile import load
from hw_models.spec import Device
from kernels.errors import InputError
from sim.record.write import write_files
from sim.validate._rows import COLUMNS, error_row

FILE = pathlib.Path(__file__).with_name("inherited_accuracy.toml")
BATCHES = "serving/argonne_llm_inference_bench.csv.gz"
KINDS = {"gemm": "gemm", "prefill_attention": "attention", "decode_attention": "attention", "moe": "moe"}
EACH_OTHER = {"h100_sxm": "a100_sxm_80gb", "a100_sxm": "h100_sxm"}  # profiles, and who prices their machines here
STANDS = {"mi300x": "mi250", "mi250": "mi300x"}  # one maker's kernels; of all others the H100
USUAL = "h100_sxm"
LEFT_OUT = "the machine"


def heir(folder: pathlib.Path, device: str, relative: str, factor: float = 1.0) -> str:
    """Path of a machine like `device` that has no calibration but what `relative` passes on, at `factor`."""
    path = folder / f"{device}_from_{relative}.toml"
    source = "of the machine that stands for this one" if factor != 1.0 else "nobody has seen its kernels at work"
    said = f'kernel_factor = {{ value = {factor}, source = "{source}" }}'
    write_files({path: f'base = "{device}"\nrelative = "{relative}"\n{said}\n'.encode()})
    return str(path)


def row(device: str, relative: str, data: str, error: Mapping[str, Any]) -> dict[str, Any]:
    """A row of the table from one of a comparison, fractions to four digits."""
    found: dict[str, Any] = {name: str(error[name]) for name in COLUMNS[:5]} | {"n": int(error["n"])}
    found |= {name: round(float(error[name]), 4) for name in COLUMNS[6:]}
    return found | {"system": device, "relative": relative, "data": data, "left_out": LEFT_OUT}


def pairs() -> Iterator[tuple[str, str, str, Mapping[str, str]]]:
    """Folder of measured operators, machine, and its relative by kind of operator ("" for any other)."""
    for of in ALL:
        if of.name in EACH_OTHER:
            yield of.name, of.device, EACH_OTHER[of.name], {}
        elif "gemm" in of.relative:
            named = {kind: _device_of(name) for kind, name in of.relative.items()}
            yield of.name, of.device, named["gemm"], named
    for name in catalog.names("device"):
        line = relatives.line(catalog.device(name))
        if len(line) > 1:
            yield name, name, line[-1].name, {}


def _device_of(profile: str) -> str:
    return next(of.device for of in ALL if of.name == profile)


def operators(data: pathlib.Path, scratch: pathlib.Path) -> Iterator[dict[str, Any]]:
    """Rows of every folder of operators: one a kind and format."""
    from sim.validate.ops import validate_ops

    for folder, device, usual, by_kind in pairs():
        for file, kind in KINDS.items():
            for path in sorted((data / "ops" / folder).glob(f"{file}*.csv*")):
                relative = by_kind.get(kind, usual)
                seen = formats_seen(relative, kind, folder)
                rows, _ = validate_ops(path, heir(scratch, device, relative))
                for error in rows:
                    one_format = error["format"] != "all" and error["kernel"] == error["size_class"] == "all"
                    if one_format and error["n"] and error["format"] not in seen:
                        yield row(device, relative, f"ops/{folder}/{path.name}", error)


def formats_seen(relative: str, kind: str, folder: str) -> set[str]:
    """Formats that the relative's own profile was fitted in on rows of `folder`: B200's narrow products on GB200's."""
    fitted = load(relatives.own_profile(catalog.device(relative))).kernel
    return {kernel.format for kernel in fitted if kernel.kind == kind and kernel.data.startswith(f"{folder}/")}


def overlaid(data: pathlib.Path, scratch: pathlib.Path) -> Iterator[dict[str, Any]]:
    """Rows of machines of which one kind alone was measured."""
    from hw_models.calibration.measured import from_frame
    from sim.validate.ops import predict, validate_ops

    for of in ALL:
        if not of.overlay:
            continue
        device = catalog.device(of.device)
        relative = relatives.line(device)[-1].name
        like = heir(scratch, of.device, relative)
        if of.overlay == "attention":
            measured = from_frame(paged_fit.frame(data / PAGED), data / PAGED)
            ours = predict(measured, like, "calibrated", Counter())
            ran = np.isfinite(ours)
            pair = ours[ran].tolist(), measured.seconds[ran].tolist()
            error = error_row("attn_decode", "all", of.device, *pair, len(ours), number_format="bf16")
            yield row(of.device, relative, PAGED, error)
        else:
            file = f"collectives/{of.name}_{of.library}.csv"
            for error in validate_ops(data / file, like)[0]:
                if error["format"] != "all" and error["kernel"] == error["size_class"] == "all" and error["n"]:
                    yield row(of.device, relative, file, error)


def batches(data: pathlib.Path, scratch: pathlib.Path, only: Sequence[str] = ()) -> Iterator[dict[str, Any]]:
    """Rows of whole batches: one a machine (of `only`, where it names any) without a calibration of its own and a
    framework."""
    from sim.validate._batches import file_rows, offline_of

    path = data / BATCHES
    frame = file_rows(path)
    if frame is None:
        raise InputError("no file of offline batches", file=path, field="columns", value="")
    kept: dict[tuple[str, str], list[tuple[Any, float]]] = {}
    for record in frame.to_dict("records"):
        values = {str(key): value for key, value in record.items()}
        try:
            one = offline_of(values)
        except InputError:
            continue
        key = catalog.system(one.where.system).device.name, one.stack
        kept.setdefault(key, []).append((one, float(values["latency_s"])))
    for (name, stack), some in sorted(kept.items()):
        device = catalog.device(name)
        line = relatives.line(device)
        if len(line) > 1 and (not only or name in only):
            yield batch_row(device, line[-1].name, stack, some, scratch)


def batch_row(
    device: Device, relative: str, stack: str, some: Sequence[tuple[Any, float]], scratch: pathlib.Path
) -> dict[str, Any]:
    """One row of `batches`."""
    from sim.serving import engine_profile
    from sim.validate._batches import latency_s

    other = catalog.device(STANDS.get(device.name, USUAL))
    try:
        profile = engine_profile.load(engine_profile.of_stack(stack, other.name))
        engine = stack + " of " + other.name
    except InputError:
        profile, engine = engine_profile.load("none"), stack + ": kernels alone"
    like = heir(scratch, device.name, relative, other.kernel_factor or 1.0)
    ours, theirs = [], []
    for one, measured in some:
        try:
            where = dataclasses.replace(one.where, system=like)
            ours.append(latency_s(dataclasses.replace(one, where=where), profile))
            theirs.append(measured)
        except InputError:
            continue
    error = error_row("e2e", engine, device.name, ours, theirs, len(some), number_format="all")
    return row(device.name, relative, BATCHES, error)


def main() -> None:
    """Compares and writes."""
    import tomli_w

    data = pathlib.Path(sys.argv[1])
    rows: list[dict[str, Any]] = []
    with tempfile.TemporaryDirectory() as name:
        scratch = pathlib.Path(name)
        for part in (batches, overlaid, operators):
            for found in part(data, scratch):
                rows.append(found)
                print(found, flush=True)
    command = "python -m sim.reference.inherited_fit DATA"
    table = {"command": command, "date": f"{datetime.date.today()}", "row": rows}
    write_files({FILE: tomli_w.dumps(table).encode()})


if __name__ == "__main__":
    main()
