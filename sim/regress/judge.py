"""A baseline against today: which results moved, by how much, and which operator, decision or file moved them."""

import math
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from kernels.errors import InputError
from kernels.units import PS_PER_S
from sim.regress.baseline import DECIDED, Entry

if TYPE_CHECKING:
    import pandas as pd

LOWER_IS_BETTER = ("_ms", "duration", "failed", "power_w", "energy_", "usd_")
HIGHER_IS_BETTER = ("throughput", "goodput", "completed", "output_tokens_per_s")
NUM_CAUSE = 5  # of a kind, the largest first


@dataclass(frozen=True)
class Threshold:
    """How far a result may be from its baseline: the larger of a share of it and an amount in its own unit; nothing
    where both are 0, for what is simulated is deterministic."""

    relative: float = 0.0
    absolute: float = 0.0
    worse_only: bool = False

    def __post_init__(self) -> None:
        for name in ("relative", "absolute"):
            if not 0 <= (value := getattr(self, name)) < math.inf:
                raise InputError("out of range", field=name, value=value, allowed="0 or more")

    def holds(self, name: str, base: float | None, now: float | None) -> bool:
        """Whether `now` is near enough to `base`.

        >>> Threshold(relative=0.01).holds("mean_ttft_ms", 100.0, 100.9)
        True
        >>> Threshold(worse_only=True).holds("mean_ttft_ms", 100.0, 90.0)
        True
        """
        if base is None or now is None:
            return base is now
        if self.worse_only and direction(name, base, now) == "better":
            return True
        return abs(now - base) <= max(self.absolute, self.relative * abs(base))


@dataclass(frozen=True)
class Verdict:
    """A scenario's comparison. `moved`: rows `(metric, base, now)`; `causes`: sentences, the largest first; `new`: the
    results that the baseline does not know, which nothing guards until it is recorded again."""

    name: str
    now: Entry
    moved: list[tuple[str, float | None, float | None]]
    causes: list[str]
    new: dict[str, float | None] = field(default_factory=dict)

    def __repr__(self) -> str:
        said = (
            "holds" if self.holds else f"{len(self.moved)} moved, {self.causes[0] if self.causes else 'no cause found'}"
        )
        return f"<Verdict on {self.name}: {said}>"

    @property
    def holds(self) -> bool:
        """Whether no result moved beyond the thresholds."""
        return not self.moved


def direction(name: str, base: float | None, now: float | None) -> str:
    """`better`, `worse`, or `other` for what is neither (counts of the load, spreads).

    >>> direction("p99_ttft_ms", 1.0, 2.0), direction("output_throughput", 1.0, 2.0), direction("std_itl_ms", 1.0, 2.0)
    ('worse', 'better', 'other')
    """
    if base is None or now is None or base == now or name.startswith(("std_", "total_", "num_")):
        return "other"
    if any(word in name for word in HIGHER_IS_BETTER):
        return "better" if now > base else "worse"
    if any(word in name for word in LOWER_IS_BETTER):
        return "better" if now < base else "worse"
    return "other"


def judge(base: Entry, now: Entry, threshold: Threshold) -> Verdict:
    """Compares an entry with its baseline, metric by metric. A metric that is gone has moved; one that the baseline
    does not know, of a release that counts more, is new and has not."""
    pairs = ((name, old, now.metric.get(name)) for name, old in base.metric.items())
    moved = [(name, old, became) for name, old, became in pairs if not threshold.holds(name, old, became)]
    new = {name: value for name, value in now.metric.items() if name not in base.metric}
    return Verdict(base.name, now, moved, list(causes(base, now)) if moved else [], new)


def causes(base: Entry, now: Entry) -> Iterator[str]:
    """What differs beneath the results: files, prices of the same steps, host times, decisions; and, where none of
    them does, operators whose time in the run differs."""
    num = 0
    for said in (*_files(base, now), *_prices(base, now), *_host(base, now), *_decisions(base, now)):
        num += 1
        yield said
    if not num:
        yield from _spent(base, now)


def _files(base: Entry, now: Entry) -> Iterator[str]:
    for path in sorted({*base.file, *now.file}):
        if base.file.get(path) != now.file.get(path):
            what = "is gone" if path not in now.file else "is new" if path not in base.file else "has another content"
            yield f"the file {path} {what}"


