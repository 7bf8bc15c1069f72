"""How wrong the shipped watts are on what their fit has not seen: the shares of `hw_models.power` fitted again, with a
model (steady loads) or a kernel (operators) left out each time; and each machine with the shares of the other.

    python -m sim.reference.power_fit DATA        # a folder with power/ and ops/gb200/

writes `power_accuracy.toml`, which `ridgeline accuracy --energy` prints. Fits and errors are of the absolute relative
deviation of watts, times as priced; the awake figure and the shares that a source does not tell stay as shipped.
"""

import dataclasses
import datetime
import pathlib
import sys
from collections import Counter
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import minimize

from hw_models import catalog
from hw_models.device import rate
from kernels import machine as layout
from kernels.errors import InputError
from kernels.formats import FORMATS
from kernels.machine import Floats
from sim.record.write import write_files

FILE = pathlib.Path(__file__).with_name("power_accuracy.toml")
UNITS = ((layout.BUSY_W, layout.LINK_W), (layout.PRODUCT_W,), (layout.ATTENTION_W,), (layout.TRAFFIC_W,))
FREE = ("busy_share", "product_share", "attention_share")
MOST = 4000  # operators of a kind that are fitted


@dataclasses.dataclass(frozen=True)
class Sample:
    """Measured rows of one source: watts, groups to leave out, and shares of the peaks that a row's kernels reach."""

    watt: Floats
    group: npt.NDArray[np.str_]
    use: Floats  # [row, (busy, products, attention, traffic)] seconds over the row's own


def watts(use: Floats, share: Floats, rates: Floats, room_w: float) -> Floats:
    """Watts of rows for the shares (`FREE`), the rest as shipped."""
    busy, product, attention, traffic = use.T
    above = room_w * (share[0] * busy + share[1] * product + share[2] * attention) + rates[layout.TRAFFIC_W] * traffic
    return np.asarray(rates[layout.IDLE_W] + np.minimum(rates[layout.DYNAMIC_W], above))


def fit(sample: Sample, start: Floats, rates: Floats, room_w: float) -> Floats:
    """The shares with the least mean absolute log error, each group of equal weight."""
    weight = 1.0 / np.array([np.sum(sample.group == name) for name in sample.group])

    def loss(share: Floats) -> float:
        ours = watts(sample.use, np.abs(share), rates, room_w)
        return float((weight * np.minimum(np.abs(np.log(ours / sample.watt)), 1.0)).sum() / weight.sum())

    found = minimize(loss, start, method="Nelder-Mead", options={"maxiter": 300, "xatol": 1e-3, "fatol": 1e-5})
    return np.abs(np.asarray(found.x))


def left_out(sample: Sample, device: str, what: str) -> dict[str, Any]:
    """One row of the table: errors with everything fitted and with each group left out."""
    held = catalog.device(device)
    rates = rate(held)
    room_w = held.tdp_w - float(rates[layout.IDLE_W])
    start = np.array([getattr(held, name) for name in FREE])
    names = sorted(set(sample.group))
    error, out = np.zeros(len(sample.watt)), np.zeros(len(sample.watt))
    every = fit(sample, start, rates, room_w)
    error[:] = np.abs(watts(sample.use, every, rates, room_w) / sample.watt - 1)
    for name in names:
        here = sample.group == name
        rest = Sample(sample.watt[~here], sample.group[~here], sample.use[~here])
        share = fit(rest, start, rates, room_w)
        out[here] = np.abs(watts(sample.use[here], share, rates, room_w) / sample.watt[here] - 1)
    return {
        "system": device, "what": what, "n": len(sample.watt), "num_left_out": len(names),
        "median": round(float(np.median(error)), 4), "left_out_median": round(float(np.median(out)), 4),
        "left_out_p90": round(float(np.percentile(out, 90)), 4),
    }  # fmt: skip


def other(sample: Sample, device: str, relative: str) -> dict[str, Any]:
    """One row of the table: errors of a machine's rows with the shares of another one, as an heir has them."""
    held = catalog.device(device)
    rates = rate(held)
    share = np.array([getattr(catalog.device(relative), name) for name in FREE])
    error = np.abs(watts(sample.use, share, rates, held.tdp_w - float(rates[layout.IDLE_W])) / sample.watt - 1)
    return {
        "system": device, "what": f"all rows, with the shares of {relative}", "n": len(error), "num_left_out": 1,
        "left_out_median": round(float(np.median(error)), 4),
        "left_out_p90": round(float(np.percentile(error, 90)), 4),
    }  # fmt: skip


