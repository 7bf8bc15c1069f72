"""Parts of an image, and what few steps leave of them."""

import pytest

from studies import insta_flow as study
from studies._diffusion import unet


def test_one_step_is_its_three_parts() -> None:
    host = 6e-6
    parts = study.text_s(1, study.A100, host) + study.part_s(study.decoder(), 1, study.A100, host)
    one = study.part_s(unet(64, 768), 1, study.A100, host)
    assert study.image_s(1, host) == pytest.approx(parts + one)
    assert study.image_s(25, host) == pytest.approx(parts + 25 * one)


def test_launches_bound_a_part() -> None:
    assert study.part_s(unet(64, 768), 1, study.A100, 1e-3) == len(unet(64, 768)) * 1e-3
    assert study.part_s(unet(64, 768), 1, study.A100, 0.0) > 0


def test_the_decoder_has_its_published_size() -> None:
    """49.5M parameters in the decoder of Stable Diffusion's autoencoder."""
    assert sum(k.n * k.k for k in study.decoder() if k.weighted) == pytest.approx(49.5e6, rel=0.03)
