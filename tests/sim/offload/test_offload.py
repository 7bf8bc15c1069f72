"""Offloading: steps of the plain system, bytes that are conserved, a programme that no policy beats."""

import dataclasses

import numpy as np
import pytest

from hw_models import catalog
from hw_models.device import cost, machine
from kernels import block_schedule as at
from kernels.errors import InputError
from sim.offload.cost import ENGINES
from sim.offload.policy import PACKED_BYTE, BlockPolicy
from sim.offload.rates import rates
from sim.offload.replay import unit_times
from sim.offload.simulate import Offload, offload, prepare
from sim.run.scenario import Scenario
from sim.run.simulate import simulate
from workloads import formats, models
from workloads.lowering import Plan, lower_step
from workloads.memory import weight_byte
from workloads.placement import Placement

HOST = (0.0, 1.0, 0.0)
THIRDS = {"weight": (0.2, 0.4, 0.4), "cache": (0.1, 0.5, 0.4), "hidden": (0.0, 0.5, 0.5)}


def run(model: str = "opt-6.7b", prompt: int = 128, output: int = 8, **option: str) -> Offload:
    return prepare(model, "n1_t4", prompt, output, **option)


@pytest.mark.parametrize("schedule", ["stream", "step", "serial"])
def test_all_on_the_device_is_the_plain_systems_sum_of_steps(schedule: str) -> None:
    batch, prompt, output = 3, 128, 8
    one = run()
    done = one.replay(BlockPolicy(batch=batch, schedule=schedule))
    model, number = models.load("opt-6.7b"), formats.of(models.load("opt-6.7b"), "fp16", "auto")
    arrays = machine(catalog.system("n1_t4"), "calibrated")
    ones = np.ones(batch, np.int64)
    plans = [Plan(ones * prompt, ones * prompt, ones == 0, ones == 1)]
    plans += [Plan(ones, ones * (prompt + i), ones == 1, ones == 1) for i in range(1, output)]
    steps = [int(cost(*lower_step(model, number, Placement(), 0, plan), arrays)["time_ps"].sum()) for plan in plans]
    assert done.total_ps == sum(steps)
    assert list(done.token_end_ps) == np.cumsum(steps).tolist()


def test_all_on_the_device_is_the_running_engine_to_the_tick(tmp_path) -> None:
    load = tmp_path / "load.csv"
    load.write_text("arrival_s,prompt_token,output_token\n0,128,8\n0,128,8\n")
    scenario = Scenario(
        model="opt-6.7b", system="n1_t4", weight_format="fp16", engine="none", memory_share=1.0, requests=str(load),
    )  # fmt: skip
    served = simulate(scenario).run.requests
    assert round(float(served["e2e_s"].max()) * 1e12) == run().replay(BlockPolicy(batch=2)).total_ps


def test_layers_hold_what_the_model_weighs() -> None:
    one = run()
    held = one.layers(BlockPolicy())
    whole = sum(weight_byte(one.model, one.formats, Placement(), 0).values())
    head = one.model.vocab * one.model.hidden * 2  # the embedding is kept twice
    final = 2 * one.model.hidden * 2
    assert sum(layer.count * layer.weight_byte for layer in held) == whole + head - final
    assert sum(layer.count * layer.cache_byte for layer in held) == 4 * 32 * 4096
    packed = one.layers(BlockPolicy(pack_cache=True, pack_weight=True))
    assert packed[1].cache_byte == held[1].cache_byte / 2 * PACKED_BYTE
    assert packed[1].weight_byte < held[1].weight_byte / 3


@pytest.mark.parametrize("schedule", ["stream", "step", "serial"])
@pytest.mark.parametrize("num_batch", [1, 2, 5])
@pytest.mark.parametrize("host", [False, True])
def test_bytes_moved_are_bytes_needed_whatever_the_schedule(schedule: str, num_batch: int, host: bool) -> None:
    one = run(prompt=64, output=5)
    policy = BlockPolicy(batch=2, num_batch=num_batch, schedule=schedule, host_attention=host, **THIRDS)
    done, said = one.replay(policy), one.predict(policy)
    for name, busy, wanted in zip(ENGINES, done.busy_ps, said.busy_s, strict=True):
        assert busy == pytest.approx(wanted * 1e12, rel=1e-6), name
    times = unit_times(one.layers(policy), policy, one.tier, one.shape)
    held = one.tier.up_byte_per_s * times[0, :, at.WEIGHT_UP].sum() / 1e12
    assert held == pytest.approx(0.8 * sum(layer.count * layer.weight_byte for layer in one.layers(policy)), rel=1e-6)


@pytest.mark.parametrize("num_batch", [1, 3, 8])
def test_no_engine_is_busier_than_the_run_and_less_overlap_is_never_faster(num_batch: int) -> None:
    one = run(prompt=64, output=5)
    policy = BlockPolicy(batch=4, num_batch=num_batch, host_attention=True, **THIRDS)
    stream, step, serial = (
        one.replay(dataclasses.replace(policy, schedule=name)) for name in ("stream", "step", "serial")
    )
    assert max(stream.busy_ps) <= stream.total_ps <= step.total_ps <= serial.total_ps == sum(serial.busy_ps)
    assert list(stream.token_end_ps) == sorted(stream.token_end_ps)


def test_the_compiled_replay_equals_the_plain_one() -> None:
    plain = at.stream.py_func if hasattr(at.stream, "py_func") else at.stream
    one = run(prompt=32, output=3)
    policy = BlockPolicy(batch=2, num_batch=2, **THIRDS)
    times = unit_times(one.layers(policy), policy, one.tier, one.shape)
    found = [(np.zeros(3, np.int64), np.zeros(5, np.int64)) for _ in range(2)]
    assert plain(times, 2, *found[0]) == at.stream(times, 2, *found[1])
    assert (found[0][0] == found[1][0]).all()


