"""What a person sees: every page in a real browser, on a wide and on a narrow screen."""

import pathlib
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import pytest

from sim.cli import main

LOAD = "conversation:rate=8,n=60"
KINDS = ("run", "pools", "operation", "sweep", "recommendation", "board")
OPERATION = 'scaler = "outstanding:target=8"\nload_GBps = 8.0\nevent = [{ at_s = 3.0, engine = 0, kind = "fail" }]\n'
WIDE, NARROW = (1280, 900), (360, 740)
# text of drawings that is cut by the edge of its drawing, or that lies over another text of it
CUT = """[...document.querySelectorAll("svg")].flatMap(svg=>{const all=svg.getBoundingClientRect();
return [...svg.querySelectorAll("text")].filter(t=>{const r=t.getBoundingClientRect();
return r.width&&(r.left<all.left-1||r.right>all.right+1||r.top<all.top-1||r.bottom>all.bottom+1)})
.map(t=>svg.ariaLabel+": "+t.textContent)})"""
OVER = """[...document.querySelectorAll("svg")].flatMap(svg=>{
const all=[...svg.querySelectorAll("text")].map(t=>[t,t.getBoundingClientRect()]);
return all.flatMap(([t,r],at)=>all.slice(at+1).filter(([u,q])=>
Math.min(r.right,q.right)-Math.max(r.left,q.left)>2&&Math.min(r.bottom,q.bottom)-Math.max(r.top,q.top)>4)
.map(([u])=>svg.ariaLabel+": "+t.textContent+" | "+u.textContent))})"""
# marks of drawings that lie outside of them
OUT = """[...document.querySelectorAll("svg")].flatMap(svg=>{const all=svg.getBoundingClientRect();
return [...svg.querySelectorAll("rect,circle,path")].filter(t=>{const r=t.getBoundingClientRect();
return r.left<all.left-1||r.right>all.right+1||r.top<all.top-1||r.bottom>all.bottom+1})
.map(t=>svg.ariaLabel+": "+t.outerHTML.slice(0,80))})"""


class Shown(NamedTuple):
    page: Any
    said: list[str]  # by the console, as errors, or asked for from elsewhere


@pytest.fixture
def show(browser: Any) -> Iterator[Callable[..., Shown]]:
    opened = []

    def shown(path: pathlib.Path, size: tuple[int, int] = WIDE, **option: Any) -> Shown:
        page = browser.new_page(viewport={"width": size[0], "height": size[1]}, **option)
        opened.append(page)
        said: list[str] = []
        page.on("console", lambda message: said.append(message.text))
        page.on("pageerror", lambda error: said.append(str(error)))
        page.on("request", lambda request: None if request.url.startswith("file:") else said.append(request.url))
        page.goto(path.as_uri())
        return Shown(page, said)

    yield shown
    for page in opened:
        page.close()


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> dict[str, pathlib.Path]:
    """A page of every kind that the program makes, by what it is."""
    folder = tmp_path_factory.mktemp("pages")
    scenario, board = folder / "s.toml", folder / "attacc.json"
    scenario.write_text(f'model = "llama-3-8b"\nsystem = "h100_sxm"\nrequests = "{LOAD}"\n')
    pages = {name: folder / f"{name}.html" for name in KINDS}
    pools, operation = folder / "pools.toml", folder / "operation.toml"
    operation.write_text(f"{scenario.read_text()}dp = 4\n[operation]\n{OPERATION}")
    pools.write_text(
        f'model = "llama-3-8b"\nsystem = "h100_sxm"\nrequests = "{LOAD}"\n'
        '[[pool]]\nrole = "prefill"\ndp = 2\n[[pool]]\nrole = "decode"\n'
    )
    for words in (
        ["simulate", str(scenario), "--quiet", "--html", str(pages["run"])],
        ["operate", str(operation), "--html", str(pages["operation"])],
        ["pools", str(pools), "--html", str(pages["pools"])],
        ["sweep", str(scenario), "--over", "requests.rate=4:12:4", "--over", "policy=vllm_v1,sarathi", "--html",
         str(pages["sweep"])],
        ["recommend", "--model", "llama-3-8b", "--load", LOAD, "--ttft-p99-s", "1", "--tpot-p99-s", "0.06", "--systems",
         "h100_sxm,a100_sxm", "--html", str(pages["recommendation"])],
        ["study", "run", "attacc", "--small", "--json", str(board)],
        ["study", "report", str(board), "--html", str(pages["board"])],
    ):  # fmt: skip
        assert main(words) == 0, words
    return pages


