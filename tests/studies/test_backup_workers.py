"""Dynamic backup workers: never behind, ahead where tails are heavy and the target is near the floor."""

from studies import backup_workers


def test_gains_grow_with_the_tail() -> None:
    table = backup_workers.run((0.5, 0.9))
    found = table[table["claim"] == backup_workers.GAIN].set_index("setup")["simulated"]
    largest = [
        found[[text for text in found.index if text.startswith(f"{name};")]].max() for name in backup_workers.TIMES
    ]
    # nearly constant times leave nothing to win; heavier tails more
    assert 1.0 <= largest[0] < 1.3
    assert largest[0] < largest[2] < largest[3]
    assert (table[table["kind"] == "order"]["verdict"] == "reproduced").all()
    # the headline has no published set-up
    assert table[table["paper"] == 3.0]["verdict"].tolist() == ["said"]


def test_the_rule_waits_for_more_as_it_nears_the_floor() -> None:
    table = backup_workers.run((0.5,))
    waited = table[table["claim"] == backup_workers.WAITED]["simulated"].tolist()
    assert waited[0] < waited[-1]
    assert waited == sorted(waited)
