"""Dynamic backup workers: never behind, ahead where tails are heavy and the target is near the floor."""

from studies import backup_workers


def test_gains_grow_with_the_tail() -> None:
    table = backup_workers.run((0.5, 0.9))
    found = table.set_index("setup")["simulated"]
    largest = [
        float(found[next(text for text in found.index if text.startswith(name))]) for name in backup_workers.TIMES
    ]
    # nearly constant times leave nothing to win; heavier tails more
    assert 1.0 <= largest[0] < 1.3
    assert largest[0] < largest[2] < largest[3]
    assert table[table["claim"].str.endswith("smallest")]["verdict"].item() == "reproduced"
    assert table[table["system"] == "best static"]["verdict"].item() == "reproduced"
