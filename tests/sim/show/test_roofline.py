"""The roofline of a machine with units in its memory: two roofs, and every operator under the one that it runs on."""

import pytest

from sim.run.scenario import Scenario
from sim.show.roofline import UNITS, draw, roofline


@pytest.mark.parametrize(
    ("system", "model", "parallel", "ridge"),
    [
        ("duplex", "mixtral-8x7b", 4, 8.0),  # Duplex: 8 Op/B
        ("attacc", "llama-2-7b", 1, 1.0),  # AttAcc: 1 Op/B
    ],
)
def test_operators_lie_under_the_roof_of_their_engine(system, model, parallel, ridge):
    scenario = Scenario(model=model, system=system, tp=parallel, ep=parallel, fidelity="sol", weight_format="fp16")
    points, roofs = roofline(scenario, batch=32, context=1024, chunk=512)
    units = roofs[roofs["format"] == UNITS].iloc[0]
    assert units["ridge_op_per_byte"] == pytest.approx(ridge, rel=0.01)
    main = roofs[roofs["format"] == "fp16"].iloc[0]
    for _, one in points[(points["flop"] > 0) & (points["mem_byte"] > 0)].iterrows():
        if (
            one["kind"] == "moe"
        ):  # a fused kernel keeps what lies between its products on the chip: more Op/B than listed
            assert one["flop_per_s"] <= main["peak_flop_per_s"] + units["peak_flop_per_s"]
            continue
        sides = {"xpu": [main], "units": [units], "both": [main, units]}[one["engine"]]
        roof = sum(min(side["peak_flop_per_s"], one["op_per_byte"] * side["mem_byte_per_s"]) for side in sides)
        assert one["flop_per_s"] <= roof * 1.001
    decode = points[(points["phase"] == "decode") & (points["kind"] == "attn_decode")]
    assert set(decode["engine"]) == {"units"}
    assert set(points.loc[points["kind"] == "attn_prefill", "engine"]) == {"xpu"}
    figure = draw(points, roofs, scenario)
    texts = [text.get_text() for axis in figure.axes for text in axis.texts]
    assert sum("units in the memory" in text for text in texts) == 2  # a panel a phase


def test_a_gpu_has_one_roof():
    _, roofs = roofline(Scenario(model="gpt2", system="h100_sxm", fidelity="sol"))
    assert UNITS not in set(roofs["format"])
