"""`Requests`: what is asked of a serving system and when, as flat arrays, one entry a request."""

import hashlib
import itertools
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt

from kernels.errors import InputError, NothingServedError
from kernels.units import PS_PER_S

MAX_TOKEN = 1 << 24  # a request of more tokens is a mistake: the longest published contexts hold 10 million
MAX_TIME_S = 9_000_000.0  # 104 days: what integer picoseconds hold
NO_PARENT = -1
NO_ADAPTER = -1
MAX_ADAPTER = (1 << 30) - 1
MAX_CONCURRENCY = 10_000_000
MAX_IMAGE = 32_767  # of a request

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Requests:
    """Requests in order of arrival. Build with `build`, which checks everything.

    Prefix units: unit `j` of a request names the tokens `[j * unit_token, (j + 1) * unit_token)` of its
    prompt followed by its output. Two requests whose leading ids agree share the tokens of those units, as far
    as both go; tokens beyond the last unit are a request's own. Requests may point at the same stretch of
    `unit_id`.

    Chains: a request with a parent becomes available at the later of its `arrival_ps` and `think_ps` after its
    parent has ended (the next turn of a session, the next request of a closed-loop user).

    Cap: with `max_concurrency`, who arrives while as many are under way is sent when one of these ends, in order of
    arrival; its latencies count from then (the semaphore of the serving benchmarks).
    """

    arrival_ps: npt.NDArray[np.int64]  # sorted; the earliest possible one where the request has a parent
    prompt_token: npt.NDArray[np.int32]
    output_token: npt.NDArray[np.int32]  # until the end of the sequence
    predicted_token: npt.NDArray[np.int32]  # what a length predictor says of the output
    priority: npt.NDArray[np.int8]  # 0 is the most urgent
    unit_start: npt.NDArray[np.int64]  # into unit_id
    unit_stop: npt.NDArray[np.int64]
    unit_id: npt.NDArray[np.int32]  # dense: 0 to num_unit - 1
    unit_token: int  # tokens a unit
    parent: npt.NDArray[np.int32]  # index of the request waited for, less than one's own; -1: none
    think_ps: npt.NDArray[np.int64]
    adapter: npt.NDArray[np.int32]  # the adapter (LoRA) that it asks for; -1: the base model
    num_image: npt.NDArray[np.int16]  # images in its prompt
    image_token: npt.NDArray[np.int32]  # tokens of the prompt that each of them is
    max_concurrency: int = 0  # requests (of chains: chains) that are sent and have not ended, at most; 0: no cap
    note: str = ""  # what the reader of a trace left out, in words

    def __len__(self) -> int:
        return len(self.arrival_ps)

    def __repr__(self) -> str:
        span_s = (int(self.arrival_ps[-1]) - int(self.arrival_ps[0])) / PS_PER_S if len(self) else 0.0
        mean = [float(token.mean()) if len(self) else 0.0 for token in (self.prompt_token, self.output_token)]
        tokens = f"{mean[0]:,.4g} prompt and {mean[1]:,.4g} output tokens in the mean"
        return f"<Requests: {len(self):,} over {span_s:,.4g} s, {tokens}>"

    @property
    def num_unit(self) -> int:
        """Distinct prefix units."""
        return int(self.unit_id.max()) + 1 if len(self.unit_id) else 0

    @property
    def nbyte(self) -> int:
        """Bytes held, prefix units included."""
        return sum(value.nbytes for value in vars(self).values() if isinstance(value, np.ndarray))


