"""Packets that wait for a device that takes what has come."""

import numpy as np
import pytest

from studies import batch_dispatch as study


def test_one_stream_never_waits_for_another() -> None:
    price = [0.0, 0.01]
    waited, mean = study.serve(price, 1, 1, 2.0)
    assert waited == pytest.approx([0.01] * 20)
    assert mean == 1.0


def test_a_batch_of_one_is_one_by_one() -> None:
    price = [0.0, 0.02, 0.021, 0.022, 0.023]
    assert study.serve(price, 4, 1, 2.0) == study.serve(price, 4, 1, 2.0)
    assert np.median(study.serve(price, 4, 4, 2.0)[0]) < np.median(study.serve(price, 4, 1, 2.0)[0])


def test_every_packet_is_answered_once() -> None:
    assert len(study.serve([0.0, *([0.005] * 8)], 8, 8, 3.0)[0]) == 8 * 30


def test_a_larger_batch_costs_more_and_less_each() -> None:
    where = study.device()
    one, eight = (study.batch_s(where, 1280, batch) for batch in (1, 8))
    assert one <= eight < 8 * one
