"""Odd but allowed: every finding has a file that provokes it; the catalogue provokes none."""

import pytest

from hw_models import catalog, describe, plausible


@pytest.mark.parametrize("name", catalog.names())
def test_the_catalogue_has_no_findings(name: str) -> None:
    if catalog.read(name)[0].get("kind") in describe.SHOWN:
        assert plausible.findings(name).empty


ODD = [
    ("h100_sxm", "mem_GBps = { value = 3.352, source = 's' }", "mem_GBps", "is the unit right"),
    ("h100_sxm", "mem_GBps = { value = 4000, source = 's' }", "mem_GBps", "gives 3352 GB/s"),
    ("h100_sxm", "mem_GBps = 3352", "mem_GBps", "no source"),
    ("h100_sxm", "peak_bf16_TFLOPs = { value = 9894, source = 's' }", "peak_bf16_TFLOPs", "above every catalogued"),
    ("l4", "peak_fp8_TFLOPs = { value = 485, source = 's' }", "peak_fp8_TFLOPs", "sparse"),
    ("h100_sxm", "l2_GBps = { value = 900, source = 's' }", "l2_GBps", "slower than the memory"),
    ("h100_sxm", "idle_W = { value = 500, source = 's' }", "idle_W", "more than half"),
    ("h100_sxm", "price_USDph = { value = 0, source = 's' }", "price_USDph", "free"),
    ("t4", "mem_GBps = { value = 20, source = 's' }\nl2_GBps = 21", "mem_GBps", "ridge point of 3.25e[+]03"),
    ("nvlink4", "link_GBps = { value = 25000, source = 's' }", "link_GBps", "is the unit right"),
    ("nvlink4", "latency_us = { value = 500, source = 's' }", "latency_us", "is the unit right"),
    ("dgx_h100", "host_mem_GBps = { value = 90000, source = 's' }", "host_mem_GBps", "faster than all"),
    ("dgx_h100", "num_nic = { value = 40, source = 's' }", "num_nic", "four ports a device"),
    ("dgx_h100", "rest_W = { value = 460000, source = 's' }", "rest_W", "three times"),
]


@pytest.mark.parametrize(("base", "line", "field", "text"), ODD)
def test_what_is_odd_is_found(tmp_path, base: str, line: str, field: str, text: str) -> None:
    file = tmp_path / "odd.toml"
    file.write_text(f'base = "{base}"\ntitle = "odd"\n{line}\n')
    found = plausible.findings(str(file))
    assert found[found["field"] == field]["finding"].str.contains(text).any(), found


def test_derived_figures_by_hand() -> None:
    figure = describe.derived("h100_sxm").set_index("figure")["value"]
    assert figure["ridge bf16"] == pytest.approx(989.4e12 / 3352e9)
    assert figure["bf16 a core and clock"] == pytest.approx(4096, rel=1e-3)
    assert figure["time to read all memory"] == pytest.approx(80 * 2**30 / 3352e9)
    assert figure["16-bit PFLOP a dollar"] == pytest.approx(0.9894 * 3600 / 2.99)
    assert figure["dollars a 16-bit EFLOP"] * figure["16-bit PFLOP a dollar"] == pytest.approx(1000)
    node = describe.derived("dgx_h100").set_index("figure")["value"]
    assert node["bisection of a node"] == pytest.approx(4 * 450)
    assert node["power at most"] == pytest.approx(10200)  # the datasheet's
    assert describe.derived("nvlink4")["value"].tolist() == pytest.approx([25e9 * 0.4e-6])


def test_a_system_and_a_box_for_any_device_are_described(tmp_path) -> None:
    file = tmp_path / "pod.toml"
    file.write_text('kind = "system"\ntitle = "pod"\nnode = "dgx_h100"\nnum_node = { value = 4, source = "mine" }\n')
    assert describe.derived(str(file)).set_index("figure")["value"]["devices"] == 32
    assert plausible.findings(str(file)).empty
    assert describe.read("pcie4_x8")[0] == "node"