def _prices(base: Entry, now: Entry) -> Iterator[str]:
    """An operator a sentence, by what it moved in the run: its change where it changed most, times its time there."""
    run_ps = {(row.operator, row.kind): row.time_ps for row in base.spent}
    old = {(row.probe, row.operator, row.kind): row for row in base.price}
    new = {(row.probe, row.operator, row.kind): row for row in now.price}
    most: dict[tuple[str, str], tuple[float, str]] = {}
    for key in dict.fromkeys((*old, *new)):
        probe, operator, kind = key
        was, became = old.get(key), new.get(key)
        where = base.probe[probe].title
        if was is None or became is None:
            most[operator, kind] = (float("inf"), f"{'no longer' if became is None else 'newly'} priced in {where}")
            continue
        for unit, before, after in (("us", was.time_ps, became.time_ps), ("uJ", was.energy_nj, became.energy_nj)):
            share = after / before - 1 if before else float("inf")
            scale = 1e-6 if unit == "us" else 1e-3
            if after != before and abs(share) > abs(most.get((operator, kind), (0.0, ""))[0]):
                said = f"{before * scale:,.6g} -> {after * scale:,.6g} {unit} ({share:+.2%}) in {where}"
                most[operator, kind] = (share, said)
    ranked = sorted(most.items(), key=lambda item: -abs(item[1][0]) * (run_ps.get(item[0], 0) + 1))
    for (operator, kind), (_, said) in ranked[:NUM_CAUSE]:
        yield f"operator {operator} ({kind}): {said}"
    if len(ranked) > NUM_CAUSE:
        yield f"and {len(ranked) - NUM_CAUSE} more operators"


def _host(base: Entry, now: Entry) -> Iterator[str]:
    for name in dict.fromkeys((*base.host_ps, *now.host_ps)):
        before, after = base.host_ps.get(name, 0), now.host_ps.get(name, 0)
        if before != after:
            yield f"host time a {name}: {before * 1e-6:,.6g} -> {after * 1e-6:,.6g} us"


def _decisions(base: Entry, now: Entry) -> Iterator[str]:
    moved = [name for name, num in base.decision.items() if num != now.decision.get(name, 0)]  # others are new counters
    for name in moved[:NUM_CAUSE]:
        yield f"decisions, {name}: {base.decision.get(name, 0):,} -> {now.decision.get(name, 0):,}"
    if base.steps and now.steps and base.steps.digest != now.steps.digest:
        pairs = enumerate(zip(base.steps.first, now.steps.first, strict=False))
        first = next(((index, old, new) for index, (old, new) in pairs if old != new), None)
        if first is None:
            at = min(len(base.steps.first), len(now.steps.first))
            yield f"decisions: the steps are the same up to step {at}, and differ behind it"
            return
        index, old, new = first
        words = ", ".join(f"{name} {was:,} -> {became:,}"
                          for name, was, became in zip(DECIDED, old, new, strict=False) if was != became)  # fmt: skip
        yield f"decisions: step {index} is the first that differs: {words}"


def _spent(base: Entry, now: Entry) -> Iterator[str]:
    old = {(row.operator, row.kind): row.time_ps for row in base.spent}
    new = {(row.operator, row.kind): row.time_ps for row in now.spent}
    changed = [(key, old.get(key, 0), new.get(key, 0)) for key in dict.fromkeys((*old, *new))]
    changed = sorted((row for row in changed if row[1] != row[2]), key=lambda row: -abs(row[2] - row[1]))
    for (operator, kind), before, after in changed[:NUM_CAUSE]:
        yield f"operator {operator} ({kind}) in the run: {before / PS_PER_S:,.6g} -> {after / PS_PER_S:,.6g} s"


def frame(verdicts: list[Verdict]) -> "pd.DataFrame":
    """A row a result that moved: `entry, metric, baseline, now, change, direction`."""
    import pandas as pd

    rows = [
        (one.name, name, old, new, _change(old, new), direction(name, old, new))
        for one in verdicts for name, old, new in one.moved
    ]  # fmt: skip
    return pd.DataFrame(rows, columns=["entry", "metric", "baseline", "now", "change", "direction"])


def _change(old: float | None, new: float | None) -> float | None:
    return new / old - 1 if old and new is not None else None
