"""`ridgeline study`: listed, run by name and by path with a study's own parameters, reported."""

import json
import pathlib
import re
import shutil
import subprocess
import sys
import types

import pytest

from kernels.errors import InputError
from sim.cli import main
from sim.run import study

VERDICTS, KINDS = ("reproduced", "not reproduced", "said"), ("number", "order", "fitted")
TEMPLATE = study.folder() / "_template.py"


def rows_of(file: pathlib.Path) -> list[dict[str, object]]:
    return list(json.loads(file.read_text())["rows"])


def test_every_study_is_listed_with_its_question(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["study", "list"]) == 0
    listed = capsys.readouterr().out
    assert all(name in listed for name in study.names())
    assert "23 % and 31 %" in listed
    assert "_template" not in listed


def test_rows_are_printed_written_and_drawn(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    out, plot = tmp_path / "rows.json", tmp_path / "bars.svg"
    assert main(["study", "run", "two-bp", "--json", str(out), "--plot", str(plot)]) == 0
    assert set(rows_of(out)[0]) == set(study.COLUMNS)
    assert "<svg" in plot.read_text()
    said = capsys.readouterr().out
    assert "2BP (Rae et al. 2024)" in said
    assert "1 of 1 numbers reproduced" in said


def test_parameters_are_options(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "rows.json"
    assert main(["study", "run", "--json", str(out), "two_bp", "--tokens", "512"]) == 0
    assert "512 tokens a microbatch" in str(rows_of(out)[0]["setup"])
    assert main(["study", "run", "ssd-train", "--shapes", "((8192, 4),)", "--arrays", "3", "--json", str(out)]) == 0
    assert {row["setup"] for row in rows_of(out) if row["paper"]} == {"3 drives, widths of 8K to 16K"}
    with pytest.raises(SystemExit):
        main(["study", "run", "two-bp", "--help"])
    assert "--tokens" in capsys.readouterr().out
    for words, name in (
        (["--nothing", "3"], "--nothing"), (["--tokens", "many"], "tokens"), (["--plot", "x.txt"], "picture format"),
    ):  # fmt: skip
        assert main(["study", "run", "two-bp", *words]) == 2
        assert name in capsys.readouterr().err


def test_a_copy_of_the_template_is_a_study(tmp_path: pathlib.Path) -> None:
    mine, out, plot = tmp_path / "mine.py", tmp_path / "rows.json", tmp_path / "mine.png"
    shutil.copy(TEMPLATE, mine)
    assert main(["study", "run", str(mine), "--rows", "64,8192", "--json", str(out), "--plot", str(plot)]) == 0
    assert [row["setup"] for row in rows_of(out)] == ["64 rows", "8192 rows", "every number of rows"]
    assert plot.stat().st_size > 1000
    # edited within one process, it runs as edited
    mine.write_text(TEMPLATE.read_text().replace("64: 0.1900", "64: 0.0100"))
    assert main(["study", "run", str(mine), "--rows", "64", "--json", str(out)]) == 0
    assert rows_of(out)[0]["paper"] == 0.01


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("def run(): ...", "CLAIM"),
        ("CLAIM = 'x'\ndef run(n): ...\ndef plot(t): ...", "has a default"),
        ("CLAIM = 'x'\ndef run(n=1): return 3\ndef plot(t): ...", "returns the columns"),
        ("import nothing_of_the_kind", "odd.py:1: ModuleNotFoundError"),
    ],
)
def test_a_file_that_is_no_study_says_what_it_lacks(tmp_path: pathlib.Path, text: str, said: str) -> None:
    file = tmp_path / "odd.py"
    file.write_text(text)
    with pytest.raises(InputError, match=said):
        study.study(str(file))


def test_one_study_or_all(capsys: pytest.CaptureFixture[str]) -> None:
    for words in ([], ["two-bp", "--all"], ["--all", "--plot", "x.png"], ["two-bpp"], ["nowhere/x.py"]):
        assert main(["study", "run", *words]) == 2
        assert capsys.readouterr().err.startswith("ridgeline: ")


