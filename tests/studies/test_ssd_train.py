"""SSDTrain: what drives can write under a forward pass is what it saves."""

import pytest

from studies import ssd_train


def test_more_drives_save_more_and_none_cost_time() -> None:
    table = ssd_train.run(((12288, 3),))
    saved = table[table["claim"] == ssd_train.SAVED]["simulated"].tolist()
    # the last half layer and the logits stay: at most 5 of 6 halves and none of the logits
    assert 0.25 < saved[0] < saved[1] < 5 / 6
    for drives in ssd_train.ARRAYS:
        one = ssd_train.case(12288, 3, drives)
        assert one["offload_s"] <= 1.01 * one["keep_s"]
        assert one["recompute_s"] / one["keep_s"] == pytest.approx(4 / 3, rel=0.05)  # four passes for three


def test_deduplication_keeps_a_channel_within_its_time() -> None:
    once, twice = (sum(one.copy_byte for one in ssd_train.modules(8192, 4, 16, dedup)) for dedup in (True, False))
    assert 1.03 < twice / once < 1.2  # one of ten streams' worth of a layer, the logits besides