@pytest.mark.parametrize("schedule", ["stream", "step"])
@pytest.mark.parametrize("stack", ["sol", "flexgen"])
def test_what_the_search_predicts_is_replayed_and_no_policy_beats_it(schedule: str, stack: str) -> None:
    one = run("opt-30b", 256, 16, stack=stack)
    start = BlockPolicy(schedule=schedule, host_attention=True, cache=HOST)
    best = one.search(start, batches=(16, 48), num_batches=(1, 3, 6))
    one.check(best)
    said = one.predict(best)
    assert said.token_per_s == pytest.approx(one.replay(best).token_per_s, rel=0.02)
    rng = np.random.default_rng(0)
    for _ in range(40):
        shares = [tuple(rng.dirichlet((0.4, 1.0, 0.2))) for _ in range(3)]
        other = dataclasses.replace(
            best, weight=shares[0], cache=shares[1], hidden=shares[2], batch=int(rng.choice((16, 48))),
            num_batch=int(rng.choice((1, 3, 6))), host_attention=bool(rng.integers(2)),
        )  # fmt: skip
        if (one.need(other) <= one.limit).all():
            assert one.predict(other).token_per_s <= said.token_per_s * (1 + 1e-6)


def test_a_slower_disk_and_less_memory_are_never_better() -> None:
    one = run("opt-175b", 512, 32)
    start = BlockPolicy(host_attention=True, cache=HOST)
    sizes = {"batches": (16,), "num_batches": (4, 16)}
    best = one.predict(one.search(start, **sizes)).token_per_s
    slow = dataclasses.replace(one, tier=one.tier.scaled_disk(0.5e9, 0.5e9))
    assert slow.predict(slow.search(start, **sizes)).token_per_s < best
    tight = one.search(start, limit=one.limit * np.array([1.0, 0.8, 1.0]), **sizes)
    assert one.predict(tight).token_per_s <= best * (1 + 1e-9)


def test_what_cannot_be_is_refused() -> None:
    with pytest.raises(InputError, match="does not fit the device"):
        offload("opt-30b", "n1_t4")
    with pytest.raises(InputError, match="sum to 1"):
        BlockPolicy(weight=(0.5, 0.2, 0.0))
    with pytest.raises(InputError, match="nothing for the host"):
        BlockPolicy(host_attention=True)
    with pytest.raises(InputError, match="unpacked by the device"):
        BlockPolicy(host_attention=True, pack_cache=True, cache=HOST)
    with pytest.raises(InputError, match="no policy fits"):
        run("opt-175b").search(BlockPolicy(), limit=np.array([15e9, 20e9, 0.0]), batches=(1,))
    with pytest.raises(InputError, match="every token's keys"):
        run("mistral-7b").layers(BlockPolicy())
    with pytest.raises(InputError, match="no such software"):
        rates(catalog.system("n1_t4"), "flexgn")
    with pytest.raises(InputError, match="no link to the host"):
        rates(catalog.system("cpu_x1"))


def test_a_software_cannot_make_a_link_faster(tmp_path) -> None:
    file = tmp_path / "fast.toml"
    file.write_text('title = "x"\nsource = "y"\nup_GBps = 20\n')
    with pytest.raises(InputError, match="faster than the machine"):
        rates(catalog.system("n1_t4"), str(file))


def test_attention_is_as_slow_as_a_software_says(tmp_path) -> None:
    file = tmp_path / "slow.toml"
    file.write_text(
        'title = "x"\nsource = "y"\nprompt_attention_TFLOPs = 0.01\ndevice_attention_GBps = 1\ndisk_read_GBps = 1\n'
    )
    one, slow, policy = run(), run(stack=str(file)), BlockPolicy(batch=2)
    layer = one.layers(policy)[1]
    product = 4 * 2 * 128**2 * 4096 / 1e10  # two products of every pair, masked or not, over all heads
    held = 2 * (128 + 8 / 2) * 2 * 4096 * 2 / 1e9  # keys and values of 16 bits at the mean length
    before, after = one.predict(policy), slow.predict(policy)
    own = sum(layer.attend_ps) / len(layer.attend_ps) / 1e12
    assert after.prefill_s - before.prefill_s == pytest.approx(32 * (product - layer.prompt_attend_ps / 1e12))
    assert after.decode_s - before.decode_s == pytest.approx(7 * 32 * (held - own))
    assert slow.tier.read_byte_per_s == 1e9 < one.tier.read_byte_per_s


def test_a_budget_holds_and_reads_what_it_keeps() -> None:
    full, kept = run(), prepare("opt-6.7b", "n1_t4", 128, 8, keep=32)
    policy = BlockPolicy(batch=2, cache=HOST)
    token = 4 * 32 * 4096  # bytes of a token's keys and values over all layers
    assert full.need(policy)[1] - kept.need(policy)[1] == (128 + 8 - 32) * 2 * token
    said, done = kept.predict(policy), kept.replay(policy)
    up, down = (said.busy_s[ENGINES.index(name)] for name in ("up", "down"))
    assert up * kept.tier.up_byte_per_s == pytest.approx(7 * 2 * 32 * token)  # every further token reads what is kept
    assert down * kept.tier.down_byte_per_s == pytest.approx((32 + 7) * 2 * token)  # of the prompt, and each new one
    steps = np.diff(done.token_end_ps)
    assert (steps == steps[0]).all()
    assert done.projected_s(8) == pytest.approx(done.token_end_ps[-1] / 1e12)
    with pytest.raises(InputError, match="not a budget of the prompt"):
        prepare("opt-6.7b", "n1_t4", 128, 8, keep=129)
