"""`calibrate`: measure a device within a budget, fit it, and describe it as one file that a system is named by.

The file is a device of the catalogue's schema whose numbers say that they were measured, and beside them under
`[calibration]` the profile that was fitted. A relative (the catalogued device that is nearest in peak rates)
gives the fit its start and what a measurement cannot tell: the box, the links, the power.
"""

import dataclasses
import datetime
import math
import subprocess
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import pandas as pd

from hw_models import catalog, profile, relatives, schema
from hw_models.calibration.probes import Fitted, by_kind, fit_all, operators
from hw_models.device import machine
from hw_models.profile import ProfileFile
from hw_models.reference import probe
from hw_models.reference.device import ReferenceDevice
from hw_models.reference.environment import Environment, settle_threads
from hw_models.reference.peaks import Peaks, measure_peaks
from hw_models.spec import Device, Node, System
from kernels.errors import InputError
from kernels.formats import FORMAT_CODE, FORMATS
from kernels.machine import Machine

FORMATS_OF = {"cpu": ("fp32", "bf16"), "cuda": ("bf16", "fp16", "fp32", "fp8", "int8")}
DTYPE = {"fp32": "float32", "bf16": "bfloat16", "fp16": "float16", "fp8": "fp8", "int8": "int8"}
PROBED = {"cpu": ("fp32", "bf16"), "cuda": ("bf16", "fp8")}  # of the formats; the others take their constants
PEAK_SHARE = 0.15  # of the budget
CPU_CORE_W = 8.0  # board power a core where nothing can be read: a 360 W socket of 64 cores, with its memory
Progress = Callable[[str, int], None]


@dataclasses.dataclass(frozen=True)
class Calibration:
    """What was measured and fitted."""

    environment: Environment
    peaks: Peaks
    probes: dict[str, pd.DataFrame]  # a frame a kind
    fitted: Fitted
    relative: str  # nearest catalogued device, "" none
    table: dict[str, Any]  # the device file
    profile: ProfileFile

    @property
    def errors(self) -> pd.DataFrame:
        """A row a kind and format: probes, held-out probes and their mean absolute error."""
        return by_kind(self.fitted.error)

    def content(self) -> dict[str, Any]:
        """The file: the device and its calibration."""
        return {**self.table, "calibration": self.profile.model_dump(exclude_defaults=True)}

    def machine(self) -> Machine:
        """The calibrated machine as arrays."""
        held = schema.to_device(self.table, "measured", "measured")
        kernels = profile.Profile(device=self.profile.device, kernel=self.profile.kernel)
        return rates_of(held)._replace(fit=profile.fit_array(kernels))

    def file_bytes(self, **more: Any) -> bytes:
        """The file as TOML; `more` are further tables of it."""
        import tomli_w

        return tomli_w.dumps({**self.content(), **more}).encode()


