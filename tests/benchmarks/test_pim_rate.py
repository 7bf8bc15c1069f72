"""A decode step on NeuPIMs and the command-level channel as counted work; rates are printed (`pytest -s`)."""

import time

import numpy as np

from hw_models import catalog
from hw_models.memory import load_memory
from kernels.dram_command import REQUEST_DTYPE, run_channel
from kernels.dram_timing import ACT, RD
from studies._interleave import Shape, layer
from studies._neupims import balanced, sample

SHAPE, NUM_LAYER, REPEAT = Shape(4096, 32, 4), 32, 20


def test_a_decode_step_of_a_whole_model_is_counted():
    device, seq_len = catalog.device("neupims"), sample("ShareGPT", 256, 0)
    channel = balanced(SHAPE, seq_len)
    layer(device, SHAPE, seq_len, channel, NUM_LAYER)  # compiles
    begin = time.process_time()
    for _ in range(REPEAT):
        found = layer(device, SHAPE, seq_len, balanced(SHAPE, seq_len), NUM_LAYER)
    cpu_s = (time.process_time() - begin) / REPEAT
    assert sorted(found.cycle) == list("ABCDEF")
    assert np.bincount(channel, minlength=32).sum() == 256  # every request on one channel
    print(f"\n{cpu_s * 1e3:.2f} ms of processor time a step of {NUM_LAYER} layers, placement included")


def test_commands_of_a_channel_are_counted():
    dram, number = load_memory("hbm2_neupims").dram, 200_000
    requests = np.zeros(number, REQUEST_DTYPE)
    i = np.arange(number)
    requests["bank"], requests["row"] = i // 16 % 32, i // 512 % 32768
    run_channel(dram, requests[:100])  # compiles
    begin = time.process_time()
    count, _, _ = run_channel(dram, requests)
    cpu_s = time.process_time() - begin
    assert count[RD] == number
    assert count[ACT] >= number // 16  # a row of 16 bursts is opened once, and again after a refresh
    print(f"\n{count.sum() / cpu_s / 1e6:.1f} million commands a processor second")
