"""The catalogue: every file loads, every number has a source, names, bases and folders of one's own."""

import tomllib

import pytest

from hw_models import catalog, schema
from kernels.errors import InputError

WANTED_DEVICES = {
    "a100_sxm_40gb", "a100_sxm_80gb", "a100_pcie_40gb", "a100_pcie_80gb", "a40", "rtx_a6000", "a10g", "t4", "l4",
    "l40s", "rtx_3090", "rtx_4090", "rtx_pro_6000", "h100_sxm", "h100_pcie", "h800", "h200", "gh200", "b200", "mi300x",
    "tpu_v4", "tpu_v5e", "tpu_v5p", "epyc_9554",
}  # fmt: skip
WANTED_NODES = {"dgx_a100", "dgx_a100_40gb", "dgx_h100", "hgx_h200", "hgx_b200", "a40_x8", "tpu_v4_slice"}
WANTED_LINKS = {
    "nvlink3", "nvlink4", "nvlink5", "pcie3", "pcie4", "pcie5", "infiniband_hdr", "infiniband_ndr", "ethernet_100g",
}  # fmt: skip
MINE = 'base = "h100_sxm"\ntitle = "H100 with more memory"\nmem_GiB = { value = 120, source = "a wish" }\n'


def test_the_promised_machines_are_there() -> None:
    assert set(catalog.names("device")) >= WANTED_DEVICES
    assert set(catalog.names("node")) >= WANTED_NODES
    assert set(catalog.names("link")) >= WANTED_LINKS


@pytest.mark.parametrize("name", sorted(path.stem for path in catalog.SHIPPED.glob("*.toml")))
def test_every_shipped_number_has_a_source(name: str) -> None:
    table, path = catalog.read(name)
    kind = table.get("kind")
    if kind not in ("device", "node", "link", "system"):
        pytest.skip("a kind with a loader of its own")
    for key, source in schema.sources(schema.parse(schema.KINDS[kind], table, str(path))).items():
        assert len(source) > 3, f"{name}: {key}"


@pytest.mark.parametrize("name", catalog.names("device"))
def test_a_device_alone_is_a_system(name: str) -> None:
    system = catalog.system(name)
    assert system.device.name == name
    assert system.node.device == system.device


@pytest.mark.parametrize(
    ("alias", "name"),
    [("a100_sxm", "a100_sxm_80gb"), ("b200_sxm", "b200"), ("h100_sxm_80gb", "h100_sxm"), ("a6000", "rtx_a6000")],
)
def test_names_that_people_guess(alias: str, name: str) -> None:
    assert catalog.device(alias).name == name


def test_an_unknown_name_names_the_nearest() -> None:
    with pytest.raises(InputError, match="nearest: h100_sxm"):
        catalog.system("h100_sxn")
    with pytest.raises(InputError, match="nearest: a100"):
        catalog.device("a100")


def test_no_alias_is_claimed_twice() -> None:
    tables = [tomllib.loads(path.read_text()) for path in catalog.SHIPPED.glob("*.toml")]
    claimed = [alias for table in tables for alias in table.get("alias", [])]
    assert len(claimed) == len(set(claimed))
    assert not set(claimed) & set(catalog.names())


def test_a_new_gpu_is_one_small_file(tmp_path, monkeypatch) -> None:
    (tmp_path / "h100_big.toml").write_text(MINE)
    by_path = catalog.system(str(tmp_path / "h100_big.toml"))
    monkeypatch.setenv("RIDGELINE_CATALOG", str(tmp_path))
    assert "h100_big" in catalog.names("device")
    by_name = catalog.system("h100_big")
    assert by_name.device == by_path.device
    assert by_name.device.mem_byte == 120 * 2**30
    assert by_name.device.mem_byte_per_s == catalog.device("h100_sxm").mem_byte_per_s
    assert by_name.node.name == "dgx_h100"
    assert by_name.device.relative == "h100_sxm"  # whose constants it inherits,
    assert not by_name.device.profile  # having none of its own


def test_a_folder_of_ones_own_comes_first(tmp_path, monkeypatch) -> None:
    (tmp_path / "t4.toml").write_text('base = "l4"\ntitle = "not a T4"\n')
    monkeypatch.setenv("RIDGELINE_CATALOG", str(tmp_path))
    assert catalog.device("t4").num_core == catalog.device("l4").num_core


