"""The page of a sweep or of a recommendation: what its points cost and give, Pareto fronts, every row in a table."""

import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

from sim.show.page.charts import points, up_to
from sim.show.page.page import page, page_bytes, refuse_empty, section, table
from sim.show.points import DEVICE, JOULE, LABEL, USD, USER, WALL, Row, front, ran, with_rates

if TYPE_CHECKING:
    from sim.recommend.recommend import Recommendation
    from sim.sweep.sweep import Swept

MAX_WORD = 12  # points of a front that are labelled


def sweep_page(done: "Swept") -> str:
    """A sweep as one HTML page. Raises `InputError` where no point served a request."""
    if not done.served:
        refuse_empty()
    rows = []
    for row in done.rows:
        label = ", ".join(f"{axis.name}={row[axis.name]}" for axis in done.axes)
        rows.append({"point": label, **with_rates(row)})
    said = [f"over {', '.join(axis.name for axis in done.axes)}; scenario {done.scenario.digest()}"]
    if not done.complete:
        said += ["This sweep was stopped: points that had not run are not here."]
    return points_page(f"Sweep of {done.scenario.model} on {done.scenario.system}", rows, JOULE, said, ("key",))


def recommend_page(found: "Recommendation") -> str:
    """A recommendation as one HTML page. Raises `InputError` where nothing was simulated."""
    base = found.candidates[0].deployment.base if found.candidates else None
    rows = [{"point": f"{row['pools']} {row['options']}".strip(), **with_rates(row)} for row in found.rows]
    if base is None or not any(ran(row) for row in rows):
        refuse_empty()
    target = found.target
    said = [f"P99 TTFT at most {target.ttft_s:g} s, P99 TPOT at most {target.tpot_s:g} s; {len(rows):,} candidates, "
            f"{found.num_run:,} runs"]  # fmt: skip
    if not found.complete:
        said += ["This search was stopped: candidates that had not run are not here."]
    return points_page(f"Machines for {base.model}", rows, WALL, said, ("pools", "options"))


def sweep_page_bytes(done: "Swept") -> bytes:
    """`sweep_page` as a file holds it."""
    return page_bytes(sweep_page(done))


def recommend_page_bytes(found: "Recommendation") -> bytes:
    """`recommend_page` as a file holds it."""
    return page_bytes(recommend_page(found))


def points_page(title: str, rows: Sequence[Row], joule: str, said: Sequence[str], hidden: Sequence[str]) -> str:
    """The page of rows, each with `point`, its name; `hidden` columns are not in the table."""
    some = [row for row in rows if ran(row)]
    kept = [row for row in some if row.get("load_state") != "overloaded"]
    words = ("Mean TPOT, inverted, is what a user sees; numbers beside points are requests that decode at once on"
             " average. A point of the front is beaten by no other in both.")  # fmt: skip
    if len(kept) < len(some):
        words += f" {len(some) - len(kept):,} overloaded points are in no front."
    fronts = [chart(title, kept, USER, y, least) for title, y, least in (
        ("Interactivity against throughput", DEVICE, False), ("Interactivity against cost", USD, True),
        ("Interactivity against energy", joule, True))]  # fmt: skip
    latency = [
        chart(title, some, "output_throughput", y)
        for title, y in (
            ("Time to first token against throughput", "p99_ttft_ms"),
            ("Time per token against throughput", "p99_tpot_ms"),
        )
    ]
    names = [n for n in dict.fromkeys(n for row in rows for n in row) if n not in hidden]
    columns = {n: [row.get(n) for row in rows] for n in names}
    shown = {n: column for n, column in columns.items() if any(value not in (None, "") for value in column)}
    return page(title, [
        section("Pareto fronts", *fronts, said=words), section("Latency against throughput", *latency),
        f"<h2>{len(rows):,} rows</h2>", table(shown),
    ], said)  # fmt: skip


def chart(title: str, rows: Sequence[Row], x: str, y: str, least: bool | None = None) -> str:
    """Points of two columns; where `least` says what is better, those of the front in a colour of their own, with
    their concurrency."""
    there = [row for row in rows if isinstance(row.get(y), int | float) and math.isfinite(row[y])]
    if not there:
        return ""
    best = [] if least is None else front(there, x, y, least)
    every = max(1, -(-len(best) // MAX_WORD))
    labelled = {id(row) for row in best[::every]}
    series: dict[str, list[tuple[float, float, str, str]]] = {"front": [], "beaten": []} if best else {"": []}
    on_front = {(row[x], row[y]) for row in best}  # and who equals one of them in both
    for row in there:
        whole = f"{row['point']}: {row[x]:.6g} {LABEL[x]}, {row[y]:.6g} {LABEL[y]}"
        word = f"{row['concurrency']:.3g}" if id(row) in labelled and row["concurrency"] is not None else ""
        place = "" if not best else "front" if (row[x], row[y]) in on_front else "beaten"
        series[place].append((float(row[x]), float(row[y]), word, whole))
    axes = [up_to(LABEL[name], [row[name] for row in there]) for name in (x, y)]
    return points(title, axes[0], axes[1], {name: found for name, found in series.items() if found})
