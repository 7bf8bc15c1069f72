"""Policies and routers are files: found, listed, checked, and added by a file of one's own."""

import textwrap

import pytest

from kernels.errors import InputError
from sim.serving.limits import Limits
from sim.serving.plugin import find, names
from tests.sim.serving.serving_case import flat_price, load, run, same

POLICY = '''
"""Decodes the newest sequence alone."""

from kernels.engine.verbs import admit, grow_or_preempt, head, num_running, running, schedule_next
from kernels.engine.verbs import target_token, wanted_token
from sim.serving.plugin import Option

OPTIONS = {"max_token": Option(512, "tokens a step"), "max_seq": Option(4, "sequences")}
COMPILED = %s


def plan(r):
    if head(r) >= 0:
        admit(r, target_token(r, head(r)))
    if num_running(r) > 0:
        i = running(r, num_running(r) - 1)
        if grow_or_preempt(r, i, wanted_token(r, i)):
            schedule_next(r, i, wanted_token(r, i))
    return 0
'''
ROUTER = '''
"""Everything to the last replica."""

from kernels.engine.routing import num_replica


def route(f, i):
    return num_replica(f) - 1
'''


def write(folder, name, text):
    path = folder / name
    path.write_text(textwrap.dedent(text))
    return str(path)


def test_a_new_policy_and_router_are_one_file_each(tmp_path):
    router = write(tmp_path, "last.py", ROUTER)
    requests = load([0, 5, 300], [7, 9, 40], [3, 20, 2])
    limits = Limits(num_block=50, num_replica=2)
    compiled, plain = (
        run(requests, flat_price(), write(tmp_path, f"newest_{flag}.py", POLICY % flag), limits, router)
        for flag in (True, False)
    )
    assert compiled.request["replica"].tolist() == [1, 1, 1]
    assert (compiled.engine, plain.engine) == ("run-ahead", "stepping")  # the result says which
    same(compiled, plain)
    assert (plain.request["produced_token"] == requests.output_token).all()
    with pytest.raises(InputError, match="plain Python"):
        run(requests, flat_price(), write(tmp_path, "p.py", POLICY % False), limits, engine="run-ahead")


def test_names_and_options_are_checked():
    shipped = ["lightllm", "mnemosyne", "orca", "sarathi", "sglang", "splitwise", "static", "trtllm"]
    assert names("policy") == [*shipped, "vllm_v0", "vllm_v1"]
    for text, message in (
        ("sarati", "nearest: sarathi"),
        ("sarathi:chunk=3", "max_token"),
        ("sarathi:max_token=0", "1 to"),
        ("sarathi:max_token=x", "not a number"),
        ("sarathi:max_token=1.5", "whole"),
        ("sarathi:max_token", "max_token=VALUE"),
        ("orca:reserve=some", "pow2"),
        ("nowhere.py", "no such file"),
    ):
        with pytest.raises(InputError, match=message):
            find("policy", text)


def test_a_file_that_is_no_policy_is_refused(tmp_path):
    for name, text, message in (
        ("none.py", "x = 1", "no function plan"),
        ("bad.py", "def plan(:", "cannot be read"),
        ("bare.py", "def plan(r):\n    return 0", "max_seq"),
    ):
        with pytest.raises(InputError, match=message):
            find("policy", write(tmp_path, name, text))
