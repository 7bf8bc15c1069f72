"""A hierarchy over bytes: what its stages cost, and what is left of it."""

import pytest

from studies import h_net


def test_chunks_of_one_byte_are_all_nets_on_every_byte() -> None:
    nets = h_net.stages(1)
    whole = [h_net.flop(net, h_net.CONTEXT_BYTE) / h_net.CONTEXT_BYTE for net in nets]
    assert h_net.per_byte(nets, h_net.sizes(1, 1.0)) == whole
    assert h_net.sizes(2, 1.0) == [1.0, 1.0, 1.0]


def test_the_inner_net_alone_over_tokens_is_the_transformer() -> None:
    model = h_net.transformer(h_net.INNER, 24)
    assert h_net.per_byte([model], [4.6]) == [h_net.flop(model, round(8192 / 4.6)) / 8192]


def test_a_token_is_two_flops_a_weight_and_its_attention() -> None:
    weight = 24 * (4 * 2048**2 + 3 * 2048 * 5504) + 2048
    assert h_net.flop(h_net.transformer(h_net.INNER, 24), 1) == pytest.approx(2 * weight, rel=0.01)


def test_time_a_byte_falls_with_chunks() -> None:
    nets = h_net.stages(2)
    assert h_net.time_us(nets, h_net.sizes(2, 8.0)) < h_net.time_us(nets, h_net.sizes(2, 2.0))
