"""What does it cost and bring to compress a text chunk by chunk for one question? (Finch, TACL 2024, up to 93 times)"""

import functools
from typing import TYPE_CHECKING, Any, NamedTuple

import pandas as pd

from sim.run.scenario import Scenario
from sim.run.simulate import simulate
from studies._panels import Panel, panels
from studies._verdict import frame, order, point

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CLAIM = "Finch (Corallo and Papotti 2024): a text's KV up to 93 times smaller, chosen chunk by chunk by the question"
CHUNK, BUDGET, ANSWER = 512, 512, 128  # tokens of a step, kept of all text, of an answer
QUESTION = (16, 64)  # tokens of the question, which every chunk is computed with: short, long
TEXTS = (1024, 4096, 16384, 93 * BUDGET)
MANY = 48  # texts at once
WHOLE, CHUNKED, FINCH = "whole prompt", "chunks", "Finch"
FIRST, NEXT, SERVED, HELD = (
    "time to first token, s",
    "ms a token",
    "answers a minute, 48 texts",
    "tokens kept of the text",
)
OPEN = (
    "no time is published; Llama-3.1-8B (in shapes Mistral-7B, which the paper has beside Llama-2-7B) on an A100 80 "
    "GB, chunks and budget of 512, 93 times that the longest text; a chunk's step holds the question again; its "
    "scores come out of attention, choosing and moving kept keys costs nothing; every head keeps as many"
)
SMALL = {"texts": (1024, 32768), "questions": (16,), "many": 8}


class Served(NamedTuple):
    """Seconds to the first token, seconds a token after it, and seconds of all."""

    first_s: float
    next_s: float
    whole_s: float


@functools.cache
def serve(how: str, text: int, question: int, num: int = 1, budget: int = BUDGET) -> Served:
    """`num` texts of so many tokens, each with its question. Of a chunk's step Finch gives `question` tokens to the
    question and what is left to the text."""
    step = 65536 if how == WHOLE else CHUNK
    prompt = -(-text // (CHUNK - question)) * CHUNK if how == FINCH else text + question
    scenario = Scenario(
        model="llama-3.1-8b", system="a100_sxm_80gb", policy=f"sarathi:max_token={step}", prefix_cache=False,
        requests=f"batch:n={num},prompt={prompt},output={ANSWER}", kv_budget=budget if how == FINCH else 0,
    )  # fmt: skip
    done = simulate(scenario)
    columns = done.run.requests
    return Served(float(columns["ttft_s"].mean()), float(columns["tpot_s"].mean()), float(columns["finish_s"].max()))


def run(texts: tuple[int, ...] = TEXTS, questions: tuple[int, ...] = QUESTION, many: int = MANY) -> pd.DataFrame:
    """First tokens, tokens after them and a batch's answers by length of text."""
    table: list[dict[str, Any]] = []
    for how in (WHOLE, CHUNKED, FINCH):
        for text in texts:
            one = serve(how, text, questions[0])
            setup = f"{text} tokens"
            table += [
                point(how, FIRST, setup, one.first_s, OPEN), point(how, NEXT, setup, 1e3 * one.next_s, OPEN),
                point(how, SERVED, setup, 60 * many / serve(how, text, questions[0], many).whole_s, OPEN),
            ]  # fmt: skip
    short, long = min(texts), max(texts)
    slow = all(serve(FINCH, short, q).first_s > serve(WHOLE, short, q).first_s for q in questions)
    fast = all(serve(FINCH, long, q).first_s < serve(WHOLE, long, q).first_s for q in questions)
    ahead = all(serve(FINCH, t, q).next_s < serve(WHOLE, t, q).next_s for t in texts if t > BUDGET for q in questions)
    least = serve(FINCH, short, questions[0]).first_s * long / short
    grows = serve(FINCH, long, questions[0]).first_s / least
    square = serve(WHOLE, long, questions[0]).first_s / (serve(WHOLE, short, questions[0]).first_s * long / short)
    served = all(serve(FINCH, long, q, many).whole_s < serve(CHUNKED, long, q, many).whole_s for q in questions)
    for claim, setup, true in (
        ("chunks with the question again cost a short text time", f"{short} tokens", slow),
        ("they bring a long text's first token sooner", f"{long} tokens", fast),
        ("tokens of an answer come sooner", "every text above the budget", ahead),
        ("the first token grows with the text, not with its square", f"{grows:.2f} and {square:.2f} of the line",
         grows < 1.02 < square),
        ("a batch of long texts is answered sooner than in chunks alone", f"{many} texts of {long}", served),
    ):  # fmt: skip
        table.append(order("Finch", f"order: {claim}", setup, true, OPEN))
    return frame(table)


def plot(table: pd.DataFrame) -> "Figure":
    """First tokens, later tokens and throughput by length of text."""
    shown = [Panel(FIRST, "first token", "seconds", curve=True, log=True), Panel(NEXT, "answer", NEXT, curve=True),
             Panel(SERVED, "48 texts at once", "answers a minute", curve=True, log=True)]  # fmt: skip
    return panels(table, shown, "Finch: a text kept in 512 tokens, Llama-3.1-8B on an A100")
