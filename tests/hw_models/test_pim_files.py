"""PIM and NPU tables of device files."""

import pytest

from hw_models import catalog, device, dispatch
from kernels import optable
from kernels.errors import InputError
from kernels.formats import FORMAT_CODE

MOVED = """
kind = "device"
base = "duplex"
title = "units moved"

memory = "hbm3_5200"

[pim]
unit = "{unit}"
overlap = "blocked"
peak_TFLOPs = 53.63
"""


def test_moving_the_unit_from_bank_to_bank_group_moves_the_ridge(tmp_path):
    ridge = {}
    for unit in ("bank", "bank_group", "logic"):
        (tmp_path / f"{unit}.toml").write_text(MOVED.format(unit=unit))
        part = catalog.device(str(tmp_path / f"{unit}.toml")).pim
        assert part is not None
        ridge[unit] = part.op_per_byte
        # 32 banks every tCCD_L 4, 8 groups every tCCD_S 2, 8 banks every tCCD_L 4, against a burst every 2
        assert part.bandwidth_factor == {"bank": 16, "bank_group": 8, "logic": 4}[unit]
    assert ridge["bank_group"] == pytest.approx(2 * ridge["bank"])
    assert ridge["logic"] == pytest.approx(4 * ridge["bank"])


def test_published_rates():
    duplex = catalog.device("duplex").pim
    assert duplex is not None
    assert duplex.byte_per_s == pytest.approx(13.41e12, rel=1e-3)  # Duplex: 4 x 3352 GB/s
    assert duplex.op_per_byte == pytest.approx(8, rel=1e-2)
    neupims = catalog.device("neupims")
    assert neupims.npu is not None
    assert neupims.pim is not None
    assert neupims.npu.peak_flop_per_s == pytest.approx(262.144e12)  # 8 x 128 x 128 x 2 x 1 GHz
    assert neupims.pim.byte_per_s == pytest.approx(16.384e12)  # 32 channels x 32 banks x 32 B every 2 ns
    assert neupims.pim.op_per_byte == pytest.approx(1)
    # under the die or at the bank a read skips the interposer: less energy than the pins' 3.48 pJ/bit
    assert duplex.read_j_per_byte < duplex.memory.read_pj_per_bit() * 8e-12


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ('unit = "bnk"', "unit"), ('overlap = "both"', "overlap"), ('granularity = "tiny"', "granularity"),
        ('beside = "all"', "beside"), ('expert = "hot"', "expert"), ('attention = "co_process"', "attention"),
    ],
)  # fmt: skip
def test_bad_words_name_field_and_choices(tmp_path, change, field):
    text = MOVED.format(unit="bank") + 'granularity = "fine"\nbeside = "nothing"\nexpert = "pim"\nattention = "pim"\n'
    key = change.split()[0]
    text = "\n".join(change if line.startswith(key) else line for line in text.splitlines())
    (tmp_path / "odd.toml").write_text(text)
    with pytest.raises(InputError, match=f"pim.{field}"):
        catalog.device(str(tmp_path / "odd.toml"))


def test_operators_go_to_the_units_where_they_are_faster():
    # decode attention of full heads (about 1 Op/B) suits the units, a prompt's projections (ridge 8) do not
    ops, work = optable.empty(2, 1)
    ops["kind"] = [optable.ATTN_DECODE, optable.GEMM]
    ops["fmt"] = ops["kv_fmt"] = FORMAT_CODE["fp16"]
    ops["num_head"][0] = ops["num_kv_head"][0] = 32
    ops["head_dim"][0] = ops["v_head_dim"][0] = 128
    ops["work_stop"][0] = 1
    work["count"], work["query_len"], work["kv_len"], work["causal"] = 64, 1, 2048, 1
    ops["m"][1] = ops["n"][1] = ops["k"][1] = 4096
    time = {}
    for name in ("h100_sxm", "duplex", "bank_pim"):
        price = device.cost(ops, work, device.machine(catalog.system(name)))
        time[name] = price["time_ps"].astype(float)
    assert time["duplex"][0] == pytest.approx(time["h100_sxm"][0] / 4, rel=0.01)  # four times the pins
    assert time["bank_pim"][0] == pytest.approx(time["h100_sxm"][0] / 16, rel=0.05)  # sixteen times, 1 Op/B
    assert time["duplex"][1] == time["h100_sxm"][1]


def test_units_that_block_run_nothing_beside_the_xpu(tmp_path):
    (tmp_path / "odd.toml").write_text(MOVED.format(unit="bank") + 'beside = "attention"\n')
    with pytest.raises(InputError, match="block the xPU"):
        catalog.device(str(tmp_path / "odd.toml"))


def test_a_user_device_with_bundles_shares_experts(tmp_path):
    text = MOVED.format(unit="logic").replace('overlap = "blocked"', 'overlap = "bank_bundle"')
    (tmp_path / "mine.toml").write_text(text + 'expert = "co_process"\nbeside = "attention"\n')
    found = dispatch.own(catalog.device(str(tmp_path / "mine.toml")))
    assert (found.attention, found.expert, found.beside, found.draws) == ("best", "co_process", "attention", True)
