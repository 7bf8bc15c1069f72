"""The Azure conversation trace replays whole, on one DGX-H100 and on four."""

import pytest

from studies import azure_conversation
from tests.shared_data import folder


def test_the_trace_replays_whole_and_is_served_as_offered() -> None:
    file = folder("traces", "AzureLLMInferenceTrace_conv.csv")
    table = azure_conversation.run(f"azure:{file}", "sol")
    served = table[table["claim"] == "request throughput (1/s)"].set_index("setup")
    # 19,366 requests in 3,508 s; the few longer than the model's context are refused, so a little less is served
    assert served["simulated"].tolist() == pytest.approx([5.52, 5.52], rel=0.05)
    latency = table[table["claim"] == "p99 TTFT (ms)"]["simulated"].tolist()
    assert (table[table["kind"] == "order"]["simulated"] == 1).all()
    assert latency[1] <= latency[0]  # four replicas share what one carried


def test_the_shipped_generator_stands_in_for_the_trace() -> None:
    table = azure_conversation.run("conversation:n=500", "sol")
    assert set(table["setup"]) == {"one DGX-H100", "four DGX-H100"}
    assert (table["simulated"] > 0).all()
