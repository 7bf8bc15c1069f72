"""What the small simulators inside studies must hold, whatever the published numbers say."""

import numpy as np
import pytest

from hw_models import catalog
from kernels.errors import InputError
from studies import blockwise, ffcv, flover, lact, magic_dec, paged_attention, s_cubed, skip_decode
from studies._diffusion import tiny_decoder, tiny_encoder, unet
from studies._steps import arrays, decode_s, step_s


def test_a_buddy_gives_back_what_it_took() -> None:
    memory = paged_attention.Buddy(16_000)
    whole = {size: sorted(places) for size, places in memory.free.items()}
    rng = np.random.default_rng(0)
    held: list[tuple[int, int]] = []
    for _ in range(2000):
        if held and rng.random() < 0.5:
            memory.give(*held.pop(int(rng.integers(len(held)))))
            continue
        size = 1 << int(rng.integers(4, 12))
        at = memory.take(size)
        if at >= 0:
            assert at % size == 0
            assert all(at + size <= other or other + part <= at for other, part in held)
            held.append((at, size))
    for at, size in held:
        memory.give(at, size)
    assert {size: sorted(places) for size, places in memory.free.items()} == whole


@pytest.mark.parametrize("slots", [4096, 14_336, 16_662])
def test_shares_of_a_pool_are_all_of_it(slots: int) -> None:
    prompt, output = paged_attention.lengths(200)
    for name in (paged_attention.MAX, paged_attention.POW2, paged_attention.ORACLE):
        pool = paged_attention.reserved(name, slots, prompt, output)
        assert sum(pool.share) == pytest.approx(1.0)
        assert min(pool.share) > -1e-9
    assert paged_attention.reserved(paged_attention.ORACLE, slots, prompt, output).share[2] == 0
    assert 0 < paged_attention.paged(slots, prompt, output).share[0] <= 1


def test_seven_contexts_of_2048_fit_where_eight_would_not() -> None:
    even = np.full(50, 1000)
    assert paged_attention.reserved(paged_attention.MAX, 15_700, even, even).running <= 7


def test_blocks_hold_nearly_all_and_more_at_once() -> None:
    prompt, output = paged_attention.lengths(600)
    pool = paged_attention.paged(16_000, prompt, output)
    assert pool.share[0] > 0.9
    assert paged_attention.reserved(paged_attention.ORACLE, 16_000, prompt, output).running < pool.running


def test_flover_counts_every_token_once_and_no_idle_iteration() -> None:
    one = flover.serve("GPT-J 6B", [0.0], 64)
    assert one.iteration == 64
    assert one.second == pytest.approx(64 * flover.iteration_s("GPT-J 6B", 1))
    together = flover.serve("GPT-J 6B", [0.0] * 4, 64)
    assert together.iteration == 64
    assert together.second == pytest.approx(64 * flover.iteration_s("GPT-J 6B", 4))
    apart = flover.serve("GPT-J 6B", [0.0, 1e6], 64)
    assert apart.iteration == 128
    late = flover.serve("GPT-J 6B", [0.0, 1e-9], 64)  # comes within the first iteration: joins the second
    assert late.iteration == 65


def test_drafts_that_never_hold_cost_and_drafts_that_always_hold_pay() -> None:
    plain, draft, verify = magic_dec.passes(4000, 32)
    never, always = magic_dec.speed(4000, 32, 0.0, 0.0), magic_dec.speed(4000, 32, 0.0, 0.999)
    assert never.spec_s > never.plain_s == plain
    assert never.length == 1
    assert always.length == magic_dec.MOST
    assert always.spec_s > (5 * draft + verify[-1]) / 6
    assert all(a <= b for a, b in zip((plain, *verify), verify, strict=False))


def test_the_schedule_of_layers_has_its_mean_and_falls() -> None:
    for gain in (2.0, 5.0):
        layers = skip_decode.schedule(24, gain)
        assert layers.mean() == pytest.approx(24 / gain, rel=0.03)
        assert (np.diff(layers) <= 0).all()
        assert layers[0] <= 24
        assert layers[-1] >= skip_decode.WARM


def test_a_loader_is_never_faster_than_its_disk_or_its_cpus() -> None:
    for place, encoding in ffcv.LOADER:
        assert ffcv.loader("disk", encoding) <= ffcv.loader("RAM", encoding)
        if place == "disk":
            assert ffcv.loader(place, encoding) * ffcv.image_byte(encoding) <= ffcv.disk_byte_per_s() * (1 + 1e-6)


def test_networks_of_diffusion_have_their_published_size() -> None:
    """Stable Diffusion 2.1's U-Net: 866M parameters, of which biases, norms and embeddings of the step are left out."""
    weights = sum(k.n * k.k for k in unet() if k.weighted)
    assert 0.95 < weights / 866e6 < 1.0
    flop = sum(2.0 * k.m * k.n * k.k for k in unet())
    assert sum(2.0 * k.m * k.n * k.k for k in unet(32)) < flop / 3.9
    assert sum(k.m * k.n * k.k for k in tiny_encoder()) < sum(k.m * k.n * k.k for k in tiny_decoder()) * 1.2


def test_one_price_for_a_step() -> None:
    where = arrays("a100_sxm_80gb")
    assert decode_s("llama-2-7b", where, 2, 512) == step_s("llama-2-7b", where, [1, 1], [512, 512])
    assert decode_s("llama-2-7b", where, 2, 512, query=4) > decode_s("llama-2-7b", where, 2, 512)
    ideal = arrays("a100_sxm_80gb", ideal=True)
    assert decode_s("llama-2-7b", ideal, 8, 512) < decode_s("llama-2-7b", where, 8, 512)
    with pytest.raises(InputError):
        step_s("llama-2-7b", where, [2], [1])


def test_passes_of_heads_that_all_hold_and_that_never_do() -> None:
    assert blockwise.passes(4, 1.0, 27, 10) == 7.0  # 27 / 4, rounded up
    assert blockwise.passes(4, 0.0, 27, 10) == 27.0
    accept = blockwise.accept_of(4, 2.5)
    assert 1 + accept + accept**2 + accept**3 == pytest.approx(2.5)
    assert 10_000 / blockwise.passes(4, accept, 10_000, 20) == pytest.approx(2.5, rel=0.01)  # the end cuts nothing


def test_room_that_is_never_wrong_is_the_bucket() -> None:
    assert s_cubed.fits(s_cubed.MOST) < s_cubed.fits(s_cubed.MOST / 10) < 10 * s_cubed.fits(s_cubed.MOST)
    assert s_cubed.gain(1.0, 56.0) > s_cubed.gain(0.5, 56.0)


def test_use_of_a_device_is_below_the_roofline_of_a_chunk() -> None:
    """Weights of 2 B are read by each product of a chunk: at most a FLOP a byte for each of its tokens."""
    device = catalog.system("h100_sxm").device
    for chunk in (16, 64):
        assert 0 < lact.share("h100_sxm", 512, chunk) < chunk * device.mem_byte_per_s / device.peak("bf16")
