"""What stacks say of their errors is what the command finds."""

import pytest

from sim.training.accuracy import PUBLISHED, fitted_again, stated


@pytest.mark.parametrize("stack", ["megatron-core", "megatron-core-2024"])
def test_published_rows_give_the_factor_and_the_errors_that_a_stack_states(stack: str) -> None:
    assert (PUBLISHED / f"{stack}.csv").exists()
    again = fitted_again(None)
    (row,) = again[again["kernel"] == stack].to_dict("records")
    said = stated()
    (held,) = said[(said["kernel"] == stack) & (said["size_class"] == "the row") & (said["n"] == row["n"])].to_dict(
        "records"
    )
    for name in ("mape", "median", "p90", "bias"):
        assert row[name] == pytest.approx(held[name], abs=0.005)
