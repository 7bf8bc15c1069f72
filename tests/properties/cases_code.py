"""Hypothesis strategies of users' code: policies, routers and schedules, well formed and not."""

from hypothesis import strategies as st

from tests.properties.cases import LOADS
from tests.properties.driver import Case
from tests.properties.nasty import damaged

BODIES = (
    "return 0", "raise ValueError('no')", "import sys; sys.exit(3)", "return None", "return 'a'", "return r.nothing",
    "return [][1]", "return 1 // 0", "x", "return float('nan')", "return 10**30", "return -1", "return True",
    "assert False", "raise KeyError(1)", "raise SystemExit", "return f()", "def g(): return g()\n    return g()",
    "raise RuntimeError('a\\nb')", "raise OSError('disk')", "raise MemoryError", "raise StopIteration", "yield 1",
)  # fmt: skip
HEADS = (
    "from sim.serving.plugin import Option\nOPTIONS = {'max_token': Option(64, 't'), 'max_seq': Option(4, 's')}\n",
    "OPTIONS = {}\n", "OPTIONS = 3\n", "", "OPTIONS = {'max_token': 3, 'max_seq': 4}\n", "raise ImportError\n",
    "import nothing_of_this_name\n", "OPTIONS = None\n", "from sim.serving.plugin import Option\nOPTIONS = [Option]\n",
    "from sim.serving.plugin import Option\nOPTIONS = {'max_token': Option('x', 't'), 'max_seq': Option(-4, 's')}\n",
    "from sim.serving.plugin import Option\n"
    "OPTIONS = {'max_token': Option(64, 't', low=float('nan')), 'max_seq': Option(4, 's', choices=(1,))}\n",
)  # fmt: skip
SIGNATURES = ("def plan(r):", "def plan():", "def plan(r, s):", "async def plan(r):", "plan = lambda r:",
              "def nope(r):",
              "class plan:", "def plan(*r):", "def plan(r, s=1):")  # fmt: skip


@st.composite
def users_code(draw: st.DrawFn) -> Case:
    body = draw(st.sampled_from(BODIES))
    if draw(st.booleans()):
        head, signature = HEADS[0], SIGNATURES[0]
    else:
        head, signature = draw(st.sampled_from(HEADS)), draw(st.sampled_from(SIGNATURES))
    kind = draw(st.sampled_from(("policy", "router", "schedule")))
    if kind == "schedule":
        text = f"def order(num_rank, num_microbatch):\n    {body.replace('return r', 'return num_rank')}\n"
        data = text.encode() if draw(st.integers(0, 3)) else draw(damaged(text.encode()))
        return Case(
            ("schedule", "u.py", "--stages", "2", "--microbatches", "2", "--json", "o.json"),
            {"u.py": data},
            ("o.json",),
        )
    text = f"COMPILED = False\n{head}{signature}\n    {body}\n"
    if kind == "router":
        text = f"COMPILED = False\ndef route(r, i):\n    {body}\n"
    data = text.encode() if draw(st.integers(0, 3)) else draw(damaged(text.encode()))
    if b"COMPILED = False\n" not in data:  # compiling takes a second
        data = b"COMPILED = False\n" + data
    say = ("simulate", "--model", "gpt2", "--system", "a100_sxm", "--requests", LOADS[0], f"--{kind}", "u.py")
    return Case((*say, *(("--dp", "2") if kind == "router" else ()), "--json", "o.json"), {"u.py": data}, ("o.json",))
