"""Shipped profiles of attention, collectives and streams hold on the shapes they were not fitted to."""

import numpy as np
import pandas as pd
import pytest

from hw_models import catalog, profile
from hw_models.calibration.attention import sought, structure
from hw_models.calibration.attention_fit import fit_folder, predictor, shape_half
from hw_models.calibration.measured import Measured, read_folder
from hw_models.device import machine
from kernels.attention import ATTENTION_FIT
from kernels.formats import FORMAT_CODE
from kernels.kv_write import KV_WRITE_FIT
from kernels.optable import KIND_CODE
from tests.shared_data import folder

BOUND = {  # mean absolute percentage error on the held-out half that the calibration is held to
    ("h100_sxm", "attn_decode", "bf16"): 0.09,
    ("h100_sxm", "attn_prefill", "bf16"): 0.10,
    ("a100_sxm", "attn_decode", "bf16"): 0.12,
    ("a100_sxm", "attn_prefill", "bf16"): 0.11,
}


def held_out_miss(measured: Measured, device: str, kind: str, fmt: str) -> tuple[float, float]:
    """Error on the held-out half of the default kernel's rows, and of those with a head of 128."""
    fitted = profile.load(device)
    kernel, write = fitted.find(kind, fmt), fitted.find("kv_write", fmt)
    assert kernel is not None
    assert write is not None
    names = measured.frame["kernel"].to_numpy()
    formats = np.array(measured.format_name())
    mine = (names == kernel.name) & (formats == fmt) & (measured.ops["kind"] == KIND_CODE[kind])
    rows = np.flatnonzero(mine)
    rows = rows[~shape_half(measured, rows)]
    arrays = machine(catalog.system(device), "sol")
    values = [*(kernel.parameter[n] for n in ATTENTION_FIT), *(write.parameter[n] for n in KV_WRITE_FIT)]
    miss = np.abs(
        predictor(measured, rows, arrays, kind, FORMAT_CODE[fmt])(np.array(values)) / measured.seconds[rows] - 1
    )
    return float(miss.mean()), float(miss[measured.ops["head_dim"][rows] == 128].mean())


@pytest.mark.parametrize(("device", "kind", "fmt"), list(BOUND))
def test_held_out_error(device: str, kind: str, fmt: str) -> None:
    name = {"attn_decode": "decode", "attn_prefill": "prefill"}[kind]
    (measured,) = read_folder(folder("ops", device, f"{name}_attention.csv.gz"))
    miss, of_128 = held_out_miss(measured, device, kind, fmt)
    stated = profile.load(device).find(kind, fmt)
    assert stated is not None
    assert stated.held_out is not None
    assert miss == pytest.approx(stated.held_out.mape, abs=1e-3)  # the file says what it does
    assert miss < BOUND[device, kind, fmt]
    if (device, kind) == ("h100_sxm", "attn_decode"):
        assert of_128 < 0.065


@pytest.mark.parametrize("device", ["h100_sxm", "a100_sxm", "l40s", "b200_sxm"])
def test_profiles_say_how_they_were_made(device: str) -> None:
    fitted = profile.load(device)
    kinds = {k.kind for k in fitted.kernel}
    assert {"attn_prefill", "attn_decode", "kv_write", "norm", "all_reduce", "all_to_all"} <= kinds
    for kernel in fitted.kernel:
        if kernel.kind.startswith("attn"):
            for name, value in structure(kernel.kind, kernel.name).items():
                if name in ("tile_q", "pack", "cta_per_core"):  # structure is never sought
                    assert kernel.parameter[name] == value


def test_few_probes_start_from_a_relative_and_find_their_own_launch(tmp_path) -> None:
    """Rows priced by known constants with twice the launch time give that launch time back, and little else moves."""
    arrays = machine(catalog.system("h100_sxm"), "sol")
    relative = profile.load("h100_sxm")
    rng = np.random.default_rng(0)
    n = 80
    frame = pd.DataFrame(
        {
            "dtype": "bfloat16", "kv_dtype": "bfloat16", "kernel": "fa3", "batch": 2 ** rng.integers(0, 9, n),
            "query_len": 2 ** rng.integers(4, 11, n), "prefix_len": 0, "num_head": 32,
            "num_kv_head": 2 ** rng.integers(0, 4, n), "head_dim": 128, "window": 0, "latency_ms": 1.0,
        }
    )  # fmt: skip
    file = tmp_path / "probe.csv"
    frame.to_csv(file, index=False)
    (measured,) = read_folder(file)
    kernel, write = relative.find("attn_prefill", "bf16"), relative.find("kv_write", "bf16")
    assert kernel is not None
    assert write is not None
    truth = {**kernel.parameter, "launch_s": 2 * kernel.parameter["launch_s"]}
    values = [*(truth[name] for name in ATTENTION_FIT), *(write.parameter[name] for name in KV_WRITE_FIT)]
    seconds = predictor(measured, np.arange(n), arrays, "attn_prefill", FORMAT_CODE["bf16"])(np.array(values))
    frame.assign(latency_ms=seconds * 1e3).to_csv(file, index=False)
    found = fit_folder(file, "h100_sxm", relative)
    assert found[0].parameter["launch_s"] == pytest.approx(truth["launch_s"], rel=0.1)
    assert found[0].held_out is not None
    assert found[0].held_out.mape < 0.03


def test_what_is_sought_is_few() -> None:
    # an exponent and a share join the parts; the rest are times and efficiencies with a meaning of their own
    for kind, name in (("attn_prefill", "fa3"), ("attn_decode", "fa3"), ("attn_decode", "flash_attn")):
        free = [p for p in sought(kind, name, windows=False, widths=False, narrow=False) if p.low < p.high]
        assert len(free) <= 14
