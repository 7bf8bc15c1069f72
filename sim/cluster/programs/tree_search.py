"""Answers that grow as a tree, segment by segment: searches that keep the best leaves, rollouts that share trunks.

All leaves are continued by a segment at once. Then they are scored, `score_s` a leaf on the server "reward" outside
(0: nobody is asked), and `width` children are given to the best `parent` share of the leaves in proportion to
exp(score / `temperature`), scores being uniform draws (REBASE: all are parents; ETS, Hooper et al. 2025: few, since
their trunks are shared). A leaf never has more than `branch` children (0: any number), by which a tree of rollouts
widens slowly (TreePO, Li et al. 2025). A segment ends its answer with the probability `stop`. Leaves share the KV of
their common trunks by the prefix cache. A program of one leaf and one segment is a request as any other.
"""

from collections.abc import Generator, Mapping
from typing import Any

import numpy as np

from sim.cluster.live import Program, Stream
from sim.cluster.program_files import Job
from sim.serving.plugin import Option

HELP = "a tree of segments: leaves are scored, the best go on, trunks are shared"
OPTIONS = {
    "width": Option(16, "leaves", high=4096),
    "depth": Option(4, "segments of an answer, equal parts of the job's", high=1024),
    "parent": Option(1.0, "share of the leaves that may go on", low=0, high=1),
    "temperature": Option(0.2, "of the scores, by which children are given", low=0.01, high=1000),
    "branch": Option(0, "children of a leaf at most; 0: any number", low=0, high=4096),
    "stop": Option(0.0, "probability that a segment ends its answer", low=0, high=1),
    "score_s": Option(0.0, "seconds of the server 'reward' a leaf", low=0, high=1e6),
}


def shares(score: "np.ndarray[Any, Any]", width: int, temperature: float, branch: int) -> list[int]:
    """Children of each leaf: `width` in all, by weight, largest remainders first, none above `branch` where it is set.

    >>> shares(np.array([0.9, 0.1]), 4, 0.5, 0), shares(np.array([0.9, 0.1]), 4, 0.5, 2)
    ([3, 1], [2, 2])
    """
    weight = np.exp((score - score.max()) / temperature)
    most = branch or width
    want = min(width, most * len(score))
    exact = want * weight / weight.sum()
    count = np.minimum(np.floor(exact).astype(int), most)
    for i in np.argsort(-(exact - count), kind="stable").tolist() * most:
        if count.sum() >= want:
            break
        count[i] += count[i] < most
    return [int(value) for value in count]


def program(p: Program, job: Job, option: Mapping[str, float]) -> Generator[Any, Any, None]:
    width, branch = int(option["width"]), int(option["branch"])
    left, depth = job.output, int(option["depth"])
    leaf: list[tuple[Stream, tuple[int, ...]]] = [(p.stream(job.prompt), ())]  # with the nodes of its trunk
    size: list[int] = []  # tokens of each node
    ended, held = 0, []
    score = np.zeros(1)
    while left > 0 and leaf and ended < width:
        segment = min(left, -(-job.output // depth))
        left -= segment
        child: list[tuple[Stream, tuple[int, ...]]] = []
        for (stream, trunk), count in zip(
            leaf, shares(score, width - ended, option["temperature"], branch), strict=True
        ):
            for _ in range(count):
                child.append((stream.fork(), (*trunk, len(size))))
                size.append(segment)
        asked = [p.ask(segment, stream=stream) for stream, _ in child]
        yield p.all_of([one.done for one in asked])
        held.append(job.prompt + sum(size[node] for node in {node for _, trunk in child for node in trunk}))
        score, goes = p.random.random(len(child)), p.random.random(len(child)) >= option["stop"]
        if option["score_s"]:
            yield p.call("reward", option["score_s"] * len(child))
        ended += int((~goes).sum())
        keep = max(1, round(option["parent"] * goes.sum()))
        best = [i for i in np.argsort(-score, kind="stable") if goes[i]][:keep]
        leaf, score = [child[i] for i in best], score[best]
    p.note = {"token": sum(size), "node": len(size), "kv_token": float(np.mean(held)), "leaf": ended + len(leaf)}
