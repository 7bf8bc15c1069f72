"""Loads for SGLang's scheduler: outputs of a known length, a radix tree of pages of 16 tokens, no overlap."""

import dataclasses

from tests.exams.vllm_scheduler.cases import BLOCK_TOKEN, Case, Draw

CLASSES = ("ample", "chunks", "seats", "tight", "prefix", "prefix_tight")


def case(kind: str, number: int) -> Case:
    """The `number`-th case of a class."""
    name = f"sglang-{kind}-{number}"
    d = Draw(name)
    shared = kind.startswith("prefix")
    asks = d.asks((1, 60), long=kind == "chunks", shared=shared)
    found = Case(name, asks, 2048, 64, cache=True)
    if kind == "chunks":
        found = dataclasses.replace(found, budget=d.one_of([64, 128, 256]))
    if kind == "seats":
        found = dataclasses.replace(found, seats=d.one_of([1, 2, 4, 8]))
    if kind.endswith("tight"):
        most = max(ask.block for ask in asks) + 3  # an admission reserves a page beyond the output, and has one left
        found = dataclasses.replace(found, num_block=max(most, d.few(asks, 0.2, 0.6)))
    assert found.budget % BLOCK_TOKEN == 0
    return found
