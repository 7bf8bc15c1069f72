"""Offload over a channel: closed forms of peak and stall, bytes once, what the kernel counts."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from kernels.errors import InputError
from studies._activation_offload import Module, best_offload, offload_step

EVEN = [Module(str(n), 1.0, 2.0, 10.0, 10.0) for n in range(8)]


def test_without_offload_everything_is_held_and_nothing_waits() -> None:
    result = offload_step(EVEN, 0, 1.0, 1.0)
    assert (result.step_s, result.stall_s, result.peak_byte, result.written_byte) == (24.0, 0.0, 80.0, 0.0)


def test_a_channel_that_keeps_up_leaves_what_is_at_work() -> None:
    # a write takes as long as a forward pass: the next one's tensors and the ones on their way out; a read at twice the
    # rate takes a quarter of a backward pass. At the turn the last two are there and the one before is on its way out
    result = offload_step(EVEN, 6, 10.0, 20.0)
    assert result.step_s == 24.0
    assert result.peak_byte == 30.0
    # all eight: the last two would not be written in time and are forwarded from memory, the peak is the same
    assert offload_step(EVEN, 8, 10.0, 20.0).peak_byte == 30.0
    assert offload_step(EVEN, 8, 10.0, 20.0).read_byte == offload_step(EVEN, 8, 10.0, 20.0).written_byte < 80


def test_a_slow_read_stalls_by_what_its_link_lacks() -> None:
    # 40 B at 2 B/s are 20 s of reading, all from the turn on; the modules that stay run under it, and so do the first
    # three that are back
    result = offload_step(EVEN, 4, 1e9, 2.0, lookahead=8)
    assert result.step_s == pytest.approx(8 + 20 + 2)  # forward, the channel from the turn on, the first module's pass
    assert result.stall_s == pytest.approx(result.step_s - 24)


@settings(max_examples=40, deadline=None)
@given(
    sizes=st.lists(st.integers(1, 100), min_size=1, max_size=10), write=st.floats(1, 200), read=st.floats(1, 200),
    lookahead=st.integers(1, 5),
)  # fmt: skip
def test_never_sooner_never_more_and_everything_is_let_go(
    sizes: list[int], write: float, read: float, lookahead: int
) -> None:
    modules = [Module(str(n), 1.0, 2.0, float(size), float(size)) for n, size in enumerate(sizes)]
    keep = offload_step(modules, 0, write, read)
    for count in range(len(modules) + 1):
        result = offload_step(modules, count, write, read, lookahead=lookahead)
        assert result.step_s >= keep.step_s - 1e-9
        assert result.step_s == pytest.approx(keep.step_s + result.stall_s)
        assert result.peak_byte <= keep.peak_byte + 1e-9
        assert result.curve[-1][1] == pytest.approx(0)
        assert result.written_byte == result.read_byte <= sum(sizes[:count])
    count, best = best_offload(modules, write, read, lookahead=lookahead)
    assert best.step_s <= keep.step_s * 1.01
    assert best.peak_byte <= keep.peak_byte


def test_bad_channels_are_refused() -> None:
    with pytest.raises(InputError):
        offload_step(EVEN, 9, 1.0, 1.0)
    with pytest.raises(InputError):
        offload_step(EVEN, 1, 0.0, 1.0)
