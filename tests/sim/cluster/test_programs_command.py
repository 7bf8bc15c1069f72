"""`ridgeline programs`: options, files and what is refused."""

import json

import pytest

from kernels.errors import InputError
from sim.cli import main
from sim.cluster.simulate_programs import simulate_programs
from sim.run.scenario import Scenario

LOAD = "poisson:rate=2,n=4,prompt=40,output=60"
BASE = {"model": "llama-3.2-1b", "system": "l4"}


def test_tables_add_up_and_a_kind_may_be_a_file(tmp_path) -> None:
    out, kind = tmp_path / "out.json", tmp_path / "twice.py"
    kind.write_text(
        "HELP = 'two requests, the second after the first and a call'\n"
        "def program(p, job, option):\n"
        "    first = p.ask(job.output, prompt=job.prompt)\n"
        "    yield first.done\n"
        "    yield p.call('tool', 0.5)\n"
        "    yield p.ask(1, prompt=job.prompt + first.produced).done\n"
        "    p.note = {'said': first.produced}\n"
    )
    words = [word for name, value in BASE.items() for word in (f"--{name}", value)]
    assert (
        main(
            ["programs", *words, "--requests", LOAD, "--program", str(kind), "--outside", "tool=4", "--json", str(out)]
        )
        == 0
    )
    found = json.loads(out.read_text())
    assert [row["num_request"] for row in found["rows"]] == [2] * 4
    assert [row["said"] for row in found["rows"]] == [60] * 4
    assert sum(row["produced_token"] for row in found["rows"]) == 4 * 61
    assert all(row["e2e_s"] > 0.5 for row in found["rows"])
    assert {row["prompt_token"] for row in found["requests"]} == {40, 100}


def test_what_programs_do_not_take_is_refused(tmp_path) -> None:
    with pytest.raises(InputError, match="order of their own"):
        simulate_programs(Scenario(**BASE, requests=LOAD, order="sjf"))
    with pytest.raises(InputError, match="single requests"):
        simulate_programs(Scenario(**BASE, requests="closed_loop:users=2,n=6,prompt=40,output=9"))
    with pytest.raises(InputError, match="no such order"):
        simulate_programs(Scenario(**BASE, requests=LOAD), order="fair")
    plain = tmp_path / "plain.py"
    plain.write_text("def program(p, job, option):\n    return 3\n")
    with pytest.raises(InputError, match="no generator"):
        simulate_programs(Scenario(**BASE, requests=LOAD), str(plain))