def build(
    arrival_ps: npt.ArrayLike,
    prompt_token: npt.ArrayLike,
    output_token: npt.ArrayLike,
    *,
    predicted_token: npt.ArrayLike | None = None,
    priority: npt.ArrayLike | None = None,
    unit_start: npt.ArrayLike | None = None,
    unit_stop: npt.ArrayLike | None = None,
    unit_id: npt.ArrayLike | None = None,
    unit_token: int = 16,
    parent: npt.ArrayLike | None = None,
    think_ps: npt.ArrayLike | None = None,
    adapter: npt.ArrayLike | None = None,
    max_concurrency: int = 0,
    num_image: npt.ArrayLike | None = None,
    image_token: npt.ArrayLike | None = None,
    note: str = "",
) -> Requests:
    """Checked `Requests`; what is left out is neutral (no prefix units, no parents, a perfect predictor).

    `InputError` names the first bad entry: no request at all, arrivals that are unsorted, negative or beyond
    104 days, fewer than one prompt or output token or more than 2^24, a priority outside 0 to 127, unit
    ranges outside `unit_id` or longer than the request, a parent that does not come first.

    >>> requests = build([0, 10], [5, 6], [1, 2])
    >>> len(requests), requests.parent.tolist()
    (2, [-1, -1])
    """
    num = len(np.asarray(arrival_ps))

    def column(
        name: str, values: npt.ArrayLike | None, default: npt.ArrayLike, dtype: type, low: int, high: int
    ) -> Any:
        array = np.asarray(default if values is None else values)
        if array.shape != (num,):
            raise InputError(f"has {array.shape} entries, {num} requests", field=name, value=array.shape)
        bad = ~((array >= low) & (array <= high))  # also NaN
        if bad.any():
            index = int(np.argmax(bad))
            raise InputError(f"request {index}", field=name, value=array[index].item(), allowed=f"{low} to {high}")
        return np.ascontiguousarray(array, dtype)

    if not num:
        raise NothingServedError("holds no request", field="requests", value=0, allowed="1 and more")
    max_ps = int(MAX_TIME_S) * PS_PER_S
    prompt = column("prompt_token", prompt_token, 0, np.int32, 1, MAX_TOKEN)
    output = column("output_token", output_token, 0, np.int32, 1, MAX_TOKEN)
    zeros = np.zeros(num, np.int64)
    ids = np.ascontiguousarray([] if unit_id is None else unit_id, np.int32)
    requests = Requests(
        arrival_ps=column("arrival_ps", arrival_ps, zeros, np.int64, 0, max_ps),
        prompt_token=prompt,
        output_token=output,
        predicted_token=column("predicted_token", predicted_token, output, np.int32, 1, MAX_TOKEN),
        priority=column("priority", priority, zeros, np.int8, 0, 127),
        unit_start=column("unit_start", unit_start, zeros, np.int64, 0, len(ids)),
        unit_stop=column("unit_stop", unit_stop, zeros, np.int64, 0, len(ids)),
        unit_id=ids,
        unit_token=int(unit_token),
        parent=column("parent", parent, np.full(num, NO_PARENT), np.int32, NO_PARENT, num - 1),
        think_ps=column("think_ps", think_ps, zeros, np.int64, 0, max_ps),
        adapter=column("adapter", adapter, np.full(num, NO_ADAPTER), np.int32, NO_ADAPTER, MAX_ADAPTER),
        max_concurrency=int(max_concurrency),
        num_image=column("num_image", num_image, zeros, np.int16, 0, MAX_IMAGE),
        image_token=column("image_token", image_token, zeros, np.int32, 0, MAX_TOKEN),
        note=note,
    )
    _check_relations(requests)
    return requests


def _check_relations(requests: Requests) -> None:
    """What one column cannot say alone."""

    def refuse(bad: npt.NDArray[np.bool_], field: str, message: str) -> None:
        if bad.any():
            index = int(np.argmax(bad))
            raise InputError(f"request {index}: {message}", field=field, value=getattr(requests, field)[index].item())

    refuse(np.diff(requests.arrival_ps, prepend=0) < 0, "arrival_ps", "arrives before the one listed ahead of it")
    refuse(requests.parent >= np.arange(len(requests)), "parent", "waits for a request that does not come before it")
    refuse(requests.unit_stop < requests.unit_start, "unit_stop", "ends before unit_start")
    refuse((requests.num_image > 0) != (requests.image_token > 0), "image_token", "images have tokens, tokens an image")
    shown = requests.num_image.astype(np.int64) * requests.image_token
    refuse(shown > requests.prompt_token, "image_token", "its images have more tokens than its prompt")
    if requests.unit_token < 1:
        raise InputError("a prefix unit holds no token", field="unit_token", value=requests.unit_token, allowed=">= 1")
    if len(requests.unit_id) and requests.unit_id.min() < 0:
        raise InputError("negative prefix unit", field="unit_id", value=int(requests.unit_id.min()), allowed=">= 0")
    if not 0 <= requests.max_concurrency <= MAX_CONCURRENCY:
        raise InputError("out of range", field="max_concurrency", value=requests.max_concurrency,
                         allowed=f"0 to {MAX_CONCURRENCY}")  # fmt: skip
    parent = requests.parent[requests.parent >= 0]
    if requests.max_concurrency and len(np.unique(parent)) < len(parent):
        raise InputError("chains that branch have no one end to wait for", field="max_concurrency",
                         value=requests.max_concurrency, allowed="0")  # fmt: skip
    total = requests.prompt_token.astype(np.int64) + requests.output_token
    over = (requests.unit_stop - requests.unit_start - 1) * requests.unit_token >= total
    refuse(over & (requests.unit_stop > requests.unit_start), "unit_stop", "more prefix units than tokens")


def take(requests: Requests, start: int, stop: int) -> Requests:
    """Requests `start` to `stop` (as a Python slice), with the clock as it was.

    A request whose parent is left out stands on its own, at its earliest possible arrival.
    """
    start, stop, _ = slice(start, stop).indices(len(requests))
    if stop <= start:
        raise InputError("no request left", field="start:stop", value=f"{start}:{stop}", allowed=f"0:{len(requests)}")
    per_request: dict[str, Any] = {
        name: value[start:stop].copy()
        for name, value in vars(requests).items()
        if isinstance(value, np.ndarray) and name != "unit_id"
    }
    parent = per_request["parent"]
    per_request["parent"] = np.where(parent >= start, parent - start, NO_PARENT).astype(np.int32)
    return replace(requests, **per_request)


