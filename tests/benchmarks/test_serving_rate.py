"""How much work the run-ahead loop does, as counts; the rate is printed (`pytest -s`), never asserted."""

import time

import numpy as np

from sim.serving.limits import Limits
from tests.sim.serving.serving_case import attention_price, load, run

NUM = 4000


def test_serving_work_is_counted():
    random = np.random.default_rng(0)
    arrival = np.cumsum(random.exponential(20_000, NUM))  # 50 a second
    prompt, output = random.integers(1, 400, NUM), random.integers(1, 200, NUM)
    requests = load(arrival, prompt, output)
    price, limits = attention_price(512, 64), Limits(num_block=3000, max_context_token=1024)
    policy = "sarathi:max_token=512,max_seq=64"
    run(requests, price, policy, limits)  # compiles
    begin = time.process_time()
    result = run(requests, price, policy, limits)
    cpu_s = time.process_time() - begin
    count = {name: int(values.sum()) for name, values in result.counter.items()}
    assert count["num_finished"] == NUM
    assert count["num_output_token"] == output.sum()
    assert count["num_token"] == prompt.sum() + output.sum() - NUM  # nothing twice, nothing padded
    assert result.token_count.sum() == count["num_step"]
    # a request costs few plans however long it decodes: it arrives, prefills in at most two chunks, and ends
    assert count["num_plan"] < 7 * NUM
    assert count["num_step"] > 10 * NUM
    print(f"\n{count['num_step'] / cpu_s:,.0f} steps and {NUM / cpu_s:,.0f} requests a processor second")
