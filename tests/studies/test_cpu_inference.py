"""Workers of a socket: parts of it, and all of it."""

import numpy as np
import pytest

from hw_models import catalog
from hw_models.device import machine
from studies import cpu_inference as study


def test_all_domains_are_the_socket() -> None:
    whole = machine(catalog.system(study.SYSTEM))
    own = study.worker(study.NUMA)
    assert (own.peak_flop_per_s == whole.peak_flop_per_s).all()
    assert study.rate("llama-2-7b", own, 8) == study.rate("llama-2-7b", whole, 8)


def test_one_sequence_reads_the_weights() -> None:
    where = study.worker()
    byte = 2 * 6.6e9
    assert study.rate("llama-2-7b", where, 1) == pytest.approx(460.8e9 / 4 / byte, rel=0.05)


def test_a_quarter_of_the_rates_takes_four_times_as_long() -> None:
    found = [study.rate("llama-2-7b", study.worker(num), 32) for num in (1, 2, 4)]
    assert np.allclose(np.array(found) / found[0], [1, 2, 4], rtol=0.02)
