"""Encoder, decoder and padding of a speech model."""

from studies import canary


def test_one_bucket_of_equal_lengths_has_no_padding() -> None:
    assert canary.padding(10, 0.0, 1) == 0.0


def test_more_buckets_pad_less() -> None:
    found = [canary.padding(100, 0.8, buckets) for buckets in (1, 2, 8, 32)]
    assert found == sorted(found, reverse=True)


def test_launches_bound_a_step_from_below() -> None:
    step = round(10 * canary.TOKEN_PER_S) + canary.PROMPT
    free, slow = (canary.decoder_pass_s(4, 10.0, 64, host) for host in (0.0, 1e-3))
    assert slow == step * 4 * canary.NUM_KERNEL * 1e-3
    assert 0 < free < slow


def test_layers_cost_in_proportion() -> None:
    assert canary.decoder_pass_s(24, 10.0, 64, 6e-6) == 6 * canary.decoder_pass_s(4, 10.0, 64, 6e-6)