def operators(folder: pathlib.Path, device: str) -> Sample:
    """Operators of 0.3 ms and more of a folder."""
    from hw_models.calibration.measured import read_folder
    from sim.validate._power_rows import SHORT_S
    from sim.validate.ops import predict

    rates, watt, group, use = rate(catalog.device(device)), [], [], []
    peaks = np.array([catalog.device(device).peak(form.pipe) for form in FORMATS])
    for kind in ("gemm", "prefill_attention", "decode_attention", "moe"):
        for measured in read_folder(folder / f"{kind}.csv.gz"):
            price_s = predict(measured, device, "calibrated", Counter())
            long = np.flatnonzero((measured.seconds >= SHORT_S) & np.isfinite(price_s))
            rows = long[:: max(1, len(long) // MOST)]
            ops, took = measured.ops[rows], price_s[rows]
            work = ops["flop"] / peaks[ops["fmt"]] / took
            byte = ops["weight_byte"] + ops["act_byte"] + ops["kv_byte"] + ops["write_byte"]
            attends = np.full(len(rows), "attention" in kind)
            columns = (np.ones(len(rows)), work * ~attends, work * attends, byte / rates[layout.MEM_BYTE_PER_S] / took)
            use.append(np.stack(columns, axis=1))
            watt.append(measured.frame["power_w"].to_numpy(float)[rows])
            frame = measured.frame.iloc[rows]
            group += [
                f"{measured.kind} {kernel} {dtype}"
                for kernel, dtype in zip(frame["kernel"], frame["dtype"], strict=True)
            ]
    return Sample(np.concatenate(watt), np.array(group), np.concatenate(use))


def loads(folder: pathlib.Path) -> Sample:
    """Steady loads of vLLM 0.11: seconds of a step's kernels by what they do, as joules at one watt each."""
    import pandas as pd

    from sim.serving.engine_profile import load
    from sim.serving.step_time import lowered_for
    from sim.validate._power_rows import deployment
    from sim.validate._steady import steady_of

    profile, held = load("vllm_0.11"), catalog.device("h100_sxm")
    link = held.link_share / held.busy_share
    watt, group, use = [], [], []
    for file in ("ml_energy_llm.csv", "ml_energy_multimodal.csv"):
        for record in pd.read_csv(folder / file).to_dict("records"):
            row = {str(key): value for key, value in record.items()}
            try:
                where, replicas = deployment(row, row["model"], row["gpu"], row["num_gpu"])
                lowered, _ = lowered_for(where, profile)
            except InputError:
                continue
            parts = []
            for column in UNITS:
                rates = np.zeros(len(layout.RATES))
                rates[:] = lowered.machine.rate
                for name in (layout.IDLE_W, *(code for codes in UNITS for code in codes)):
                    rates[name] = 0.0
                rates[list(column)], rates[layout.DYNAMIC_W] = 1.0, np.inf
                rates[layout.LINK_W] *= link
                bare = dataclasses.replace(lowered, machine=lowered.machine._replace(rate=rates))
                load_of = row["batch_mean"] / replicas, row["output_len_mean"], row["task"]
                seconds, joule = steady_of(bare, *load_of)
                parts.append(joule / seconds)
            use.append(parts)
            watt.append(row["power_per_gpu_w"])
            group.append(where.model)
    return Sample(np.array(watt, float), np.array(group), np.array(use))


def main() -> None:
    """Fits and writes."""
    import tomli_w

    data = pathlib.Path(sys.argv[1])
    by_kernel, by_model = operators(data / "ops" / "gb200", "gb200"), loads(data / "power")
    rows = [
        left_out(by_kernel, "gb200", "operators of 0.3 ms and more, a kernel at a time"),
        left_out(by_model, "h100_sxm", "steady loads of vLLM 0.11, a model at a time"),
        other(by_kernel, "gb200", "h100_sxm"),
        other(by_model, "h100_sxm", "gb200"),
    ]
    command = "python -m sim.reference.power_fit DATA"
    table = {"command": command, "date": f"{datetime.date.today()}", "row": rows}
    write_files({FILE: tomli_w.dumps(table).encode()})


if __name__ == "__main__":
    main()
