"""The reference model computes the same tokens however its work is cut: whole, in chunks, or in padded batches."""

import dataclasses

import pytest

from kernels.errors import InputError

torch = pytest.importorskip("torch")
from hw_models.reference.model import ReferenceModel, Span  # noqa: E402
from workloads.models.spec import Attention, Block, FeedForward, ModelSpec  # noqa: E402


def small(attention: Attention, ffn: FeedForward, **block: bool) -> ModelSpec:
    """Three layers of width 64."""
    return ModelSpec("small", "test", 64, 1000, 4096, (Block(attention, ffn, **block),), (0, 0, 0))


MODELS = {
    "grouped heads": small(Attention(8, 2, 16, 16, rope_dim=16), FeedForward(128)),
    "window, experts": small(
        Attention(8, 2, 16, 16, rope_dim=8, window=20, qk_norm=32),
        FeedForward(0, num_expert=8, topk=2, expert_inter=32),
    ),
    "latent, shared expert": small(
        Attention(8, 8, 24, 16, rope_dim=8, q_rank=32, kv_rank=32),
        FeedForward(64, num_expert=8, topk=2, expert_inter=32),
    ),
    "parallel block": small(Attention(8, 1, 16, 16, rope_dim=16), FeedForward(128, gated=False), parallel=True),
}
FIRST, SECOND = list(range(12)), list(range(12, 24))  # KV blocks of two sequences, four tokens a block


def generate(spec: ModelSpec, pad: tuple[int, ...], chunked: bool) -> list[int]:
    model = ReferenceModel(spec, torch.device("cpu"), torch.float32, 32, 4, pad_batch=pad)
    if chunked:
        model.step([Span(10, 10, FIRST), Span(3, 3, SECOND)])
        model.step([Span(20, 30, FIRST), Span(14, 17, SECOND)])
    else:
        model.step([Span(30, 30, FIRST)])
        model.step([Span(17, 17, SECOND)])
    both, seconds = model.step([Span(1, 31, FIRST), Span(1, 18, SECOND)])
    one, _ = model.step([Span(1, 32, FIRST)])
    assert seconds > 0
    return [*both.tolist(), *one.tolist()]


@pytest.mark.parametrize("name", MODELS)
def test_tokens_do_not_depend_on_how_work_is_cut(name: str) -> None:
    whole = generate(MODELS[name], pad=(), chunked=False)
    assert generate(MODELS[name], pad=(), chunked=True) == whole
    assert generate(MODELS[name], pad=(1, 2, 4), chunked=True) == whole


def test_unknown_positions_are_refused() -> None:
    with pytest.raises(InputError, match="alibi"):
        ReferenceModel(
            dataclasses.replace(MODELS["grouped heads"], position="alibi"), torch.device("cpu"), torch.float32, 4, 4
        )
