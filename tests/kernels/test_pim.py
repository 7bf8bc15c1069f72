"""PIM closed forms against the command-level channel and published constants; placement of KV on channels."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hw_models import catalog
from hw_models.memory import load_memory
from kernels import pim
from kernels.dram_command import PROGRAM_DTYPE, REQUEST_DTYPE, run_channel
from kernels.dram_timing import COMP, HEADER, PACT, PPRE, READRES, PimTiming

DRAM = load_memory("hbm2_neupims").dram
NONE = np.zeros(0, REQUEST_DTYPE)
TIMING = PimTiming(dual=1, pact_space=30, mac=2, comp_min=6, gwrite=96)
BARE = pim.PimUnit(32, 32, 512, 16, 4, 30, 14, 18, 2, 6, 2, 0, 0, 0, 0, 0, 0)  # no handling, no vector writes


def tiles(num_tile: int, num_result: int, num_column: int) -> np.ndarray:
    steps = []
    for tile in range(num_tile):
        steps.append((HEADER, -1, -1, -1, 0, 600))
        steps += [(PACT, r, g, -1, tile, 0) for g in range(4) for r in range(2)]
        steps += [(COMP, -1, -1, -1, 0, num_column), (READRES, -1, -1, -1, 0, 0)] * num_result
        steps += [(PPRE, r, -1, -1, 0, 0) for r in range(2)]
    return np.array(steps, PROGRAM_DTYPE)


@settings(max_examples=15, deadline=None)
@given(num_tile=st.integers(4, 60), num_result=st.integers(1, 4), num_column=st.sampled_from([6, 8, 16, 32]))
def test_row_tiles_hold_against_the_command_level_channel(num_tile, num_result, num_column):
    end = run_channel(DRAM, NONE, tiles(num_tile, num_result, num_column), TIMING)[1][1]
    closed = num_tile * pim.row_tile_cycle(BARE, num_result, num_column)
    # refresh takes tRFC / tREFI = 6.7 % of long programs and none of short ones; a result may leave while the next
    # columns run, which the published composite command does not do
    assert closed / end == pytest.approx(1.0, abs=0.15)


def test_latency_constants_of_the_published_algorithm():
    # NeuPIMs, algorithm 1: 8 heads of 128 at 256 tokens: 2 * (100 + 8 * L) and 8 * (100 + 4 * L) with L = 184;
    # the row tile by itself is 104 activation + 4 x 16 columns + 3 x 2 readouts + 18 precharge
    unit = BARE._replace(gwrite=100)
    assert pim.row_tile_cycle(unit, 4, 8) == 192
    assert pim.logit_cycle(unit, 256, 8, 128) == 2 * (100 + 8 * 192)
    assert pim.attend_cycle(unit, 256, 8, 128) == 8 * (100 + 4 * (104 + 2 * 16 + 18))


PUBLISHED = [  # part, tokens, requests a channel, logit and attend cycles of the published simulator (8 heads of 128)
    ("neupims", 32, 2, 2143, 13867),
    ("neupims", 32, 4, 3831, 27728),
    ("neupims", 256, 1, 4839, 6880),
    ("neupims", 256, 2, 9215, 13801),
    ("neupims", 1024, 1, 17784, 15168),
    ("neupims_blocked", 256, 1, 23017, 26900),
    ("neupims_blocked", 256, 2, 46677, 51824),
    ("neupims_blocked", 600, 1, 54247, 59795),
]


@pytest.mark.parametrize(("name", "kv_len", "each", "logit", "attend"), PUBLISHED)
def test_attention_of_the_published_simulator(name, kv_len, each, logit, attend):
    part = catalog.device(name).pim
    assert part is not None
    batch = 32 * each
    found = pim.attention_cycle(part.kernel(), np.full(batch, kv_len), np.arange(batch) % 32, 8, 8, 128)
    assert found[0] == pytest.approx(logit, rel=0.06)
    assert found[1] == pytest.approx(attend, rel=0.06)
    assert found[0] + found[1] == pytest.approx(logit + attend, rel=0.03)


def test_one_queue_makes_channels_wait_for_each_other():
    # 256 tokens: 2 x (1 + 8 x (1 + 4 x 9)) commands of logits and 8 x (1 + 4 x (1 + 17)) of attends a request
    unit = BARE._replace(fine=1, issue=1)
    assert pim.logit_command(unit, 256, 8, 128) == 594
    assert pim.attend_command(unit, 256, 8, 128) == 584
    one, all_channels = (np.full(n, 256) for n in (1, 32))
    alone = pim.channel_cycle(unit, one, np.array([31]), 8, 8, 128)[0]
    beside = pim.channel_cycle(unit, all_channels, np.arange(32), 8, 8, 128)[0]
    assert alone[31] == pim.logit_cycle(unit, 256, 8, 128)
    assert beside[31] == alone[31] + 31 * 594  # the last channel starts when the others' commands have left
    composite = unit._replace(fine=0, issue=0)
    at_once = pim.channel_cycle(composite, all_channels, np.arange(32), 8, 8, 128)[0]
    assert (at_once == pim.logit_cycle(composite, 256, 8, 128)).all()


@settings(max_examples=25, deadline=None)
@given(kv_len=st.integers(1, 5000), more=st.integers(0, 600), num_head=st.integers(1, 16))
def test_time_grows_with_work_and_stays_below_the_peak_of_the_units(kv_len, more, num_head):
    part = catalog.device("neupims").pim
    assert part is not None
    unit = part.kernel()
    cycle = pim.request_cycle(unit, kv_len, 1, num_head, num_head, 128)
    assert pim.request_cycle(unit, kv_len + more, 1, num_head, num_head, 128) >= cycle
    byte_a_cycle = unit.num_bank * unit.column_value * 2 / unit.mac
    assert 2 * kv_len * num_head * 128 * 2 / cycle <= byte_a_cycle
    blocked = catalog.device("neupims_blocked").pim
    assert blocked is not None
    assert pim.request_cycle(blocked.kernel(), kv_len, 1, num_head, num_head, 128) >= cycle


@settings(max_examples=25, deadline=None)
@given(kv_len=st.lists(st.integers(1, 4000), min_size=1, max_size=200), num_channel=st.sampled_from([1, 4, 32]))
def test_placement_keeps_every_request_and_its_load(kv_len, num_channel):
    load = np.array(kv_len, np.int64)
    for channel in (pim.round_robin(load, num_channel), pim.least_loaded(load, num_channel)):
        total = np.bincount(channel, weights=load, minlength=num_channel)
        assert total.sum() == load.sum()
        assert pim.imbalance(load, channel, num_channel) >= 1 - 1e-12
    greedy = pim.least_loaded(load, num_channel)
    bound = max(load.max(), load.sum() / num_channel) * (4 / 3 + 1 / num_channel)  # Graham 1969, slack of a lower bound
    assert np.bincount(greedy, weights=load).max() <= max(bound, load.max() + load.sum() / num_channel)
    first = pim.split_sub_batch(greedy, num_channel)
    halves = np.bincount(greedy[first], minlength=num_channel) - np.bincount(greedy[~first], minlength=num_channel)
    assert np.abs(halves).max() <= 1  # each channel's list is halved
    assert abs(int(halves.sum())) <= 1  # the odd ones alternate


def test_a_channel_runs_its_requests_one_after_another():
    unit = BARE
    logit, attend, work = pim.channel_cycle(unit, np.array([256, 512, 256]), np.array([0, 0, 5]), 8, 8, 128)
    assert logit[0] == pim.logit_cycle(unit, 256, 8, 128) + pim.logit_cycle(unit, 512, 8, 128)
    assert attend[5] == pim.attend_cycle(unit, 256, 8, 128)
    assert work.sum() == logit.sum() + attend.sum() == logit[[0, 5]].sum() + attend[[0, 5]].sum()  # none lost
