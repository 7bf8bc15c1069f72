"""ElasWave at one layout."""

from studies import elas_wave


def test_rebalancing_is_ahead_of_rerouting_and_of_dropping() -> None:
    case = elas_wave.case((3, 8, 4), "one worker")
    # a third of the batch is dropped; a stage with half as much again to do; 23 of 24 workers and a tenth more clock
    assert case["TorchFT"] < case["ReCycle"] < case["ElasWave"] < 23 / 24 * 1.1
    assert case["ElasWave"] >= case["without clocks"]
    table = elas_wave.run(((3, 8, 4),), ("one worker",))
    assert (table[table["kind"] == "order"]["verdict"] == "reproduced").all()
    assert 0 < table[table["claim"].str.startswith("migration")]["simulated"].item() < 1
    # nothing of the cluster, the failures or the clocks is published: no number has a verdict
    assert set(table[table["kind"] == "number"]["verdict"]) == {"said"}
