"""Three stages with a queue each on one GPU."""

import pytest

from studies import fast_cache as f


def test_a_lone_request_takes_its_prompt_its_compression_and_its_steps() -> None:
    for most in (1, 16):
        one = f.serve(1.0, 1, 0.02, most)
        assert one.first_s == pytest.approx(f.prompt_s(1))
        assert one.byte == f.WIDTH * f.PROMPT


def test_nothing_compressed_in_no_time_is_prompt_and_answer() -> None:
    """A ratio of one: a request holds its whole KV to the end, and decodes behind it."""
    plain, kept = (f.serve(50.0, 40, 0.0, 16, ratio) for ratio in (1.0, 0.2))
    assert f.answer_s(8, 1.0) > f.answer_s(8, 0.2)
    assert plain.byte > kept.byte
    assert plain.served < kept.served


def test_a_calm_load_gains_nothing_and_a_heavy_one_does() -> None:
    calm = [f.serve(0.2, 20, 0.05, most).first_s for most in (1, 16)]
    assert calm[0] == pytest.approx(calm[1], rel=0.05)
    heavy = [f.serve(30.0, 80, 0.05, most) for most in (1, 16)]
    assert heavy[0].first_s > 2 * heavy[1].first_s
    assert heavy[0].served < heavy[1].served
