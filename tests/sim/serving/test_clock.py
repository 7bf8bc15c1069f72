"""The clock's end: a step that would pass it is an error in one line, not a loop without end."""

import pytest

from hw_models import catalog
from hw_models.device import machine
from kernels.errors import InputError
from kernels.machine import MEM_BYTE_PER_S
from kernels.units import FOREVER_PS, LONGEST_PS
from sim.serving.limits import Limits
from sim.serving.step_price import build
from tests.sim.serving.serving_case import attention_price, flat_price, load, run
from workloads import formats, models, placement

POLICY = "vllm_v1:max_token=64,max_seq=4"


@pytest.mark.parametrize("engine", ["run-ahead", "stepping"])
@pytest.mark.parametrize("step_ps", [FOREVER_PS // 3, FOREVER_PS, (1 << 63) - 10**15])
def test_a_step_beyond_the_clock_is_an_error(engine, step_ps):
    # the first, in the middle of a repeated plan; the last wraps round in a sum of 64 bits
    price = flat_price(max_token=64, max_seq=16)
    price.dense_ps[:] = step_ps
    with pytest.raises(InputError, match="a step of replica 0 takes longer than the clock reaches"):
        run(load([0], [5], [9]), price, POLICY, Limits(num_block=50), engine=engine)


def test_attention_of_hours_is_an_error():
    price = attention_price(max_token=64, max_seq=16)
    price.rate[MEM_BYTE_PER_S] = 1e-3  # KV of a token at a byte in a quarter of an hour
    with pytest.raises(InputError, match=r"2\.5 hours in attention"):
        run(load([0], [5], [9]), price, POLICY, Limits(num_block=50))


def test_an_operator_of_hours_is_refused_by_its_name():
    model = models.load("gpt2")
    arrays = machine(catalog.system("a100_sxm"))
    rate = arrays.rate.copy()
    rate[MEM_BYTE_PER_S] = 1e3
    with pytest.raises(InputError, match=f"longer than a step may; allowed: up to {LONGEST_PS * 1e-12:.0f} s"):
        build(model, formats.Formats(), placement.make(model), arrays._replace(rate=rate), max_token=4, max_seq=4)
