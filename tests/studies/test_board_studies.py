"""Expert exchange, a plan of 245B, images of 128 tokens, temporal batches, adversarial steps, merged tokens."""

import math

import pytest

from studies import con_adv, deep_ep, dynamic_tokens, instella_t2i, pres, yuan


def test_bytes_of_an_exchange_are_those_of_every_device_that_has_an_expert() -> None:
    found = deep_ep.exchange("dispatch", 4096, 8, 256, 24, 0, "h800")
    reached = 8 * (1 - math.comb(224, 8) / math.comb(256, 8))  # of eight devices with 32 experts each
    assert found.device_byte == pytest.approx(4096 * 7168 * (1 + 4 / 128) * reached)
    far = deep_ep.exchange("combine", 4096, 64, 256, 24, 4, "h800")
    assert far.node_byte <= 4 * 4096 * 7168 * 2
    assert far.device_byte > far.node_byte


@pytest.mark.parametrize("way", ["dispatch", "combine"])
def test_an_exchange_takes_longer_over_more_devices_and_fewer_links(way: str) -> None:
    low = [deep_ep.exchange(way, 128, num, 256, 0, 0, "h800").second for num in (8, 16, 32, 64, 128, 256)]
    assert low == sorted(low)
    for num, limit in ((8, 0), (16, 2), (32, 4)):
        narrow, wide = (deep_ep.exchange(way, 4096, num, 256, 24, limit, name).second for name in ("h800", "h100_sxm"))
        assert narrow >= wide
    # no faster than the links: all but a device's own tokens cross 8 of them of 25 GB/s
    one = deep_ep.exchange(way, 4096, 8, 256, 24, 0, "h800")
    assert one.second >= one.device_byte * 7 / 8 / 200e9


def test_operations_of_a_step_with_recomputation_are_eight_a_parameter_and_token() -> None:
    stack = yuan.STACKS[0]
    flop = yuan.used(stack) * yuan.step(stack).step_s * yuan.NUM_GPU * yuan.PEAK
    parameter = 12 * yuan.NUM_LAYER * yuan.WIDTH**2
    assert flop == pytest.approx(8 * parameter * yuan.BATCH * yuan.SEQ, rel=0.04)
    assert yuan.days(stack) == pytest.approx(yuan.TOKENS / (yuan.BATCH * yuan.SEQ) * yuan.step(stack).step_s / 86400)


def test_more_tokens_an_image_are_slower_and_what_is_kept_takes_room() -> None:
    rates = [instella_t2i.rate(image, 4.0, "mi300x") for image in (128, 256, 1024)]
    assert rates == sorted(rates, reverse=True)
    assert instella_t2i.rate(128, 3.0, "mi300x") > rates[0]
    assert instella_t2i.rate(128, 4.0, "mi300x", 0) > rates[0] > instella_t2i.rate(128, 4.0, "mi300x", 1024)
    assert instella_t2i.gib(128, True) > instella_t2i.gib(128, False)


@pytest.mark.parametrize("host_s", pres.SAMPLERS.values())
def test_a_larger_temporal_batch_gains_less_than_its_size(host_s: float) -> None:
    for larger in (2, 4, 8):
        assert 1 < pres.speed("a100_sxm_80gb", host_s, larger=larger) < larger
    assert pres.speed("a100_sxm_80gb", host_s, larger=1) < 1  # a prediction is more work
    assert 0 <= pres.grows("a100_sxm_80gb", host_s) <= 1


def test_what_only_grows_with_events_gains_nothing_from_a_batch() -> None:
    one, four = (pres.batch_s("a100_sxm_80gb", n, 1.0, launch_s=0.0) for n in (200, 800))
    assert four == pytest.approx(4 * one, rel=1e-3)


def test_a_gradient_before_a_gradient_is_at_most_a_second_pass() -> None:
    for batch in (16384, 98304):
        part, whole = (con_adv.over(way, batch, 256) for way in (con_adv.WAITS, con_adv.WHOLE))
        assert 1 < part < whole <= 2 + 1e-9
        assert con_adv.over(con_adv.AT_ONCE, batch, 256) >= 1


def test_embeddings_that_are_predicted_take_from_what_is_saved() -> None:
    for model in dynamic_tokens.FEWER:
        shares = [dynamic_tokens.saved(model, "a100_sxm_80gb", 512, share) for share in (None, 0.1, 0.5, 1.0)]
        assert shares == sorted(shares, reverse=True)
    assert dynamic_tokens.predicted_s("XLM-R", "a100_sxm_80gb", 512, 0.0) == 0
