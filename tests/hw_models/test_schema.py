"""Whatever a file says, loading ends in a specification or in one line of `InputError`; units and sources of files."""

import math
import string

import numpy as np
import pytest
import tomli_w
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from hw_models import catalog, schema, topology
from hw_models.spec import Device, System
from kernels.errors import InputError

KEYS = [key for kind in schema.KINDS.values() for key in kind.model_fields]
WORD = st.text(string.ascii_letters + string.digits + "_./- ", max_size=12)
NUMBER = st.one_of(st.integers(-(2**62), 2**62), st.floats(), st.sampled_from([0, 1, -1, 1e308, math.inf, math.nan]))
SOURCED = st.fixed_dictionaries({"value": st.one_of(NUMBER, WORD), "source": WORD})
VALUE = st.one_of(
    NUMBER, WORD, st.booleans(), st.lists(st.one_of(NUMBER, WORD), max_size=3), SOURCED,
    st.dictionaries(WORD, NUMBER, max_size=2),
)  # fmt: skip
BASES = {"h100_sxm": "device", "dgx_h100": "node", "tpu_v4_slice": "node", "nvlink4": "link", "a40_x8": "node"}


@st.composite
def files(draw: st.DrawFn) -> dict[str, object]:
    """A file that builds on a catalogued one and says a few more things, mostly of fields that it has."""
    base = draw(st.sampled_from(sorted(BASES)))
    fields = st.sampled_from(sorted(schema.KINDS[BASES[base]].model_fields))
    return {"base": base, **draw(st.dictionaries(st.one_of(fields, fields, WORD.filter(bool)), VALUE, max_size=3))}


@settings(max_examples=300, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(table=files())
def test_any_file_gives_a_machine_or_one_line(tmp_path, table: dict[str, object]) -> None:
    file = tmp_path / "any.toml"
    file.write_text(tomli_w.dumps(table), encoding="utf-8")
    for load in (catalog.device, catalog.link, catalog.node, catalog.system):
        said, loaded = "", None
        try:
            loaded = load(str(file))
        except InputError as error:
            said = str(error)
        assert "\n" not in said
        if isinstance(loaded, Device):
            assert all(0 <= peak < math.inf for peak in loaded.peak_flop_per_s)
            assert 0 < loaded.mem_byte_per_s < math.inf
        if isinstance(loaded, System) and loaded.node.num_device <= 64:
            assert np.isfinite(topology.link_rows(loaded)).all()


@pytest.mark.parametrize("junk", [b"\xff\xfe\x00", b"kind = ", b"[[[", b"", b"\x00", b"a = 1\na = 2"])
def test_junk_is_one_line(tmp_path, junk: bytes) -> None:
    (tmp_path / "junk.toml").write_bytes(junk)
    with pytest.raises(InputError, match=r"junk\.toml") as caught:
        catalog.system(str(tmp_path / "junk.toml"))
    assert "\n" not in str(caught.value)


def test_a_number_with_and_without_its_source() -> None:
    raw = {"kind": "link", "title": "t", "link_GBps": 25, "latency_us": {"value": 0.5, "source": "measured"}}
    parsed = schema.parse(schema.LinkFile, raw, "x.toml")
    assert schema.sources(parsed) == {"link_GBps": "", "latency_us": "measured"}
    assert schema.si(parsed, "link_GBps") == 25e9
    assert schema.si(parsed, "latency_us") == pytest.approx(5e-7)


@pytest.mark.parametrize("key", [key for key in KEYS if key not in ("kind", "title", "alias")])
def test_the_end_of_every_key_is_a_unit_or_the_key_has_none(key: str) -> None:
    counts = {"num_core", "num_link", "num_device", "num_socket", "num_pcie_switch", "num_nic", "num_node"} | {
        "num_slice_device"
    }
    counts |= {f"{of}_share" for of in ("busy", "product", "attention", "traffic", "link", "rest")} | {"kernel_factor"}
    names = {"node", "relative", "profile", "device", "fabric", "scale_up", "host_link", "nic", "network"}
    unitless = counts | names | {"dims", "wrap", "switch_adds", "memory", "npu", "pim", "calibration", "engine"}
    assert key in unitless or key.rsplit("_", 1)[-1] in schema.SI
