"""The page of a sweep or of a recommendation: what its points cost and give, Pareto fronts, every row in a table."""

import math
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from sim.show.page.charts import points, up_to
from sim.show.page.page import page, page_bytes, refuse_empty, section, table

if TYPE_CHECKING:
    from sim.recommend.recommend import Recommendation
    from sim.sweep.sweep import Swept

MAX_WORD = 12  # points of a front that are labelled
USER, DEVICE = "token_per_s_per_user", "token_per_s_per_device"
USD, JOULE = "usd_per_million_output_token", "energy_j_per_million_output_token"
WALL = "wall_j_per_million_output_token"
LABEL = {
    USER: "tokens/s a user", DEVICE: "tokens/s a GPU", USD: "$ a million output tokens",
    JOULE: "J a million output tokens", WALL: "J at the wall a million output tokens",
    "output_throughput": "output tokens/s", "p99_ttft_ms": "P99 TTFT (ms)", "p99_tpot_ms": "P99 TPOT (ms)",
    "usd_per_h": "$ an hour",
}  # fmt: skip
Row = dict[str, Any]


def sweep_page(done: "Swept") -> str:
    """A sweep as one HTML page. Raises `InputError` where no point served a request."""
    if not done.served:
        refuse_empty()
    from sim.sweep.axes import at

    rows = []
    for row in done.rows:
        one = at(done.scenario, done.axes, [row[axis.name] for axis in done.axes])
        label = ", ".join(f"{axis.name}={row[axis.name]}" for axis in done.axes)
        rows.append({"point": label, **with_rates(row, one.dp * one.tp * one.pp * one.attn_dp)})
    said = [f"over {', '.join(axis.name for axis in done.axes)}; scenario {done.scenario.digest()}"]
    if not done.complete:
        said += ["This sweep was stopped: points that had not run are not here."]
    return points_page(f"Sweep of {done.scenario.model} on {done.scenario.system}", rows, JOULE, said, ("key",))


def recommend_page(found: "Recommendation") -> str:
    """A recommendation as one HTML page. Raises `InputError` where nothing was simulated."""
    base = found.candidates[0].deployment.base if found.candidates else None
    rows = [{"point": f"{row['pools']} {row['options']}".strip(), **with_concurrency(row)} for row in found.rows]
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


def with_rates(row: Row, num_device: int) -> Row:
    """A row of a sweep with its devices, tokens a second of a user (1 / mean TPOT) and of a device, and concurrency."""
    tpot_ms, rate = row.get("mean_tpot_ms"), row.get("output_throughput")
    more = {"num_device": num_device, USER: 1e3 / tpot_ms if tpot_ms else None}
    return with_concurrency(row | more | {DEVICE: rate / num_device if tpot_ms and rate else None})


def with_concurrency(row: Row) -> Row:
    """A row with the requests that decode at once on average: output tokens a second over those of a user.

    >>> with_concurrency({"output_throughput": 900.0, "token_per_s_per_user": 30.0})["concurrency"]
    30.0
    """
    user = row.get(USER)
    return row | {"concurrency": row["output_throughput"] / user if user else None}


def ran(row: Mapping[str, Any]) -> bool:
    """Whether a row has numbers to draw."""
    return all(isinstance(row.get(n), int | float) and math.isfinite(row[n]) for n in (USER, DEVICE))


def front(rows: Sequence[Row], x: str, y: str, least: bool = False) -> list[Row]:
    """The rows that no other beats in both `x` (more is better) and `y` (more, or with `least` less, is better), by
    falling `x`.

    >>> front([{"x": 1, "y": 9}, {"x": 2, "y": 3}, {"x": 2, "y": 5}, {"x": 1, "y": 4}], "x", "y")
    [{'x': 2, 'y': 5}, {'x': 1, 'y': 9}]
    """
    sign = -1.0 if least else 1.0
    best = -math.inf
    kept: list[Row] = []
    for row in sorted(rows, key=lambda one: (-one[x], -sign * one[y])):
        if sign * row[y] > best:
            best = sign * row[y]
            kept.append(row)
    return kept


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
