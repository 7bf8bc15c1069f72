"""A service level objective as text: the longest latencies that a request may have to count as served well."""

import math
from collections.abc import Mapping, Sequence

from kernels.errors import InputError

SLO_NAMES: dict[str, str] = {"ttft": "ttft_s", "tpot": "tpot_s", "e2el": "e2e_s"}
MAX_S = 1e9


def parse_slo(given: str | Sequence[str] | Mapping[str, float] | None, file: object = None) -> dict[str, float]:
    """An SLO in seconds: `"ttft:0.5 tpot:0.05"`, a list of such parts, or a mapping; names of `SLO_NAMES`.

    >>> parse_slo("ttft:0.5 tpot:0.05")
    {'ttft': 0.5, 'tpot': 0.05}
    >>> parse_slo("ttf:1")
    Traceback (most recent call last):
    ...
    kernels.errors.InputError: goodput = 'ttf': no such latency; allowed: ttft, tpot, e2el (nearest: ttft)
    """
    if given is None:
        return {}
    if isinstance(given, Mapping):
        pairs = [(str(name), str(limit)) for name, limit in given.items()]
    else:
        parts = given.replace(",", " ").split() if isinstance(given, str) else list(given)
        pairs = [(name, limit) for name, _, limit in (part.partition(":") for part in parts)]
    slo: dict[str, float] = {}
    for name, limit in pairs:
        if name not in SLO_NAMES:
            raise InputError("no such latency", file=file, field="goodput", value=name, allowed=SLO_NAMES)
        if name in slo:
            raise InputError(
                "given twice", file=file, field="goodput", value=f"{name}:{limit}", allowed=f"{name}: once"
            )
        try:
            slo[name] = float(limit)
        except ValueError:
            slo[name] = math.nan
        if not 0.0 < slo[name] < MAX_S:
            raise InputError(
                "not a time in seconds", file=file, field=f"goodput {name}", value=limit,
                allowed=f"above 0, below {MAX_S:g}",
            )  # fmt: skip
    return slo
