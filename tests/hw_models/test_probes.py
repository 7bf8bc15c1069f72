"""Probes to fitted kernels: what a known machine answers is found again, the same way each time."""

import dataclasses

import numpy as np
import pandas as pd
import pytest

from hw_models import catalog
from hw_models.calibration import generic, probes
from hw_models.device import machine
from hw_models.profile import Profile, fit_array
from kernels.machine import MEM_BYTE_PER_S
from kernels.optable import KIND_CODE

SOL = machine(catalog.system("epyc_9554"))
TRUTH = {
    "gemm": {"launch_s": 2e-5, "compute_eff": 0.5, "mem_eff": 0.4, "p": 2.0, "core_byte_per_s": 2e10},
    "copy": {"launch_s": 3e-6, "mem_eff": 0.2},
}


def truth(kind: str) -> np.ndarray:
    return np.array([TRUTH[kind].get(p.name, p.start) for p in generic.parameters(kind, "cpu", SOL)])


def gemms(num: int, kernel: str = "k") -> pd.DataFrame:
    """Products from one row to many, timed by a machine whose constants are `TRUTH`."""
    rng = np.random.default_rng(3)
    shape = {name: np.exp(rng.uniform(np.log(low), np.log(4096), num)).astype(int) for name, low in
             (("m", 1), ("n", 128), ("k", 128))}  # fmt: skip
    frame = pd.DataFrame({"dtype": "bfloat16", **shape, "kernel": kernel})
    ops, work = probes.operators("gemm", frame)
    return frame.assign(latency_ms=1e3 * probes.price(ops, work, SOL, "gemm", "bf16", truth("gemm")))


