"""FlexSP at a small size."""

from studies import _long_tail, flex_sp


def test_many_sizes_gain_over_the_size_that_the_context_needs() -> None:
    one = flex_sp.case("gpt3-7b", 192, "wikipedia", num_sequence=128)
    assert one.second[flex_sp.MANY] < min(one.second[flex_sp.ULYSSES], one.second[flex_sp.MEGATRON])
    assert one.best_single_s >= one.second[flex_sp.MANY]


def test_fewer_ports_exchange_longer() -> None:
    few, many = (flex_sp.case("gpt3-7b", 192, "wikipedia", 128, nic) for nic in (2, 8))
    assert few.exchange > many.exchange
    assert few.second[flex_sp.ULYSSES] > many.second[flex_sp.ULYSSES]


def test_what_exceeds_the_context_is_dropped_not_cut() -> None:
    length = _long_tail.dropped(2000.0, 1.6, 10_000, 65_536)
    assert length.max() <= 65_536
    assert (length == 65_536).sum() < 3