def head(requests: Requests, num_request: int) -> Requests:
    """The first `num_request` requests."""
    if not 1 <= num_request <= len(requests):
        raise InputError("not so many requests", field="n", value=num_request, allowed=f"1 to {len(requests)}")
    return take(requests, 0, num_request)


def scale_rate(requests: Requests, factor: float) -> Requests:
    """The same requests at `factor` times the rate; think times stay.

    >>> scale_rate(build([0, 100], [5, 5], [1, 1]), 2.0).arrival_ps.tolist()
    [0, 50]
    """
    if not 0 < factor < float("inf"):
        raise InputError("the rate cannot be scaled so", field="scale", value=factor, allowed="> 0")
    scaled = requests.arrival_ps / factor
    if scaled[-1] > MAX_TIME_S * PS_PER_S:
        raise InputError("arrivals pass 104 days", field="scale", value=factor, allowed="a larger factor")
    return replace(requests, arrival_ps=np.rint(scaled).astype(np.int64))


def capped(requests: Requests, max_concurrency: int) -> Requests:
    """The same requests, of which at most so many are under way at once."""
    found = replace(requests, max_concurrency=max_concurrency)
    _check_relations(found)
    return found


NEUTRAL = {"adapter": NO_ADAPTER, "num_image": 0, "image_token": 0}  # columns that say nothing where they are this


def check_no_image(requests: Requests, where: str) -> None:
    """An `InputError` for a load with images where their encoder is not priced."""
    if requests.num_image.any():
        raise InputError(
            f"images are encoded in a plain serving run, not {where}", field="num_image",
            value=int(requests.num_image.max()), allowed="0",
        )  # fmt: skip


def digest(requests: Requests) -> str:
    """A stable hash of everything that a simulation sees (16 hex digits)."""
    hasher = hashlib.blake2b(digest_size=8)
    hasher.update(str(requests.unit_token).encode())
    for name, value in vars(requests).items():
        if isinstance(value, np.ndarray) and not (name in NEUTRAL and (value == NEUTRAL[name]).all()):
            little = value.astype(value.dtype.newbyteorder("<"), copy=False)
            hasher.update(little.tobytes())
    if requests.max_concurrency:
        hasher.update(str(requests.max_concurrency).encode())
    return hasher.hexdigest()


def shared_prefix_token(requests: Requests) -> Ints:
    """Leading prompt tokens of each request that an earlier one has shown: the hits of an endless cache."""
    num = len(requests)
    shared = np.zeros(num, np.int64)
    count = requests.unit_stop - requests.unit_start
    first = np.full(requests.num_unit, num, np.int64)
    edges = np.searchsorted(np.cumsum(count), np.arange(0, int(count.sum()) + 1, 4_000_000), side="right")
    bounds = np.unique(np.concatenate([[0], edges, [num]]))  # pieces, so that memory stays small
    for begin, end in itertools.pairwise(bounds):
        some = begin + np.flatnonzero(count[begin:end])
        if not len(some):
            continue
        sizes = count[some]
        starts = np.concatenate([[0], np.cumsum(sizes)[:-1]])
        position = np.arange(int(sizes.sum())) - np.repeat(starts, sizes)
        ids = requests.unit_id[np.repeat(requests.unit_start[some], sizes) + position]
        owner = np.repeat(some, sizes)
        np.minimum.at(first, ids, owner)
        miss = np.where(first[ids] >= owner, position, np.repeat(sizes, sizes))
        shared[some] = np.minimum.reduceat(miss, starts) * requests.unit_token
    return np.minimum(shared, requests.prompt_token)


PERCENTILES = (1, 5, 25, 50, 75, 90, 95, 99)


def describe(requests: Requests) -> dict[str, float]:
    """Count, duration, rate, burstiness, moments and percentiles of the lengths, and the shared prefix.

    Arrivals of requests with a parent are not known before a simulation and count neither for the rate nor
    for its variation (`arrival_cv`: standard deviation over mean of the gaps).
    """
    roots = requests.arrival_ps[requests.parent == NO_PARENT]
    duration_s = float(roots[-1] - roots[0]) / PS_PER_S
    gaps = np.diff(roots)
    found: dict[str, float] = {
        "num_request": len(requests),
        "num_chained": len(requests) - len(roots),
        "duration_s": duration_s,
        "request_per_s": (len(roots) - 1) / duration_s if duration_s > 0 else float("inf"),
        "arrival_cv": float(gaps.std() / gaps.mean()) if len(gaps) and gaps.mean() > 0 else 0.0,
    }
    for name in ("prompt_token", "output_token"):
        values = getattr(requests, name)
        found |= {f"{name}_sum": int(values.sum(dtype=np.int64)), f"{name}_mean": float(values.mean())}
        found |= {f"{name}_std": float(values.std()), f"{name}_min": int(values.min())}
        found |= {
            f"{name}_p{p}": float(v) for p, v in zip(PERCENTILES, np.percentile(values, PERCENTILES), strict=True)
        }
        found[f"{name}_max"] = int(values.max())
    found["shared_prefix_share"] = float(shared_prefix_token(requests).sum() / found["prompt_token_sum"])
    return found