def streams(num: int) -> pd.DataFrame:
    frame = pd.DataFrame({"op": ["copy", "act"] * (num // 2), "dtype": "bfloat16", "kernel": "k"})
    frame["num_token"], frame["width"] = 1 + 7 * np.arange(num), 1024
    ops, work = probes.operators("stream", frame)
    ops["kind"] = KIND_CODE["copy"]
    seconds = probes.price(ops, work, SOL, "copy", "bf16", truth("copy"))
    return frame.assign(latency_ms=1e3 * seconds * np.where(frame["op"] == "act", 3.0, 1.0))


def test_constants_of_a_known_machine_are_found_again() -> None:
    found = probes.fit_all({"gemm": gemms(80)}, SOL, "cpu")
    (kernel,) = found.kernel
    assert kernel.default
    # five constants of 80 exact times: what is left is the rounding to picoseconds and five digits
    assert kernel.held_out is not None
    assert kernel.held_out.n >= 8
    assert kernel.held_out.mape < 0.01
    assert kernel.parameter["launch_s"] == pytest.approx(TRUTH["gemm"]["launch_s"], rel=0.05)
    assert kernel.parameter["mem_eff"] == pytest.approx(TRUTH["gemm"]["mem_eff"], rel=0.05)


# milliseconds of `m` = 1, 4, 16 and 64 rows by bf16 weights of n x k from memory: one core of a Xeon with AMX, torch
# 2.13.0, 20 GB/s and 1.9 TFLOP/s
XEON = """
768 768 .157 .168 .148 .211
2304 768 .385 .429 .440 .646
3072 768 .514 .560 .615 .762
768 3072 .402 .406 .412 .639
50257 768 11.140 10.433 9.792 14.334
2048 2048 .728 .751 .773 1.184
8192 2048 2.589 2.821 2.993 4.380
2048 8192 3.015 2.327 2.505 5.315
1024 4096 .700 .702 .731 1.128
4096 1024 .802 .885 .919 1.343
512 512 .083 .086 .099 .153
16384 256 1.446 1.460 1.521 2.143
256 16384 .711 .761 .968 1.325
1024 1024 .242 .243 .239 .378
"""


def test_equal_bytes_take_longer_in_more_columns_as_measured_on_a_processor() -> None:
    rows = [
        {"dtype": "bfloat16", "m": m, "n": int(n), "k": int(k), "kernel": "k", "latency_ms": float(took)}
        for n, k, *times in map(str.split, XEON.split("\n")[1:-1])
        for m, took in zip((1, 4, 16, 64), times, strict=True)
    ]
    rate = SOL.rate.copy()
    rate[MEM_BYTE_PER_S] = 20e9
    xeon = SOL._replace(rate=rate, peak_flop_per_s=np.full_like(SOL.peak_flop_per_s, 1.9e12))
    frame = pd.DataFrame(rows)
    (kernel,) = probes.fit_all({"gemm": frame}, xeon, "cpu").kernel
    ops, work = probes.operators("gemm", frame)
    seconds = probes.price(ops, work, xeon, "gemm", "bf16", np.array(list(kernel.parameter.values())))
    error = seconds / (1e-3 * frame["latency_ms"].to_numpy()) - 1
    print(f"mean error {np.abs(error).mean():.3f}")
    assert np.abs(error).mean() < 0.1  # without the heads of columns and the second panel it is 14 %
    up, down = (float(seconds[(frame["n"] == n) & (frame["m"] == 4)].max()) for n in (3072, 768))  # the larger k
    assert up > 1.15 * down  # measured: 1.38


def test_the_fit_is_deterministic_and_does_not_see_what_is_held_out() -> None:
    frame = gemms(60)
    first = probes.fit_all({"gemm": frame}, SOL, "cpu").kernel[0]
    assert probes.fit_all({"gemm": frame.copy()}, SOL, "cpu").kernel[0] == first
    spoiled = frame.copy()
    spoiled.loc[probes.held_out(frame), "latency_ms"] *= 10.0
    again = probes.fit_all({"gemm": spoiled}, SOL, "cpu").kernel[0]
    assert again.parameter == first.parameter
    assert again.held_out is not None
    assert again.held_out.mape == pytest.approx(0.9, abs=0.02)  # a tenth of what was measured


def test_a_quarter_is_held_out_whatever_the_order() -> None:
    frame = gemms(400)
    held = probes.held_out(frame)
    assert pytest.approx(held.mean(), abs=4 * (0.25 * 0.75 / 400) ** 0.5) == 0.25  # four standard deviations
    turned = frame.iloc[::-1]
    assert (probes.held_out(turned)[::-1] == held).all()


def test_streams_of_few_probes_are_priced_as_all_of_their_format() -> None:
    found = {kernel.kind: kernel for kernel in probes.fit_all({"stream": streams(8)}, SOL, "cpu").kernel}
    assert found["act"].parameter == found["copy"].parameter == found["convert"].parameter  # four probes a kind
    many = {kernel.kind: kernel for kernel in probes.fit_all({"stream": streams(40)}, SOL, "cpu").kernel}
    assert many["act"].parameter != many["copy"].parameter


def test_kernels_make_a_machine_and_the_best_known_is_the_default() -> None:
    frame = pd.concat([gemms(24), gemms(12, "other")], ignore_index=True)
    found = probes.fit_all({"gemm": frame}, SOL, "cpu")
    assert {kernel.name: kernel.default for kernel in found.kernel} == {"k": True, "other": False}
    fit = fit_array(Profile(device="x", kernel=found.kernel))
    assert fit[KIND_CODE["gemm"], 2, 0] == next(k for k in found.kernel if k.default).parameter["launch_s"]
    merged = probes.by_kind(found.error)
    assert merged["n"].tolist() == [36]


def test_a_relative_is_the_start_and_its_structure_stays() -> None:
    base = probes.fit_all({"gemm": gemms(40)}, SOL, "cpu").kernel[0]
    moved = base.model_copy(update={"parameter": {**base.parameter, "tail": 0.25, "mem_eff": 0.3}})
    free = {p.name: p for p in generic.parameters("gemm", "cpu", SOL, moved)}
    assert free["mem_eff"].start == 0.3
    assert (free["tail"].low, free["tail"].high) == (0.25, 0.25)  # not free on a CPU
    assert dataclasses.replace(free["mem_eff"], start=0.0).low == generic.FAMILIES["cpu"]["gemm"]["mem_eff"][1]


@pytest.mark.parametrize("kind", ["gemm", "moe", "attn_prefill", "attn_decode", "norm", "kv_write"])
@pytest.mark.parametrize("family", ["cpu", "gpu"])
def test_every_start_lies_within_its_bounds(kind: str, family: str) -> None:
    for p in generic.parameters(kind, family, SOL):
        assert p.low <= p.start <= p.high, p.name
        assert np.isfinite([p.low, p.start, p.high]).all()


def test_a_cache_is_written_at_the_constants_of_its_own_format() -> None:
    """Two formats of one machine, of which the narrow one reaches a smaller share of the bandwidth."""
    share = {"float32": ("fp32", 0.3), "bfloat16": ("bf16", 0.12)}
    parts = []
    for dtype, (fmt, mem_eff) in share.items():
        frame = pd.DataFrame({"op": "kv_write", "dtype": dtype, "kernel": "k", "num_token": 1 + 9 * np.arange(60)})
        frame["width"] = 2048
        ops, work = probes.operators("stream", frame)
        known = {"launch_s": 4e-6, "mem_eff": mem_eff}
        values = np.array([known.get(p.name, p.start) for p in generic.parameters("kv_write", "cpu", SOL)])
        parts.append(frame.assign(latency_ms=1e3 * probes.price(ops, work, SOL, "kv_write", fmt, values)))
    found = probes.fit_all({"stream": pd.concat(parts, ignore_index=True)}, SOL, "cpu")
    for fmt, mem_eff in share.values():
        (kernel,) = [each for each in found.kernel if (each.kind, each.format) == ("kv_write", fmt)]
        assert kernel.held_out is not None
        assert kernel.held_out.mape < 0.01
        assert kernel.parameter["mem_eff"] == pytest.approx(mem_eff, rel=0.02)
