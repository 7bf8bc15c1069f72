"""Does one prompt for many questions save work, or only tokens? (BatchPrompt, Lin et al. 2023; Tree-Planner 2023)"""

from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd

from sim.run.scenario import Scenario
from sim.run.simulate import simulate
from studies._panels import Panel, panels
from studies._verdict import frame, order, point, row

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CLAIM = "BatchPrompt (Lin et al. 2023): 32 questions a prompt, 9 to 16 % of the calls and 18.6 to 30.8 % of the tokens"
SMALL: dict[str, Any] = {"num": 64, "tasks": ("BoolQ",)}
MODEL, SYSTEM, BATCH, ANSWER = "llama-3.1-8b", "h100_sxm", 32, 8  # the paper's models are behind an interface
CALLS = (0.09, 0.16)  # of single prompts: rounds of votes over 32
# share of tokens, and tokens of a question (BoolQ's passages are some 140 tokens, pairs of questions and of sentences
# some 40 and 80: public data sets); the instruction and its examples follow from both shares
TASKS = {"BoolQ": (0.274, 140), "QQP": (0.186, 40), "RTE": (0.308, 80)}
PLAN, STEP, PLANNER = (25, 50), 14, (1500, 400, 60)  # Tree-Planner: plans, steps; tokens of prompt, state, plan
TOKEN, TIME, RULE = "share of tokens", "seconds, all questions", "instruction over question, tokens"
SINGLE, BATCHED = "one question a prompt", "32 questions a prompt"
NOTE = (
    "Llama-3.1-8B on an H100 for the paper's GPT models; questions of public data sets' lengths, answers of 8 tokens, "
    "all at once; instruction from the published shares at 9 and 16 % of the calls; rounds as published"
)


class Load(NamedTuple):
    """Prompts of an instruction (shared) and `own` tokens, and tokens of an answer."""

    num: int
    shared: int
    own: int
    output: int


def instruction(share: float, call: float, question: int) -> int:
    """Tokens of the instruction, so that batches of 32 in `call` of the calls have `share` of the tokens: of s + q
    tokens each, share (s + q) = call (s + 32 q).

    >>> instruction(0.274, 0.09, 140)
    1983
    """
    return round(question * (share - BATCH * call) / (call - share))


def loads(num: int, share: float, call: float, question: int) -> dict[str, Load]:
    """The two ways for `num` questions."""
    shared = instruction(share, call, question)
    return {
        SINGLE: Load(num, shared, question, ANSWER),
        BATCHED: Load(max(1, round(num * call)), shared, BATCH * question, BATCH * ANSWER),
    }


def serve_s(load: Load, *, cached: bool) -> float:
    """Seconds of the last answer; `cached`: the instruction is computed once."""
    text = (
        f"batch:n={load.num},prompt={load.own},output={load.output},num_system_prompt=1,system_prompt_len={load.shared}"
    )
    found = simulate(Scenario(model=MODEL, system=SYSTEM, prefix_cache=cached, requests=text))
    return float(found.metrics["duration"])


def tree_share(plans: int, step: int = STEP) -> float:
    """Tokens of one call for all plans and short decisions, over a call with the whole prompt for each step."""
    prompt, state, plan = PLANNER
    each = step * (prompt + state + plan // step)
    return (prompt + plans * plan + step * (state // 4 + plan // step)) / each


def run(num: int = 320, tasks: tuple[str, ...] = tuple(TASKS)) -> pd.DataFrame:
    """Tokens and seconds of both ways, with the instruction computed each time and once."""
    rows: list[dict[str, Any]] = []
    for task in tasks:
        share, question = TASKS[task]
        ratio = [instruction(share, call, question) / question for call in CALLS]
        rows += [point(f"at {call:.0%} of the calls", RULE, task, value, NOTE) for call, value in
                 zip(CALLS, ratio, strict=True)]  # fmt: skip
        rows.append(order("instruction", "order: both shares fit an instruction longer than a question", task,
                          min(ratio) > 1, f"{ratio[0]:.0f} and {ratio[1]:.0f} questions long; {NOTE}"))  # fmt: skip
        time: dict[tuple[str, bool, float], float] = {}
        for call in CALLS:
            for name, load in loads(num, share, call, question).items():
                for cached in (False, True):
                    time[name, cached, call] = serve_s(load, cached=cached)
                    rows.append(point(name, TIME, f"{task}, {call:.0%}, instruction {'once' if cached else 'each'}",
                                      time[name, cached, call], NOTE))  # fmt: skip
        saved = [time[BATCHED, False, call] / time[SINGLE, False, call] for call in CALLS]
        rows.append(order(BATCHED, "order: less time where every prompt is computed", task, max(saved) < 1,
                          f"{saved[0]:.2f} and {saved[1]:.2f} of the time; {NOTE}"))  # fmt: skip
        kept = [time[BATCHED, True, call] / time[SINGLE, True, call] for call in CALLS]
        rows.append(order(BATCHED, "order: less gained where the instruction is computed once", task,
                          all(a > b for a, b in zip(kept, saved, strict=True)),
                          f"{kept[0]:.2f} and {kept[1]:.2f} of the time; {NOTE}"))  # fmt: skip
    found = [1 - tree_share(plans) for plans in PLAN]
    rows.append(row("Tree-Planner", "tokens saved", f"{PLAN[0]} and {PLAN[1]} plans", 0.922, found[0],
                    f"prompt of 1,500, state of 400, plans of 60 tokens, 14 steps: assumed; {NOTE}", null=0.0,
                    said=True, spread=found))  # fmt: skip
    return frame(rows)


def plot(table: pd.DataFrame) -> "Figure":
    """Seconds of each task with the instruction each time and once, and how long it is."""
    shown = [Panel(TIME, task, TIME, f"{task}, ") for task in TASKS]
    return panels(table, [*shown, Panel(RULE, "the instruction", RULE)], "BatchPrompt: tokens and time")
