"""OpenTelemetry spans in OTLP's JSON (one object, or one a line as the collector's file exporter writes them): a span
that has `gen_ai.usage.input_tokens` and `output_tokens` is a request, unless it sums up others: an agent, a workflow, a
span with such a span below it.

Spans of one conversation (`gen_ai.conversation.id`, else one trace) are a session: a call that began after another had
ended waits for that one's end, and then as long as it did; a call that began beside it is sent when it was.
"""

import pathlib
from collections.abc import Iterator, Mapping
from typing import Any

from kernels.errors import InputError, NothingServedError
from workloads.parameters import Parameter
from workloads.requests import MAX_TOKEN, Requests
from workloads.traces._rows import NS_SINCE_1970, Row, documents
from workloads.traces._sessions import Turn, sessions

HELP = "OpenTelemetry spans, OTLP JSON: gen_ai.usage.input_tokens, output_tokens, times; conversations are sessions"
OPTIONS: dict[str, Parameter] = {
    "linked": Parameter("1: a call waits for the one before it in its conversation; 0: all as they were sent", "int",
                        default=1, low=0, high=1),
}  # fmt: skip
PS_PER_NS = 1000
INPUT = ("gen_ai.usage.input_tokens", "gen_ai.usage.prompt_tokens")
OUTPUT = ("gen_ai.usage.output_tokens", "gen_ai.usage.completion_tokens")
NO_CALL = {"create_agent", "embeddings", "execute_tool", "invoke_agent", "invoke_workflow", "retrieval"}
"""Operations of the conventions (1.41) that are no generation of a model; tokens of an agent are those of its calls."""
SCOPES = ("scopeSpans", "instrumentationLibrarySpans")
Call = tuple[int, int, int, int]  # nanoseconds of start and end, tokens of prompt and output


def sniff(head: bytes) -> bool:
    """Whether this is an object of resource spans."""
    return head.lstrip().startswith(b"{") and b'"resourceSpans"' in head[:4096]


def read(path: pathlib.Path, options: Mapping[str, Any], seed: int) -> Requests:
    """The calls of models among the spans."""
    del seed  # everything is in the file
    calls: dict[str, list[Call]] = {}
    num_other = num_failed = num_sum = 0
    spans = [(span, _attributes(span)) for span in _spans(path)]
    sums = _above([span for span, known in spans if _counts(known)], [span for span, _ in spans])
    for span, known in spans:
        tokens = [next((known[name] for name in names if name in known), None) for names in (INPUT, OUTPUT)]
        if None in tokens:
            num_other += 1
            continue
        if not _counts(known) or _place(span) in sums:
            num_sum += 1
            continue
        prompt, output = (_token(span, value, names[0]) for value, names in zip(tokens, (INPUT, OUTPUT), strict=True))
        if not prompt or not output:
            num_failed += 1
            continue
        start, end = (_time(span, name) for name in ("startTimeUnixNano", "endTimeUnixNano"))
        if end < start:
            raise span.error("endTimeUnixNano", "ends before it starts")
        session = str(known.get("gen_ai.conversation.id") or span.value.get("traceId") or "")
        calls.setdefault(session, []).append((start, end, prompt, output))
    if not calls:
        raise NothingServedError("no span says its tokens (gen_ai.usage.*)", file=path)
    chains = [chain for found in calls.values() for chain in _chains(sorted(found), bool(options["linked"]))]
    first = min(chain[0][0] for chain in chains)
    said = [f"{num_other} spans that say no tokens are left out"] if num_other else []
    said += [f"{num_sum} spans that sum up calls of models (agents, wrappers) are left out"] if num_sum else []
    said += [f"{num_failed} calls without a token of prompt or output left out"] if num_failed else []
    return sessions([_turns(chain, first) for chain in chains], note="; ".join(said))


def _counts(known: dict[str, Any]) -> bool:
    """Whether a span says the tokens of a call of a model."""
    says = all(any(name in known for name in names) for names in (INPUT, OUTPUT))
    return says and known.get("gen_ai.operation.name") not in NO_CALL


def _place(span: Row, field: str = "spanId") -> tuple[str, str]:
    """A span's name, or that of the one above it; "" where there is none."""
    return str(span.value.get("traceId")), str(span.value.get(field) or "")


def _above(calls: list[Row], spans: list[Row]) -> set[tuple[str, str]]:
    """The spans that lie above a call, at whatever distance."""
    parent = {_place(span): _place(span, "parentSpanId") for span in spans}
    found: set[tuple[str, str]] = set()
    for span in calls:
        at = _place(span, "parentSpanId")
        while at[1] and at in parent and at not in found:
            found.add(at)
            at = parent[at]
    return found


def _chains(calls: list[Call], linked: bool) -> list[list[Call]]:
    """Each call behind the one that ended last before it began, where nothing is behind that one yet."""
    chains: list[list[Call]] = []
    for call in calls:
        before = [chain for chain in chains if chain[-1][1] <= call[0]] if linked else []
        if before:
            max(before, key=lambda chain: chain[-1][1]).append(call)
        else:
            chains.append([call])
    return chains


def _turns(chain: list[Call], first: int) -> list[Turn]:
    ends = [chain[0][0], *(call[1] for call in chain)]
    return [
        Turn((call[0] - first if k == 0 else 0) * PS_PER_NS, call[2], call[3], (call[0] - ends[k]) * PS_PER_NS)
        for k, call in enumerate(chain)
    ]


def _spans(path: pathlib.Path) -> Iterator[Row]:
    for row in documents(path):
        for resource in row.objects("resourceSpans"):
            for scope in (name for name in SCOPES if resource.has(name)):
                for inner in resource.objects(scope):
                    yield from inner.objects("spans") if inner.has("spans") else ()


def _attributes(span: Row) -> dict[str, Any]:
    """Attributes by name; the value of the one kind that each has."""
    found = {}
    for pair in span.objects("attributes") if span.has("attributes") else ():
        value = pair.value.get("value")
        if isinstance(value, dict) and value:
            found[str(pair.value.get("key"))] = next(iter(value.values()))
    return found


def _token(span: Row, value: Any, name: str) -> int:
    """A count: OTLP writes 64-bit integers as texts."""
    try:
        number = int(value) if not isinstance(value, bool) else -1
    except (TypeError, ValueError):
        number = -1
    if not 0 <= number <= MAX_TOKEN:
        raise InputError("not a whole number in range", file=span.path, line=span.line, field=f"{span.prefix}{name}",
                         value=value, allowed=f"0 to {MAX_TOKEN}")  # fmt: skip
    return number


def _time(span: Row, name: str) -> int:
    value = span.value.get(name)
    text = str(value) if isinstance(value, str | int) and not isinstance(value, bool) else ""
    if not text.isdigit() or len(text) > 19 or not NS_SINCE_1970[0] <= int(text) <= NS_SINCE_1970[1]:
        raise span.error(name, "not nanoseconds since 1970", f"{NS_SINCE_1970[0]} to {NS_SINCE_1970[1]}")
    return int(text)
