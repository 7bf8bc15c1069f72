"""Reasoning that is asked now and then what it would answer, and ends once it is certain (Dynasor, 2024).

The answer is generated in chunks, each a request that continues the last. Beside a chunk runs a probe: a branch off the
text before the chunk, a suffix and a few tokens, which the prefix cache spares from computing the text again. Once
`threshold` probes in a row agree, no further chunk is asked for. From when on they do is drawn: at a share of the whole
that is uniform between `low` and `high` (above 1: not before its own end). The paper's saved tokens (11 to 29 %; of the
easiest tenth 34 to 53 %) lie around the defaults' 21 and 47 %.
"""

from collections.abc import Generator, Mapping
from typing import Any

from sim.cluster.live import Program
from sim.cluster.program_files import Job
from sim.serving.plugin import Option

HELP = "reasoning in chunks with probes, which ends when it is certain"
OPTIONS = {
    "chunk": Option(64, "tokens between two probes; 0: one request, no probe", low=0),
    "threshold": Option(3, "probes in a row that must agree"),
    "probe_token": Option(20, "tokens that a probe generates"),
    "suffix": Option(22, "tokens that ask for the answer"),
    "low": Option(0.5, "least share of the whole after which probes agree", low=0, high=10),
    "high": Option(1.1, "largest share", low=0, high=10),
    "eager": Option(0, "1: a chunk is stopped as soon as a probe decides", low=0, high=1),
}


def program(p: Program, job: Job, option: Mapping[str, float]) -> Generator[Any, Any, None]:
    chunk, token, num_probe, agree = int(option["chunk"]), 0, 0, 0
    settled = float(p.random.uniform(option["low"], option["high"])) * job.output
    p.remaining = job.predicted
    if chunk == 0:
        request = p.ask(job.output, prompt=job.prompt)
        yield request.done
        p.note = {"token": request.produced, "probe": 0}
        return
    stream = p.stream(job.prompt)
    while token < job.output and agree < option["threshold"]:
        before = stream.fork()
        part = p.ask(min(chunk, job.output - token), stream=stream)
        probe = p.ask(int(option["probe_token"]), stream=before, suffix=int(option["suffix"]))
        num_probe += 1
        yield probe.done
        agree = agree + 1 if probe.served and token >= settled else 0
        if option["eager"] and agree >= option["threshold"]:
            p.stop(part)
        yield part.done
        token += part.produced
        p.remaining = max(0, p.remaining - part.produced)
        if not part.served:
            break
    p.note = {"token": token, "probe": num_probe}
