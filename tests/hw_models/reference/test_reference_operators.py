"""The reference device on the CPU: right before it is timed, one measurement a shape, errors that say why."""

import numpy as np
import pytest

from kernels.errors import InputError
from kernels.formats import FORMAT_CODE
from kernels.optable import ACT, ALL_REDUCE, ATTN_DECODE, ATTN_PREFILL, GEMM, MOE, NORM, empty

torch = pytest.importorskip("torch")
from hw_models.reference import candidate, layers  # noqa: E402
from hw_models.reference.device import ReferenceDevice  # noqa: E402
from hw_models.reference.moe import expert_of_token  # noqa: E402
from hw_models.reference.timing import measure  # noqa: E402


def row(kind: int, fmt: str = "fp32", **columns: int) -> np.ndarray:
    ops, _ = empty(1)
    ops["kind"], ops["fmt"], ops["kv_fmt"] = kind, FORMAT_CODE[fmt], FORMAT_CODE[fmt]
    ops["act_byte"] = 1e6
    for name, value in columns.items():
        ops[name] = value
    return ops[0]


def work(*rows: tuple[int, int, int, int]) -> np.ndarray:
    _, table = empty(0, len(rows))
    for index, values in enumerate(rows):
        table[index] = values
    return table


@pytest.fixture(scope="module")
def device() -> ReferenceDevice:
    return ReferenceDevice("cpu", budget_s=0.005)


HEADS = {"num_head": 4, "num_kv_head": 2, "head_dim": 32, "v_head_dim": 32, "work_stop": 1}
CASES = [
    (row(GEMM, m=24, n=32, k=64), work()),
    (row(GEMM, "bf16", m=24, n=32, k=64), work()),
    (row(GEMM, "int8", m=24, n=32, k=64), work()),
    (row(GEMM, batch=3, m=8, n=16, k=32), work()),
    (row(ATTN_PREFILL, **HEADS), work((2, 10, 10, 1))),  # a whole prompt
    (row(ATTN_PREFILL, **HEADS), work((1, 5, 30, 1))),  # a chunk on a cached prefix
    (row(ATTN_DECODE, **HEADS), work((3, 1, 40, 1))),
    (row(ATTN_DECODE, window=8, **HEADS), work((2, 1, 40, 1), (1, 1, 7, 1))),
    (row(ATTN_PREFILL, window=8, **HEADS), work((1, 12, 30, 1))),
    (row(MOE, m=12, k=32, n=16, num_expert=6, topk=2), work()),
    (row(NORM, m=5, n=64), work()),
    (row(ACT, m=5, n=64), work()),
]


@pytest.mark.parametrize("index", range(len(CASES)))
def test_every_candidate_agrees_with_double_precision(device: ReferenceDevice, index: int) -> None:
    op, rows = CASES[index]
    found = device.candidates(op, rows)
    assert found
    for one in found:
        candidate.check(one)


def test_a_wrong_kernel_is_refused() -> None:
    wrong = candidate.Candidate("off by one", lambda i: lambda: torch.ones(3), lambda: torch.zeros(3) + 2, 1e-3)
    with pytest.raises(candidate.WrongResultError, match="off by one"):
        candidate.check(wrong)


def test_cost_multiplies_repetitions_and_measures_a_shape_once(device: ReferenceDevice) -> None:
    ops, rows = empty(2)
    ops[0] = ops[1] = row(GEMM, m=16, n=64, k=64)
    ops["count"] = (1, 7)
    cost = device.cost(ops, rows)
    # one measurement serves both rows, so the ratio of the two is exactly the count
    assert cost["time_ps"][1] == 7 * cost["time_ps"][0] > 0


def test_what_torch_has_no_kernel_for_is_an_error(device: ReferenceDevice) -> None:
    with pytest.raises(InputError, match="nvfp4"):
        device.measure(row(GEMM, "nvfp4", m=16, n=16, k=16), work())
    with pytest.raises(InputError, match="all_reduce"):
        device.measure(row(ALL_REDUCE), work())
    with pytest.raises(InputError, match="fp8"):
        device.measure(row(ATTN_DECODE, "fp8", **HEADS), work((1, 1, 40, 1)))


def test_median_is_within_the_samples_and_buffers_rotate() -> None:
    seen: list[int] = []
    timing = measure(seen.append, torch.device("cpu"), budget_s=0.0, num_buffer=3, min_repeat=6)
    assert timing.num_repeat == 6
    assert seen == [0, 1, 2, 0, 1, 2, 0, 1, 2]  # three warm-ups, then six timed calls in rotation


def test_what_comes_before_a_call_is_not_timed() -> None:
    order: list[str] = []

    def before() -> None:
        order.append("before")
        torch.ones(2**22).sum()  # milliseconds; the call itself takes microseconds

    timing = measure(lambda index: order.append("call"), torch.device("cpu"), 0.0, 1, 6, before)
    assert order == ["call", *["before", "call"] * 6]  # the first one warms up
    assert timing.median_s < 1e-3


def test_blocks_are_gathered_in_their_order() -> None:
    cache = torch.arange(5 * 2 * 3).view(5, 2, 3)
    found = layers.gather(cache, torch.tensor([[3, 0], [4, 4]]))
    assert found.equal(cache[[3, 0, 4, 4]].flatten(0, 1))


def test_routing_draws_distinct_experts_and_follows_the_skew() -> None:
    flat = expert_of_token(4000, 16, 2, 0.0, seed=1)
    assert all(len(set(pair)) == 2 for pair in flat[:200])
    load = np.bincount(flat.ravel(), minlength=16)
    # balanced: 500 expected an expert, binomial standard deviation 21; five of them
    assert abs(load - 500).max() < 5 * 21
    skewed = np.bincount(expert_of_token(4000, 16, 2, 1.2, seed=1).ravel(), minlength=16)
    assert skewed[0] == skewed.max() > 3 * 500 / 2  # the most popular expert is in most tokens' two