def calibrate(
    kind: str,
    budget_s: float = 180.0,
    formats: tuple[str, ...] = (),
    seed: int = 0,
    command: str = "",
    progress: Progress = lambda what, count: None,
    kept_share: float = 0.0,
) -> Calibration:
    """Measure for `budget_s` seconds, less the share of them that the caller keeps, and fit.

    `kind`: "cpu" or "cuda". `formats`: number formats to probe (those of `PROBED` by default). An interrupt while
    probing keeps what was measured. Raises `InputError` for a device or format that is not there.
    """
    for name in formats:
        if name not in FORMATS_OF.get(kind, ()):
            raise InputError(f"not measured on {kind}", field="format", value=name, allowed=FORMATS_OF.get(kind, ()))
    if kind == "cpu":
        settle_threads()
    mine_s = (1.0 - kept_share) * budget_s
    end = time.perf_counter() + mine_s
    device = ReferenceDevice(kind, budget_s=min(0.1, max(0.01, mine_s / 3000)), min_repeat=3)
    probed = formats or PROBED[kind]
    peaks = measure_peaks(device, formats or FORMATS_OF[kind], PEAK_SHARE * mine_s, progress)
    rates = {DTYPE[name]: peaks.flop_per_s[name] for name in probed if name in peaks.flop_per_s}
    left_s = end - time.perf_counter()  # what the peaks took too much is not spent again
    found = probe.run(device, left_s, rates, peaks.mem_byte_per_s, seed, progress=progress) if left_s > 0 else {}
    if not found:
        raise InputError(f"the peaks alone took {mine_s - left_s:.3g} s: no probe was measured", field="budget",
                         value=f"{budget_s:g}s", allowed="several times that")  # fmt: skip
    peaks = raised(peaks, found)
    relative = nearest(peaks, device.environment) if kind == "cuda" else None
    table = describe(device.environment, peaks, relative)
    held = schema.to_device(table, "measured", "measured")
    start = profile.load(relatives.own_profile(relative)) if relative and relatives.own_profile(relative) else None
    fitted = fit_all(found, rates_of(held), "cpu" if kind == "cpu" else "gpu", start, seed)
    return Calibration(
        device.environment,
        peaks,
        found,
        fitted,
        relative.name if relative else "",
        table,
        ProfileFile(
            device=table["title"],
            command=command,
            date=datetime.date.today().isoformat(),
            source=_source(device.environment),
            note=f"fit started from {relative.name if relative else 'generic constants'}; launch floor "
            f"{peaks.launch_s:.3g} s; every fourth probe held out",
            kernel=fitted.kernel,
        ),
    )


def raised(peaks: Peaks, found: dict[str, pd.DataFrame]) -> Peaks:
    """Peaks no lower than what a probe reached: a multiply's rate, and the bytes a second of one past the cache."""
    rates = dict(peaks.flop_per_s)
    memory = peaks.mem_byte_per_s
    if "gemm" in found:
        ops, _ = operators("gemm", found["gemm"])
        seconds = found["gemm"]["latency_ms"].to_numpy(float) * 1e-3
        for name, rate in peaks.flop_per_s.items():
            chosen = ops["fmt"] == FORMAT_CODE[name]
            if chosen.any():
                rates[name] = max(rate, float((ops["flop"][chosen] / seconds[chosen]).max()))
        memory = max(memory, float(((ops["weight_byte"] + ops["act_byte"] + ops["write_byte"]) / seconds).max()))
    return dataclasses.replace(
        peaks, flop_per_s=rates, mem_byte_per_s=memory, cache_byte_per_s=max(memory, peaks.cache_byte_per_s)
    )


def nearest(peaks: Peaks, environment: Environment) -> Device | None:
    """The catalogued device whose 16-bit rate, memory bandwidth, cores and cache are nearest in proportion, of those
    that have a calibration of their own where there are any; None where the catalogue is empty."""
    devices = [catalog.device(name) for name in catalog.names("device")]
    devices = [held for held in devices if max(held.peak("bf16"), held.peak("fp16")) > 5e13]  # accelerators
    calibrated = [held for held in devices if relatives.own_profile(held)]
    rate = max(peaks.flop_per_s.get("bf16", 0.0), peaks.flop_per_s.get("fp16", 0.0)) or max(peaks.flop_per_s.values())

    def distance(held: Device) -> float:
        pairs = (
            (rate, 0.7 * max(held.peak("bf16"), held.peak("fp16"))),  # what multiplies reach of a datasheet's peak
            (peaks.mem_byte_per_s, 0.9 * held.mem_byte_per_s),
            (environment.num_core, held.num_core),
            (environment.cache_byte, held.l2_byte),
        )
        return sum(abs(math.log(mine / theirs)) for mine, theirs in pairs)

    return min(calibrated or devices, key=distance, default=None)


def rates_of(device: Device) -> Machine:
    """A device alone as arrays, speed of light."""
    node = Node(
        "alone", "", device, 1, "none", (), False, None, None, 1, False, 0, 0.0, device.mem_byte, device.mem_byte_per_s,
        None, 0, "none", 0.0, 0.0, device.file,
    )  # fmt: skip
    return machine(System("alone", node))


