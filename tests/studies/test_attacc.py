"""AttAcc: both published latencies."""

from studies import attacc


def test_both_latencies_are_reached():
    rows = attacc.run()
    assert (rows["verdict"] == "reproduced").all()
