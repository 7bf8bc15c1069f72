"""`ridgeline devices` and `ridgeline check`: tables, JSON, exit codes."""

import json

import pytest

from sim.cli import main


def test_devices_lists_the_catalogue(tmp_path, capfd) -> None:
    assert main(["devices", "--json", str(tmp_path / "d.json")]) == 0
    out = capfd.readouterr().out
    assert "mem_GBps" in out
    assert "h100_sxm" in out
    tables = json.loads((tmp_path / "d.json").read_text())
    assert set(tables) == {"devices", "nodes", "links"}
    assert {row["device"] for row in tables["devices"]} >= {"h100_sxm", "t4", "mi300x"}


def test_one_device_in_full_with_sources(capfd) -> None:
    assert main(["devices", "a100_sxm", "--json", "-"]) == 0
    told = json.loads(capfd.readouterr().out)
    assert told["name"] == "a100_sxm_80gb"
    bandwidth = next(row for row in told["numbers"] if row["key"] == "mem_GBps")
    assert bandwidth == {"key": "mem_GBps", "value": 2039.0, "source": "NVIDIA A100 datasheet"}
    assert all(row["source"] for row in told["numbers"])


def test_check_a_good_an_odd_and_a_bad_file(tmp_path, capfd) -> None:
    assert main(["check", "h100_sxm"]) == 0
    assert "no findings" in capfd.readouterr().out
    file = tmp_path / "mine.toml"
    file.write_text('base = "h100_sxm"\ntitle = "mine"\nmem_GiB = 120\n')
    assert main(["check", str(file), "--json", str(tmp_path / "c.json")]) == 0
    assert "no source" in capfd.readouterr().out
    told = json.loads((tmp_path / "c.json").read_text())
    assert told["valid"]
    assert told["findings"] == [{"field": "mem_GiB", "value": 120.0, "finding": "no source"}]
    file.write_text('base = "h100_sxm"\ntitle = "mine"\nmem_GiB = -1\n')
    assert main(["check", str(file)]) == 2
    error = capfd.readouterr().err
    assert error == f"ridgeline: {file}: mem_GiB = -1.0: out of range; allowed: 0.01 to 100000 GiB\n"


@pytest.mark.parametrize("command", ["devices", "check"])
def test_what_cannot_be_read_or_written(tmp_path, capfd, command: str) -> None:
    assert main([command, "h100_sxn"]) == 2
    assert "nearest: h100_sxm" in capfd.readouterr().err
    assert main([command, "h100_sxm", "--json", str(tmp_path / "no" / "x.json")]) == 2
    assert "cannot be written" in capfd.readouterr().err
