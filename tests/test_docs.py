"""The pages under docs/: words once, names that exist, commands that run."""

import pathlib
import re
import runpy

import pytest

from sim.record.metrics import SLO_NAMES
from sim.run.study import COLUMNS
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


def test_the_script_of_the_cheapest_mix(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RIDGELINE_SHARED_DATA", "nowhere")  # the published moments
    monkeypatch.setenv("MPLBACKEND", "agg")
    run = runpy.run_path(str(DOCS / "cheapest_mix.py"))["run"]
    best = run((1,), 200, tp=[4], pools=["mixed"], over={"token_budget": [0]})
    assert (best["p99_ttft_ms"] <= 1000).all()
    assert (best["p99_tpot_ms"] <= 60).all()
    assert best["usd_per_h"].is_monotonic_increasing
    assert best["machines"].is_unique
