"""The page's table of engine profiles is what the command prints. (Samples of it are recomputed from the measurements
in `test_validate_serving.py` and `test_validate_steps.py`.)"""

import json
import pathlib

import pytest

from sim.cli import main
from sim.reference.engine_accuracy import left_out, markdown
from sim.serving.engine_profile import load, names

ROOT = pathlib.Path(__file__).parents[3]


def test_the_page_has_the_table_of_the_command(capsys: pytest.CaptureFixture[str], tmp_path: pathlib.Path) -> None:
    out = tmp_path / "x.json"
    assert main(["accuracy", "--engines", "--json", str(out)]) == 0
    printed = capsys.readouterr().out.strip()
    text = (ROOT / "docs" / "accuracy.md").read_text()
    assert text.partition("<!-- engines: ridgeline accuracy --engines -->\n")[2].startswith(printed + "\n<!-- end -->")
    assert printed == markdown(left_out())
    rows = json.loads(out.read_text())["rows"]
    assert len([row for row in rows if row["kernel"] != "all"]) == len(left_out())


def test_every_fitted_profile_says_how_it_was_made() -> None:
    for name in names():
        fit = load(name).fit
        if fit is not None:
            assert fit.command.startswith("python -m sim.")
            assert set(fit.error) == set(fit.left_out_error)
            assert fit.num_run > 0
