"""Several samples of one prompt, the rest of which is stopped once enough of them agree (self-consistency).

All samples branch off the prompt at once. A sample's answer is the right one with a probability that is drawn a program
(`low` to `high`: how hard its question is); when `agree` samples that have ended say the same, the others are stopped.
With `stops` 0 all run to their end.
"""

from collections.abc import Generator, Mapping
from typing import Any

from sim.cluster.live import Program
from sim.cluster.program_files import Job
from sim.serving.plugin import Option

HELP = "samples of one prompt, the rest stopped when enough agree"
OPTIONS = {
    "num": Option(8, "samples", high=1024),
    "agree": Option(3, "samples that must say the same"),
    "low": Option(0.3, "least probability that a sample says the common answer", low=0, high=1),
    "high": Option(1.0, "largest probability", low=0, high=1),
    "spread": Option(0.3, "of the samples' lengths, as a share of the job's", low=0, high=0.95),
    "stops": Option(1, "0: nothing is stopped", low=0, high=1),
}


def program(p: Program, job: Job, option: Mapping[str, float]) -> Generator[Any, Any, None]:
    num = int(option["num"])
    common = float(p.random.uniform(option["low"], option["high"]))
    length = p.random.uniform(1 - option["spread"], 1 + option["spread"], num) * job.output
    says = p.random.random(num) < common
    prompt = p.stream(job.prompt)
    p.remaining = job.predicted * num
    samples = [p.ask(max(1, round(token)), stream=prompt.fork()) for token in length]
    waiting = dict(zip((sample.done for sample in samples), range(num), strict=True))
    agree = 0
    while waiting:
        yield p.any_of(list(waiting))
        for event in [event for event in waiting if event.processed]:
            agree += int(says[waiting.pop(event)])
        if option["stops"] and agree >= option["agree"]:
            break
    for event, k in waiting.items():
        if not event.triggered:
            p.stop(samples[k])
    if waiting:
        yield p.all_of(list(waiting))
    p.note = {"token": sum(sample.produced for sample in samples), "probe": 0}
