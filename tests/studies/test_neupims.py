"""NeuPIMs: the published stage tables, and traces of one's own."""

import numpy as np
import pytest

from hw_models import catalog
from kernels.errors import InputError
from sim.interleave import in_turn, interleaved
from studies import neupims


def test_stage_tables_are_reached():
    missed = [row for row in neupims._stages() if row["verdict"] == "not reproduced"]
    assert not missed  # attention 8 %, GEMM stages 10 %, sub-batch stages 12 %, both signs


def test_a_trace_gives_the_uniform_stages(tmp_path):
    trace = tmp_path / "uniform.csv"
    trace.write_text("seq_len,ch_idx\n" + "".join(f"256,{i % 32}\n" for i in range(64)))
    table = neupims.stage_table(trace, "mini").set_index(["system", "stage"])["cycles"]
    expected = in_turn(catalog.device("neupims"), neupims.MODELS["mini"].shape, *neupims.uniform(64, 256))
    for stage, value in expected.cycle.items():
        assert table["neupims, sub-batches off", stage] == round(value)
    assert table["npu+pim blocked", "B"] > table["neupims, sub-batches off", "B"]
    assert table["npu only, as published", "attention"] > table["npu only, at bandwidth", "attention"]


@pytest.mark.parametrize(
    "body", ["", "a,b\n1,2\n", "seq_len,ch_idx\n0,1\n", "seq_len,ch_idx\n5,32\n", "seq_len,ch_idx\nx,1\n"]
)
def test_a_bad_trace_is_one_line(tmp_path, body):
    trace = tmp_path / "bad.csv"
    trace.write_text(body)
    with pytest.raises(InputError, match=r"bad\.csv"):
        neupims.stage_table(trace, "mini")


def test_sub_batches_never_beat_their_longest_engine():
    device, shape = catalog.device("neupims"), neupims.MODELS["gpt3-7b"].shape
    for seed in range(5):
        seq_len = neupims.sample("ShareGPT", 128, seed)
        channel = neupims.place("neupims", shape, seq_len)
        stages = interleaved(device, shape, seq_len, channel)
        assert stages.layer >= stages.pim_busy  # units work alone at least that long
        assert stages.layer >= stages.npu_busy
        assert np.bincount(channel).sum() == len(seq_len)
