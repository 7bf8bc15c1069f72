"""ElasWave at one layout."""

from studies import elas_wave


def test_rebalancing_is_ahead_of_rerouting_and_of_dropping() -> None:
    case = elas_wave.case((3, 8, 4), "one worker")
    # a third of the batch is dropped; a stage with half as much again to do; 23 of 24 workers and a tenth more clock
    assert case["TorchFT"] < case["ReCycle"] < case["ElasWave"] < 23 / 24 * 1.1
    assert case["ElasWave"] >= case["without clocks"]
    table = elas_wave.run(((3, 8, 4),), ("one worker",))
    assert table[table["claim"].str.startswith("higher clocks")]["verdict"].item() == "reproduced"
    assert 0 < table[table["claim"].str.startswith("migration")]["simulated"].item() < 1
