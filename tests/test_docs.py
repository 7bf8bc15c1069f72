"""The pages under docs/: words once, names that exist, commands that run."""

import importlib
import pathlib
import re
import runpy
import shlex

import pytest

from sim import cli
from sim.record.metrics import SLO_NAMES
from sim.run.scenario import Scenario
from sim.run.simulate import simulate
from sim.run.study import COLUMNS
from sim.show.column_list import columns, found, markdown
from studies._verdict import TAG

DOCS = pathlib.Path(__file__).parents[1] / "docs"


def rows(page: str, section: str) -> list[list[str]]:
    """Cells of the table under a heading."""
    part = (DOCS / page).read_text().split(f"\n## {section}")[1].split("\n## ")[0]
    lines = [line for line in part.splitlines() if line.startswith("|")][2:]
    return [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines]


def test_a_word_means_one_thing() -> None:
    for section in ("Words", "Studies", "Quantities", "Latency"):
        words = [word.strip() for row in rows("glossary.md", section) for word in row[0].split(",")]
        assert len(words) == len(set(words)), section
    words = [row[0] for row in rows("glossary.md", "Words")]
    assert words == sorted(words, key=str.lower)


def test_the_words_of_results_are_there() -> None:
    text = (DOCS / "glossary.md").read_text()
    assert all(name.split("_")[0].upper().rstrip("L") in text.upper() for name in SLO_NAMES)
    for word in ("reproduced", "not reproduced", "said", "number", "order", "fitted", *TAG):
        assert word in text
    studies = (DOCS / "studies.md").read_text()
    assert f"`{', '.join(COLUMNS)}`" in studies.replace("\n", " ")


def test_files_that_pages_name_exist() -> None:
    for page in DOCS.glob("*.md"):
        for name in re.findall(r"`((?:studies|sim|kernels|hw_models|workloads)/[\w/]+\.\w+)`", page.read_text()):
            assert (DOCS.parent / name).is_file(), f"{page.name}: {name}"


def commands(page: str) -> list[str]:
    """What a page's console blocks say after their prompts."""
    blocks = re.findall(r"```console\n(.*?)```", (DOCS / page).read_text(), re.S)
    return [line[2:] for block in blocks for line in block.splitlines() if line.startswith("$ ")]


ANSWERS = {  # what a newcomer's question is answered by
    "simulate --model llama-3-70b": ("KV blocks", "concurrency"),
    "simulate --model llama-3-8b": ("TTFT", "TPOT", "P99"),
    "capacity": ("requests/s",),
    "compare": ("l40s", "p99_tpot_ms", "usd_per_million_output_token"),
    "roofline": ("Op/B", "bound", "decode"),
}


def test_five_questions_are_answered_by_one_command_each() -> None:
    lines = commands("index.md")
    assert len(lines) == len(ANSWERS)
    for line, start in zip(lines, ANSWERS, strict=True):
        assert line.startswith(f"ridgeline {start}")


@pytest.mark.parametrize("number", range(len(ANSWERS)))
def test_the_answer_is_printed(number: int, capsys: pytest.CaptureFixture[str]) -> None:
    words = shlex.split(commands("index.md")[number])
    assert cli.main(words[1:]) == 0
    said = capsys.readouterr().out
    for word in list(ANSWERS.values())[number]:
        assert word.lower() in said.lower(), word


def test_the_page_of_columns_is_what_the_command_writes() -> None:
    assert (DOCS / "columns.md").read_text() == markdown()


def test_every_number_of_a_run_has_a_meaning() -> None:
    done = simulate(Scenario(requests="poisson:rate=4,n=4,prompt=50,output=4"), record_steps=True)
    assert done.run.steps is not None
    listed = columns()
    for table, names in {
        "requests": list(done.run.requests.columns), "steps": list(done.run.steps.columns),
        "operators": list(done.run.operators.columns), "study": list(COLUMNS),
    }.items():  # fmt: skip
        assert list(listed.loc[listed["table"] == table, "column"]) == names
    for name in done.metrics:
        assert set(found(listed, name)["table"]) & {"metrics", "totals"}, name
    assert found(listed, "p99_ttft_ms")["column"].tolist() == ["ttft_ms"]
    assert found(listed, "p99_nothing_ms").empty


def test_the_site_builds_and_needs_no_network(tmp_path: pathlib.Path) -> None:
    build = pytest.importorskip("mkdocs.commands.build", reason="the extra `docs` is not installed")
    config = importlib.import_module("mkdocs.config").load_config(str(DOCS.parent / "mkdocs.yml"), strict=True)
    config["site_dir"] = str(tmp_path / "site")
    build.build(config)
    pages = {page.stem for page in (tmp_path / "site").glob("*.html")} - {"404", "search"}
    assert pages == {page.stem for page in DOCS.glob("*.md")}
    for page in (tmp_path / "site").rglob("*.html"):
        loaded = re.findall(r'<(?:script|img|iframe)[^>]*src="([^"]*)"', page.read_text())
        loaded += re.findall(r'<link[^>]*rel="stylesheet"[^>]*href="([^"]*)"', page.read_text())
        assert loaded
        assert not [address for address in loaded if "//" in address], page.name


def test_the_script_of_the_cheapest_mix(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RIDGELINE_SHARED_DATA", "nowhere")  # the published moments
    monkeypatch.setenv("MPLBACKEND", "agg")
    run = runpy.run_path(str(DOCS / "cheapest_mix.py"))["run"]
    best = run((1,), 200, tp=[4], pools=["mixed"], over={"token_budget": [0]})
    assert (best["p99_ttft_ms"] <= 1000).all()
    assert (best["p99_tpot_ms"] <= 60).all()
    assert best["usd_per_h"].is_monotonic_increasing
    assert best["machines"].is_unique
