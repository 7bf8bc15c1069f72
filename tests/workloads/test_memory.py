"""Memory budgets by hand arithmetic."""

import pytest

from kernels.errors import InputError
from workloads import models, placement
from workloads.formats import parse
from workloads.memory import budget, kv_byte, kv_byte_per_token, kv_token_capacity, weight_byte
from workloads.models import num_param

BF16 = parse("bf16")


@pytest.mark.parametrize(
    ("name", "byte"),
    [
        ("llama-2-70b", 2 * 80 * 8 * 128 * 2),  # the 0.328 MB a token of the Splitwise paper
        ("bloom-176b", 2 * 70 * 112 * 128 * 2),  # its 4.01 MB
        ("opt-13b", 2 * 40 * 40 * 128 * 2),  # the 800 KB of the PagedAttention paper
        ("deepseek-v3", 61 * (512 + 64) * 2),  # the 70 KB of arXiv 2505.09343
        ("falcon-7b", 2 * 32 * 64 * 2),  # one head
    ],
)
def test_kv_bytes_a_token(name, byte):
    model = models.load(name)
    assert kv_byte_per_token(model, BF16, placement.make(model)) == byte


def test_kv_is_split_then_replicated():
    model = models.load("llama-3-70b")  # 8 key-value heads
    whole = kv_byte_per_token(model, BF16, placement.make(model))
    assert kv_byte_per_token(model, BF16, placement.make(model, tp=8)) == whole / 8
    assert kv_byte_per_token(model, BF16, placement.make(model, tp=16)) == whole / 8
    assert kv_byte_per_token(model, BF16, placement.make(model, pp=4)) == whole / 4
    assert kv_byte_per_token(model, parse("bf16:kv=1"), placement.make(model)) == whole / 16
    v3 = models.load("deepseek-v3")
    assert kv_byte_per_token(v3, BF16, placement.make(v3, tp=8)) == kv_byte_per_token(v3, BF16, placement.make(v3))


def test_windowed_layers_keep_their_window():
    gemma = models.load("gemma-3-27b")
    layer = 2 * 16 * 128 * 2  # keys and values of a token in one layer
    expected = (10 * 32_000 + 52 * 1024) * layer
    assert kv_byte(gemma, BF16, placement.make(gemma), 0, 32_000) == expected


@pytest.mark.parametrize("name", models.names())
def test_unsharded_weights_are_the_parameters(name):
    model = models.load(name)
    assert sum(weight_byte(model, BF16, placement.make(model), 0).values()) == 2 * num_param(model)


def test_shards_and_stages_add_up():
    for name in ("llama-2-70b", "mixtral-8x7b", "gpt-oss-20b"):
        model = models.load(name)
        tp, pp = placement.make(model, tp=4), placement.make(model, pp=3)
        parts = weight_byte(model, BF16, placement.make(model), 0)
        share = weight_byte(model, BF16, tp, 0)
        for part in ("embedding", "attention", "ffn", "expert", "head"):
            assert 4 * share[part] == pytest.approx(parts[part], rel=1e-3)  # output biases are replicated
        assert share["norm"] == parts["norm"]
        stages = [weight_byte(model, BF16, pp, s) for s in range(3)]
        assert sum(sum(stage.values()) for stage in stages) == 2 * num_param(model)


def test_tied_head_is_stored_again_on_the_last_stage():
    gemma = models.load("gemma-2-27b")
    stages = [weight_byte(gemma, BF16, placement.make(gemma, pp=2), s) for s in range(2)]
    assert sum(sum(s.values()) for s in stages) == 2 * (num_param(gemma) + 256_000 * 4608)


def test_budget_of_llama_2_7b_on_80_gb():
    llama = models.load("llama-2-7b")
    found = budget(llama, BF16, placement.make(llama), 80e9, max_num_token=2048, max_num_seq=128)
    assert found.reserve == 8e9  # a tenth
    assert sum(found.weight.values()) == 2 * 6_738_415_616
    # widest: residual and norm, gate, up and their product
    assert found.activation == 2048 * 2 * (2 * 4096 + 3 * 11008)
    # or, where they need more, the logits of all sequences in 2 and 4 bytes: the sampler comes after the layers
    assert budget(llama, BF16, placement.make(llama), 80e9, max_num_seq=2048).activation == 2048 * 32_000 * 6
    wide = budget(llama, BF16, placement.make(llama), 80e9, max_num_seq=1024, sampled_byte=38.5)
    assert wide.activation == 1024 * 32_000 * 38.5
    assert found.kv == 80e9 - found.reserve - sum(found.weight.values()) - found.activation
    assert found.token_capacity == found.kv // (2 * 32 * 4096 * 2)
    rows = dict(found.table())
    assert rows["device memory"] - rows["reserve"] - rows["activations"] - rows["left for KV"] == 2 * 6_738_415_616


def test_what_does_not_fit_says_why_in_one_line():
    llama = models.load("llama-3-70b")
    with pytest.raises(InputError) as caught:
        budget(llama, BF16, placement.make(llama), 80e9)
    text = str(caught.value)
    for word in ("does not fit", "device memory 80.00", "weights: ffn 112.74", "left for KV -", "tp=1"):
        assert word in text
    assert "\n" not in text
    assert budget(llama, BF16, placement.make(llama, tp=8), 80e9).token_capacity > 100_000
    with pytest.raises(InputError, match="one sequence of 8000000 tokens"):
        budget(llama, BF16, placement.make(llama, tp=8), 80e9, context=8_000_000)


def test_windows_raise_the_capacity_of_long_sequences():
    gpt = models.load("gpt-oss-20b")
    place = placement.make(gpt)
    short = kv_token_capacity(gpt, BF16, place, 80e9, length=128)
    long = kv_token_capacity(gpt, BF16, place, 80e9, length=65_536)
    # half of the layers keep 128 tokens; some twenty whole sequences fit, and a part of one is lost
    assert long / short == pytest.approx(2, rel=0.05)


@pytest.mark.parametrize("changes", [{"utilization": 0}, {"utilization": 1.5}])
def test_wrong_shares(changes):
    llama = models.load("llama-2-7b")
    with pytest.raises(InputError, match="utilization"):
        budget(llama, BF16, placement.make(llama), 80e9, **changes)