def test_the_report_has_every_row_in_every_form(tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str]) -> None:
    files = []
    for name in ("two-bp", "attacc"):
        files.append(str(tmp_path / f"{name}.json"))
        assert main(["study", "run", name, "--json", files[-1]]) == 0
    capsys.readouterr()
    pages = {form: tmp_path / f"board.{form}" for form in ("json", "markdown", "html")}
    written = [word for form, file in pages.items() for word in (f"--{form}", str(file))]
    assert main(["study", "report", *files, *written]) == 0
    said = capsys.readouterr().out
    rows = rows_of(pages["json"])
    assert {row["study"] for row in rows} == {"two-bp", "attacc"}
    judged = [row for row in rows if row["paper"] is not None]
    markdown, html = (pages[form].read_text() for form in ("markdown", "html"))
    verdicts = sum(markdown.count(f"| {verdict} | {kind} |") for verdict in VERDICTS for kind in KINDS)
    assert html.count("<tr class=") == verdicts == len(judged)
    assert html.count("<script") == 1  # which sorts the first table
    assert not re.search(r"(src|href)=\"?[^#\"]", html)  # and nothing is loaded
    assert all(str(row["system"])[:12] in said for row in judged)
    (tmp_path / "other.json").write_text('{"rows": [{"a": 1}]}')
    assert main(["study", "report", str(tmp_path / "other.json")]) == 2
    assert "no such column" in capsys.readouterr().err


def test_all_is_every_study_chosen_in_turn() -> None:
    seen: list[str] = []
    rows = study.run_all(["attacc", "two-bp"], small=True, progress=lambda done, number, name: seen.append(name))
    assert seen == ["attacc", "two-bp", ""]
    assert list(dict.fromkeys(rows["study"])) == ["attacc", "two-bp"]
    assert (rows.groupby("study")["seconds"].nunique() == 1).all()


def test_a_study_that_fails_leaves_the_others(
    tmp_path: pathlib.Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def broken() -> None:
        raise ZeroDivisionError("nothing\nat all")

    find, file, page = study.find, tmp_path / "board.json", tmp_path / "board.html"
    lame = types.ModuleType("lame")
    lame.run = broken
    monkeypatch.setattr(study, "names", lambda: ["two-bp", "lame", "attacc"])
    monkeypatch.setattr(study, "find", lambda name: lame if name == "lame" else find(name))
    assert main(["study", "run", "--all", "--small", "--json", str(file)]) == 1
    content, said = json.loads(file.read_text()), capsys.readouterr()
    assert {row["study"] for row in content["rows"]} == {"two-bp", "attacc"}
    assert content["complete"] is False
    assert list(content["failed"]) == ["lame"]
    assert content["failed"]["lame"].endswith("ZeroDivisionError: nothing at all")
    assert "study lame failed" in said.err
    assert "not complete, failed: lame" in said.out
    assert main(["study", "report", str(file), "--html", str(page)]) == 0  # what is there is a board, and says so
    assert "not complete, failed: lame" in page.read_text()
    assert main(["study", "report", "--small", "--html", str(tmp_path / "none.html")]) == 1
    assert not (tmp_path / "none.html").exists()
    monkeypatch.setattr(study, "names", lambda: ["lame"])
    with pytest.raises(ZeroDivisionError):
        study.run_all()


def test_what_is_done_is_written_after_each_study(tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A run that is killed between two studies leaves a file of the first ones, which says that it is not all."""
    file = tmp_path / "board.json"
    seen: list[tuple[str, ...]] = []
    find = study.find

    def look(name: str) -> types.ModuleType:
        if file.exists():
            content = json.loads(file.read_text())
            assert content["complete"] is False
            seen.append(tuple(dict.fromkeys(row["study"] for row in content["rows"])))
        return find(name)

    monkeypatch.setattr(study, "names", lambda: ["two-bp", "attacc", "binary-network"])
    monkeypatch.setattr(study, "find", look)
    assert main(["study", "run", "--all", "--small", "--json", str(file)]) == 0
    assert seen == [("two-bp",), ("two-bp", "attacc")]
    assert "complete" not in json.loads(file.read_text())


def test_the_list_loads_no_kernels() -> None:
    code = "import sys; from sim.cli import main; main(['study', 'list']); print('numba' in sys.modules)"
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True, cwd=TEMPLATE.parents[1]
    )
    assert done.stdout.splitlines()[-1] == "False"