def test_ones_own_price_of_a_shipped_machine(tmp_path, monkeypatch) -> None:
    (tmp_path / "h200.toml").write_text('base = "h200"\nprice_USDph = 2.0\n')
    shipped = catalog.device("h200")
    monkeypatch.setenv("RIDGELINE_CATALOG", str(tmp_path))
    mine = catalog.device("h200_sxm")  # by its alias, too
    assert mine.price_usd_per_h == 2.0
    assert (mine.mem_byte, mine.relative, mine.alias) == (shipped.mem_byte, shipped.relative, shipped.alias)
    assert catalog.system("hgx_h200").price_usd_per_h() == 16.0
    monkeypatch.delenv("RIDGELINE_CATALOG")
    assert catalog.device(str(tmp_path / "h200.toml")) == mine


def test_files_of_one_folder_name_each_other(tmp_path) -> None:
    (tmp_path / "wire.toml").write_text('base = "nvlink4"\ntitle = "wire"\nlink_GBps = 30\n')
    (tmp_path / "chip.toml").write_text('base = "h100_sxm"\ntitle = "chip"\nnode = "box"\n')
    (tmp_path / "box.toml").write_text('base = "dgx_h100"\ntitle = "box"\ndevice = "chip"\nscale_up = "wire"\n')
    (tmp_path / "pod.toml").write_text('kind = "system"\ntitle = "pod"\nnode = "box"\nnum_node = 2\n')
    for name in ("chip", "box", "pod"):
        system = catalog.system(str(tmp_path / f"{name}.toml"))
        assert (system.device.name, system.node.name) == ("chip", "box")
        assert system.node.scale_up == catalog.link(str(tmp_path / "wire.toml"))


def test_a_system_file_counts_its_nodes(tmp_path) -> None:
    file = tmp_path / "pod.toml"
    file.write_text('kind = "system"\ntitle = "pod"\nnode = "dgx_h100"\nnum_node = 4\n')
    assert catalog.system(str(file)).num_device == 32
    assert catalog.system(str(file), 32).num_node == 4
    with pytest.raises(InputError, match="allowed: 1 to 32"):
        catalog.system(str(file), 33)


def test_nodes_repeat_until_there_are_enough_devices() -> None:
    assert catalog.system("dgx_a100", 1024).num_node == 128
    with pytest.raises(InputError, match="no network port"):
        catalog.system("rtx_3090", 3)  # a workstation of two


BAD = [
    ("mem_GBps = nan", "mem_GBps = nan: out of range; allowed: 0.1 to 100000 GBps"),
    ("mem_GBps = -3352", "mem_GBps = -3352.0: out of range"),
    ("mem_GBps = 3352000000", "allowed: 0.1 to 100000 GBps"),
    ('mem_GBps = "3352 GB/s"', "expected a number"),
    ("mem_GBps = true", "expected a number"),
    ("num_core = 131.5", "not a whole number"),
    ("mem_TBps = 3.35", r"unknown field.*nearest: mem_GBps"),
    ("mem_GB = 80", r"mem_GB = 'mem_GB': unknown field.*nearest: mem_GBps|nearest: mem_GiB"),
    ("idle_W = 701", "allowed: 0 to tdp_W = 700 W"),
    ("mem_reserved_GiB = 80", "allowed: 0 to below mem_GiB = 80 GiB"),
    ("l2_MiB = { value = 50, sauce = 'x' }", "unknown field"),
    ('base = "h100_sxn"', "nearest: h100_sxm"),
    ('node = "dgx_h1000"', "nearest: dgx_h100"),
    ("mem_GBps = 3352 3352", "is not TOML"),
    ('kind = "toaster"', "kind = 'toaster': wrong kind of file here; allowed: device, node, system"),
]


@pytest.mark.parametrize(("line", "message"), BAD)
def test_bad_input_names_file_field_value_and_what_is_allowed(tmp_path, line: str, message: str) -> None:
    file = tmp_path / "bad.toml"
    file.write_text(("" if line.startswith("base") else 'base = "h100_sxm"\n') + 'title = "bad"\n' + line + "\n")
    with pytest.raises(InputError, match=message) as caught:
        catalog.system(str(file))
    assert "\n" not in str(caught.value)
    if not line.startswith("node"):
        assert "bad.toml" in str(caught.value)


def test_a_file_that_builds_on_itself(tmp_path) -> None:
    (tmp_path / "a.toml").write_text('base = "b.toml"\n')
    (tmp_path / "b.toml").write_text('base = "a.toml"\n')
    with pytest.raises(InputError, match="builds on itself"):
        catalog.device(str(tmp_path / "a.toml"))


def test_a_missing_file_and_a_missing_field(tmp_path) -> None:
    with pytest.raises(InputError, match=r"nowhere\.toml: no such file"):
        catalog.device(str(tmp_path / "nowhere.toml"))
    (tmp_path / "thin.toml").write_text('kind = "device"\ntitle = "thin"\n')
    with pytest.raises(InputError, match="field num_core is missing"):
        catalog.device(str(tmp_path / "thin.toml"))
