"""FlexSP at a small size."""

from studies import flex_sp


def test_many_sizes_gain_over_the_size_that_the_context_needs() -> None:
    table = flex_sp.run(("gpt3-7b",), (192,), ("articles",), num_sequence=128)
    gain = table.loc[table["claim"] == "faster than the static size, ratio", "simulated"].item()
    # 32 devices span four nodes and exchange over 6 GB/s what 8 exchange over 300 GB/s: more than half of their time
    assert 1.5 < gain < 4
    assert table.loc[table["claim"].str.contains("best single"), "verdict"].item() == "reproduced"
