"""A request as any other: what a load is without programs."""

from collections.abc import Generator, Mapping
from typing import Any

from sim.cluster.live import Program
from sim.cluster.program_files import Job

HELP = "one request"


def program(p: Program, job: Job, option: Mapping[str, float]) -> Generator[Any, Any, None]:
    yield p.ask(job.output, prompt=job.prompt).done