@pytest.mark.parametrize("size", [WIDE, NARROW], ids=["wide", "narrow"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_page_draws_without_an_error_and_nothing_is_cut(
    show: Callable[..., Shown], made: dict[str, pathlib.Path], kind: str, size: tuple[int, int]
) -> None:
    page, said = show(made[kind], size)
    assert said == []
    assert page.evaluate("document.documentElement.scrollWidth") <= size[0]  # wide tables scroll on their own
    assert page.evaluate(CUT) == []
    assert page.evaluate(OVER) == []
    assert page.evaluate(OUT) == []
    assert page.locator("table tbody tr").count() > 2
    if kind != "board":
        assert page.locator("svg").count() >= 4


@pytest.mark.parametrize("kind", ["sweep", "recommendation", "board"])
def test_a_click_sorts_by_number_with_missing_ones_last(
    show: Callable[..., Shown], made: dict[str, pathlib.Path], kind: str
) -> None:
    page, said = show(made[kind])
    body = page.locator("table").first
    for head in body.locator("th button").all():
        at = head.evaluate("b=>b.parentNode.cellIndex")
        cells = f"t=>[...t.tBodies[0].rows].map(r=>r.cells[{at}]).map(c=>c.dataset.v??c.textContent)"
        before = sorted(body.evaluate(cells))
        for sign in (1, -1):
            head.click()
            after = body.evaluate(cells)
            assert sorted(after) == before
            there = [float(value) for value in after if _is_number(value)]
            assert there == sorted(there, reverse=sign < 0)
            assert "" not in after[: len([value for value in after if value not in ("", "-")])]
    assert said == []


def test_a_board_leads_to_its_studies(show: Callable[..., Shown], made: dict[str, pathlib.Path]) -> None:
    page, said = show(made["board"])
    page.locator("a[href='#attacc']").click()
    assert page.evaluate("document.getElementById('attacc').getBoundingClientRect().top") < WIDE[1]
    assert said == []


def test_numbers_of_a_run_are_those_of_its_record(show: Callable[..., Shown], made: dict[str, pathlib.Path]) -> None:
    page, _ = show(made["run"])
    text = page.inner_text("body")
    assert "60 of 60 requests" in text
    for word in ("Time to First Token", "Where time and joules went", "Roofline", "Requests on a timeline"):
        assert word in text
    # each distribution ends at all of its requests
    ends = page.evaluate("""[...document.querySelectorAll("figure")].filter(f=>/at or below/.test(f.textContent))
        .map(f=>f.querySelector("path.s0").getBBox().y)""")
    assert len(ends) == 3
    assert max(ends) - min(ends) < 0.5


def test_a_dark_screen_is_legible(show: Callable[..., Shown], made: dict[str, pathlib.Path]) -> None:
    """Text stands out from its ground by the 4.5 to 1 that WCAG 2.1 asks for (success criterion 1.4.3)."""
    light = """()=>{const lum=c=>{const v=c.match(/[\\d.]+/g).slice(0,3).map(x=>x/255)
        .map(x=>x<=.03928?x/12.92:((x+.055)/1.055)**2.4);return .2126*v[0]+.7152*v[1]+.0722*v[2]};
        const ground=lum(getComputedStyle(document.body).backgroundColor);
        return [...document.querySelectorAll("p,li,td,h1,h2,svg text,small")].map(e=>{const s=getComputedStyle(e);
        const ink=lum(e.tagName==="text"?s.fill:s.color);
        return (Math.max(ink,ground)+.05)/(Math.min(ink,ground)+.05)}).reduce((a,b)=>Math.min(a,b))}"""
    for scheme in ("light", "dark"):
        for kind in KINDS:
            page, _ = show(made[kind], color_scheme=scheme)
            assert page.evaluate(light) >= 4.5, (scheme, kind)


def _is_number(value: str) -> bool:
    try:
        float(value)
    except ValueError:
        return False
    return True