def _source(environment: Environment) -> str:
    return (
        f"measured by ridgeline calibrate on {environment.name}, {environment.driver}, torch {environment.torch}, "
        f"{datetime.date.today().isoformat()}"
    )


def describe(environment: Environment, peaks: Peaks, relative: Device | None) -> dict[str, Any]:
    """The device file: measured numbers, and for what no measurement tells an estimate that says so."""
    source = _source(environment)

    def of(value: float, text: str = source) -> dict[str, Any]:
        return {"value": float(f"{value:.6g}"), "source": text}

    read = f"read from the device, {source.removeprefix('measured by ')}"
    like = f"not measured: that of {relative.name}" if relative else ""
    tdp_w, idle_w, power = _power(environment, relative)
    fp32 = peaks.flop_per_s.get("fp32", 0.0)
    vector = of(fp32 / 1e12, f"{source}: fp32 multiplies") if fp32 else of(
        max(peaks.flop_per_s.values()) / 16e12, "estimate: a sixteenth of the fastest multiply"
    )  # fmt: skip
    table: dict[str, Any] = {
        "kind": "device",
        "title": environment.name,
        "num_core": of(environment.num_core, read),
        "clock_MHz": of(max(environment.clock_hz, 1e8) / 1e6, read),
        "peak_vector_TFLOPs": vector,
    }
    for name, rate in peaks.flop_per_s.items():
        table[schema.peak_key(FORMATS[FORMAT_CODE[name]].pipe)] = of(rate / 1e12)
    table |= {
        "mem_GiB": of(environment.memory_byte / 2**30, read),
        "mem_GBps": of(peaks.mem_byte_per_s / 1e9),
        "l2_MiB": of(environment.cache_byte / 2**20, read),
        "l2_GBps": of(peaks.cache_byte_per_s / 1e9),
        "tdp_W": of(tdp_w, power),
        "idle_W": of(idle_w, power),
        "price_USDph": of(relative.price_usd_per_h if relative else 0.0, like or "not measured: give what you pay"),
        "node": relative.node if relative else "cpu_x1",
    }
    if relative and relative.num_link:
        table["num_link"] = of(relative.num_link, like)
    return table


def _power(environment: Environment, relative: Device | None) -> tuple[float, float, str]:
    """Board power, idle power and where they are from."""
    if environment.device == "cuda":
        query = ["nvidia-smi", "-i", "0", "--query-gpu=power.limit", "--format=csv,noheader,nounits"]
        try:
            text = subprocess.run(query, capture_output=True, text=True, check=False).stdout.strip()
            limit = float(text)
        except (OSError, ValueError):  # no nvidia-smi, or it does not say
            limit = 0.0
        if relative:
            limit = limit or relative.tdp_w
            return limit, limit * relative.idle_w / relative.tdp_w, f"power limit; idle share of {relative.name}"
        return limit or 300.0, 0.2 * (limit or 300.0), "power limit (300 W where not read); idle a fifth of it"
    full = CPU_CORE_W * environment.num_core
    return full, 0.25 * full, f"estimate: {CPU_CORE_W:g} W a core, a quarter of it idle"


def summary(found: Calibration) -> str:
    """What was found, for people."""
    lines = [found.environment.name]
    lines += [f"  {name} multiply {rate / 1e9:12.1f} GFLOP/s" for name, rate in found.peaks.flop_per_s.items()]
    lines += [
        f"  memory        {found.peaks.mem_byte_per_s / 1e9:12.1f} GB/s",
        f"  cache         {found.peaks.cache_byte_per_s / 1e9:12.1f} GB/s",
        f"  launch        {found.peaks.launch_s * 1e6:12.1f} us",
        f"  fit starts from {found.relative or 'generic constants'}",
        "",
        "kind          format   probes  held out   held-out error",
    ]
    for row in found.errors.to_dict("records"):
        miss = float(row["held_out_mape"])
        error = f"{100 * miss:6.1f} %" if np.isfinite(miss) else "  (none held out)"
        lines.append(f"{row['kind']:13} {row['format']:8} {row['n']:6d} {row['held_out_n']:9d}   {error}")
    return "\n".join(lines)
