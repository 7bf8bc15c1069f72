"""The JSON lines that SGLang's `bench_serving` appends to, a run a line, with details: `input_lens`, `output_lens`,
`request_rate`, `max_concurrency`. It records no starts: arrivals are made from the rate (independent gaps) and kept to
the cap. Of several runs `run=` says which."""

import pathlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from workloads.parameters import Parameter
from workloads.requests import Requests
from workloads.traces._client import OPTIONS as CLIENT
from workloads.traces._client import RUN, client_of, requests_of, said_of
from workloads.traces._rows import lines, pick

HELP = "SGLang bench_serving, JSON lines with details: input_lens, output_lens, request_rate, max_concurrency"
OPTIONS: dict[str, Parameter] = {**CLIENT, **RUN}
OWN = (b'"total_output_tokens_retokenized"', b'"sharegpt_output_len"', b'"random_range_ratio"')


def sniff(head: bytes) -> bool:
    """Whether the first line is a run of this benchmark."""
    first = head.lstrip().split(b"\n", 1)[0]
    return first.startswith(b"{") and any(name in first for name in OWN)


def read(path: pathlib.Path, options: Mapping[str, Any], seed: int) -> Requests:
    """The requests of one run that were answered."""
    from workloads.traces.vllm_bench import lengths

    rows = list(lines(path))
    row = rows[pick(path, [said_of(row) for row in rows], options["run"])]
    prompt, output = lengths(row)
    return requests_of(path, np.asarray(prompt), output, None, client_of(row), options, seed)
