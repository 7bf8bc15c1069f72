"""Requests from a seed: arrival processes with lengths, shared prefixes, sessions, priorities, a predictor."""

from collections.abc import Mapping
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt

from kernels.errors import InputError, NothingServedError
from kernels.units import PS_PER_S
from workloads import arrivals, prefixes
from workloads.lengths import Length, parse_length, quantile, show
from workloads.normal import normal_quantile
from workloads.parameters import MAX_CONCURRENCY, NUM_REQUEST, Parameter
from workloads.requests import MAX_TOKEN, Requests, build
from workloads.seeds import generator

Floats = npt.NDArray[np.float64]
Ints = npt.NDArray[np.int64]

# Azure 2023 conversation trace: 19,366 requests of 2023-11-16, prompts of mean 1155 and standard deviation 1109,
# outputs 211 and 163, 5.53 requests a second with a gap variation of 1.09 (pandas `describe()` of
# AzureLLMInferenceTrace_conv.csv, AzurePublicDataset, CC-BY-4.0; the same means in Patel et al., Splitwise,
# ISCA 2024). Prompts are cut at 7168, not 14050, so that prompt and output fit the 8192 tokens of common models.
CONVERSATION_PROMPT = parse_length("lognormal:mean=1155:std=1109:max=7168")
CONVERSATION_OUTPUT = parse_length("lognormal:mean=211:std=163:max=1000")
CONVERSATION_RATE, CONVERSATION_CV = 5.53, 1.09
CUT = "prompts of the conversation load are drawn up to 7,168 tokens, where its trace goes to 14,050"

RATE = Parameter("requests (with turns: sessions) a second", low=1e-6, high=1e6, required=True)
CV = Parameter("variation of the gaps: 1 Poisson, 0 constant, above 1 bursts", default=1.0, low=0.0, high=20.0)
DURATION = Parameter("make the arrivals of so many seconds, instead of n", low=1e-6, high=9e6)
THINK = {
    "think_s": Parameter("seconds from an answer to the next request", default=0.0, high=1e6),
    "think_cv": Parameter("variation of the think time", default=0.0, high=20.0),
}
BODY: dict[str, Parameter] = {
    "prompt": Parameter("prompt tokens (after a system prompt; of a turn: what is new)", "length"),
    "output": Parameter("output tokens", "length"),
    "pairs": Parameter("CSV of prompt,output: rows drawn together, instead of prompt and output", "text"),
    "corr": Parameter("correlation of prompt and output (Gaussian copula)", default=0.0, low=-0.999, high=0.999),
    "predict_sigma": Parameter("error of the length predictor (of the logarithm)", default=0.0, high=10.0),
    "num_adapter": Parameter("distinct adapters (LoRA) that requests ask for", "int", default=0, low=1, high=1e6),
    "adapter_alpha": Parameter(
        "popularity of adapters: floor(num_adapter u), u with density alpha u^(alpha-1); 1: all alike",
        default=1.0, low=0.01, high=100.0,
    ),
    "num_image": Parameter("images of a request; their tokens come on top of prompt", "int", default=0, high=32_767),
    "image_token": Parameter("tokens of the prompt that an image is", "int", default=0, high=MAX_TOKEN),
    "priority": Parameter("shares of the priorities 0, 1, ... as 0.8+0.2", "shares"),
    "num_system_prompt": Parameter("distinct system prompts", "int", default=0, low=1, high=1e6),
    "system_prompt_len": Parameter("tokens of a system prompt", "int", default=0, high=MAX_TOKEN),
    "num_user_per_system_prompt": Parameter(
        "distinct prompts a system prompt; they repeat in a shuffled round (absent: every prompt is new)",
        "int", default=0, low=1, high=1e6,
    ),
    "unit_token": Parameter("tokens a prefix unit", "int", default=16, low=1, high=MAX_TOKEN),
}  # fmt: skip
TURNS = {"turns": Parameter("turns a session; each prompt holds the history", "length"), **THINK}
CAP = {"max_concurrency": MAX_CONCURRENCY}
OPEN = {"n": NUM_REQUEST, "duration_s": DURATION, **CAP, **BODY, **TURNS}


class Process(NamedTuple):
    """An arrival process: what it is and the keys it takes."""

    help: str
    parameters: dict[str, Parameter]


PROCESSES: dict[str, Process] = {
    "conversation": Process(
        "the default load: lengths, rate and burstiness of the Azure 2023 conversation trace",
        {
            "rate": RATE._replace(default=CONVERSATION_RATE, required=False),
            "cv": CV._replace(default=CONVERSATION_CV),
            **OPEN,
        },
    ),
    "poisson": Process("independent arrivals", {"rate": RATE, **OPEN}),
    "gamma": Process("gamma gaps of any burstiness", {"rate": RATE, "cv": CV._replace(required=True), **OPEN}),
    "constant": Process("equal gaps", {"rate": RATE, **OPEN}),
    "staged": Process(
        "rates one after another",
        {
            "stages": Parameter("rate:seconds+rate:seconds+...", "stages", required=True, high=1e6),
            "cv": CV,
            **CAP,
            **BODY,
            **TURNS,
        },
    ),
    "closed_loop": Process(
        "users who wait for their answer, think and ask again",
        {
            "users": Parameter("concurrent users", "int", low=1, high=1e7, required=True),
            "n": NUM_REQUEST._replace(required=True),
            "ramp_s": Parameter(
                "users begin spread over so many seconds, one at random in each even part; 0: all at once",
                low=0,
                high=1e6,
                default=0.0,
            ),
            **THINK,
            **BODY,
        },
    ),
    "batch": Process("all at once", {"n": NUM_REQUEST._replace(required=True), **CAP, **BODY}),
}


def generate(process: str, given: Mapping[str, Any], seed: int) -> Requests:
    """Requests of an arrival process; `given` holds values checked by `parameters.parse_values`.

    Every component (arrivals, prompts, outputs, thinking, ...) draws from a generator of its own.
    """
    parameters = PROCESSES[process].parameters
    values = {key: given.get(key, parameter.default) for key, parameter in parameters.items()}
    _check(process, values)
    arrival_s, num_turn = _arrivals(process, values, seed)
    num = int(num_turn.sum()) if num_turn is not None else len(arrival_s)
    order: Ints | None = None
    parent: Ints | None = None
    think_s: Floats | None = None
    if num_turn is not None:
        think_s = values["think_s"] * arrivals.gaps(generator(seed, "think"), num, values["think_cv"])
        arrival_s, parent, order = arrivals.chains(arrival_s, num_turn, think_s)
        think_s = np.where(parent < 0, 0.0, think_s[order])
    arrivals.check_times(arrival_s)
    is_session = values.get("turns") is not None
    drawn = process == "conversation" and given.get("prompt") is None and values["pairs"] is None
    prompt, output, units = _bodies(values, num, num_turn if is_session else None, seed)
    if is_session and order is not None:
        prompt, output = prompt[order], output[order]
        units = prefixes.Units(units.start[order], units.stop[order], units.unit_id)
    prompt = prompt + values["num_image"] * values["image_token"]
    if int(prompt.max()) > MAX_TOKEN:
        raise InputError(
            "prompt and system prompt", field="prompt", value=int(prompt.max()), allowed=f"1 to {MAX_TOKEN}"
        )
    return build(
        np.rint(arrival_s * PS_PER_S).astype(np.int64),
        prompt,
        output,
        predicted_token=predict(output, values["predict_sigma"], seed),
        priority=_priorities(values["priority"], num, seed),
        adapter=_adapters(values["num_adapter"], values["adapter_alpha"], num, seed),
        num_image=np.full(num, values["num_image"]),
        image_token=np.full(num, values["image_token"]),
        unit_start=units.start,
        unit_stop=units.stop,
        unit_id=units.unit_id,
        unit_token=values["unit_token"],
        parent=parent,
        think_ps=None if think_s is None else np.rint(think_s * PS_PER_S).astype(np.int64),
        max_concurrency=values.get("max_concurrency") or 0,
        note=CUT if drawn else "",
    )


def _check(process: str, values: dict[str, Any]) -> None:
    """What one key cannot say alone; fills in the default lengths of the conversation load."""
    bodies = [key for key in ("prompt", "output") if values[key] is not None]
    if values["pairs"] is not None and (bodies or values["corr"]):
        raise InputError(
            "pairs= draws both lengths", field="pairs", value=values["pairs"], allowed="no prompt, output, corr"
        )
    if values["pairs"] is None and process == "conversation":
        values["prompt"] = values["prompt"] or CONVERSATION_PROMPT
        values["output"] = values["output"] or CONVERSATION_OUTPUT
    elif values["pairs"] is None and len(bodies) < 2:
        raise InputError(f"{process} needs prompt= and output=, or pairs=", field="requests", value=process)
    if "duration_s" in values and (values["n"] is None) == (values["duration_s"] is None):
        if process != "conversation" or values["n"] is not None:
            raise InputError(f"{process} needs one of n= and duration_s=", field="requests", value=process)
        values["n"] = 1000
    if (values["system_prompt_len"] or values["num_user_per_system_prompt"]) and not values["num_system_prompt"]:
        raise InputError("a system prompt needs num_system_prompt=", field="requests", value=process)
    if values.get("turns") is not None and values["num_user_per_system_prompt"]:
        raise InputError("prompts that repeat have no turns", field="num_user_per_system_prompt", value=process)
    _check_effect(process, values)


def _check_effect(process: str, values: dict[str, Any]) -> None:
    """Keys that do nothing without another."""
    chained = process == "closed_loop" or values.get("turns") is not None
    shared = values["num_system_prompt"] or values.get("turns") is not None
    lengths = [values[key] for key in ("prompt", "output")]
    fixed = any(isinstance(length, Length) and length.distribution == "fixed" for length in lengths)
    for key, has_effect, needs in (
        ("think_s", chained, "turns="),
        ("think_cv", chained and values.get("think_s"), "think_s="),
        ("corr", not fixed, "a prompt and an output that vary"),
        ("num_system_prompt", values["system_prompt_len"] or values["num_user_per_system_prompt"],
         "system_prompt_len= or num_user_per_system_prompt="),
        ("adapter_alpha", values["num_adapter"], "num_adapter="),
        ("num_image", values["image_token"], "image_token="),
        ("image_token", values["num_image"], "num_image="),
        ("unit_token", shared, "num_system_prompt= or turns="),
    ):  # fmt: skip
        value = values.get(key)
        neutral = PROCESSES[process].parameters[key].default if key in PROCESSES[process].parameters else None
        if value is not None and value != neutral and not has_effect:
            allowed = show(float(neutral or 0))
            raise InputError(f"has no effect without {needs}", field=key, value=value, allowed=allowed)


def _arrivals(process: str, values: dict[str, Any], seed: int) -> tuple[Floats, Ints | None]:
    """First arrivals, and the number of turns that follow each (None: requests stand alone)."""
    rng = generator(seed, "arrival")
    num: int | None = values.get("n")
    if process == "batch" and num is not None:
        return np.zeros(num), None
    if process == "closed_loop" and num is not None:
        users = min(values["users"], num)
        first_s = values["ramp_s"] * (np.arange(users) + rng.random(users)) / users
        return first_s, np.full(users, num // users) + (np.arange(users) < num % users)
    cv = float({"poisson": 1.0, "constant": 0.0}.get(process, values.get("cv", 1.0)))
    turns: Length | None = values["turns"]
    num_turn = None
    if process == "staged":
        first_s = arrivals.staged(rng, values["stages"], cv)
    elif num is None:
        first_s = arrivals.within(rng, values["duration_s"], values["rate"], cv)
    else:
        if turns is not None:  # sessions until there are n requests; the last one may be cut short
            num_turn = quantile(turns, generator(seed, "turn").random(num))
            num_session = int(np.searchsorted(np.cumsum(num_turn), num)) + 1
            num_turn = num_turn[:num_session]
            num_turn[-1] -= int(num_turn.sum()) - num
            num = num_session
        first_s = arrivals.renewal(rng, num, values["rate"], cv)
    if not len(first_s):
        raise NothingServedError("no request arrives in that time", field="requests", value=process)
    if turns is not None and num_turn is None:
        num_turn = quantile(turns, generator(seed, "turn").random(len(first_s)))
        if int(num_turn.sum()) > arrivals.MAX_REQUEST:
            raise InputError("too many requests", field="turns", value=str(turns))
    return first_s, num_turn


def _bodies(values: dict[str, Any], num: int, num_turn: Ints | None, seed: int) -> tuple[Ints, Ints, prefixes.Units]:
    """Prompts, outputs and prefix units, session after session where there are sessions."""
    num_system, system_len, unit = values["num_system_prompt"], values["system_prompt_len"], values["unit_token"]
    num_user = values["num_user_per_system_prompt"]
    rng = generator(seed, "prefix")
    if num_user:
        num_distinct = num_system * num_user
        if num_distinct > arrivals.MAX_REQUEST:
            allowed = f"{arrivals.MAX_REQUEST} distinct prompts at most"
            raise InputError("too many", field="num_user_per_system_prompt", value=num_user, allowed=allowed)
        pick = np.resize(rng.permutation(num_distinct), num)
        question, output = _lengths(values, num, seed, num_distinct)
        stream = system_len + question[:num_distinct]
        system = np.arange(num_distinct) // num_user
        units = prefixes.streams(system, num_system, system_len, stream // unit * unit, unit)
        return stream[pick], output, prefixes.Units(units.start[pick], units.stop[pick], units.unit_id)
    question, output = _lengths(values, num, seed, num)
    if num_turn is not None:
        system = rng.integers(num_system, size=len(num_turn)) if num_system else np.zeros(len(num_turn), np.int64)
        prompt, stream = prefixes.histories(np.full(len(num_turn), system_len), question, output, num_turn)
        units = prefixes.streams(system, num_system, system_len, stream, unit)
        start, stop = np.repeat(units.start, num_turn), np.repeat(units.stop, num_turn)
        return (
            prompt,
            output,
            prefixes.Units(start, np.minimum(stop, start - (-(prompt + output) // unit)), units.unit_id),
        )
    if num_system:
        system = rng.integers(num_system, size=num)
        return question + system_len, output, prefixes.system_prompts(system, num_system, system_len, unit)
    return question, output, prefixes.Units(np.zeros(num, np.int64), np.zeros(num, np.int64), np.zeros(0, np.int64))


def _lengths(values: dict[str, Any], num: int, seed: int, num_prompt: int) -> tuple[Ints, Ints]:
    """`num_prompt` prompt lengths (at least) and `num` output lengths."""
    size = max(num, num_prompt)
    u = np.maximum(generator(seed, "prompt_token").random(size), 1e-300)
    if values["pairs"] is not None:
        from workloads.traces.sharegpt import read_pairs

        rows = read_pairs(values["pairs"])
        row = np.minimum((u * len(rows)).astype(np.int64), len(rows) - 1)
        return rows[row, 0], rows[row[:num], 1]
    v = np.maximum(generator(seed, "output_token").random(size), 1e-300)
    if values["corr"]:
        from scipy.special import ndtr

        v = ndtr(values["corr"] * normal_quantile(u) + np.sqrt(1.0 - values["corr"] ** 2) * normal_quantile(v))
        v = np.minimum(v, np.nextafter(1.0, 0.0))
    return quantile(values["prompt"], u), quantile(values["output"], v[:num])


def predict(output: Ints, sigma: float, seed: int) -> Ints:
    """What a predictor says of `output`: off by a lognormal factor of median 1 (exact where `sigma` is 0).

    >>> predict(np.array([7, 9]), 0.0, 0).tolist()
    [7, 9]
    """
    if sigma == 0.0:
        return output
    factor = np.exp(sigma * generator(seed, "predict").standard_normal(len(output)))
    return np.clip(np.rint(output * factor), 1, MAX_TOKEN).astype(np.int64)


def _adapters(num_adapter: int, alpha: float, num: int, seed: int) -> Ints | None:
    """The adapter of each request; None: the base model for all."""
    if not num_adapter:
        return None
    share = generator(seed, "adapter").power(alpha, num)
    return np.minimum((num_adapter * share).astype(np.int64), num_adapter - 1)


def _priorities(shares: tuple[float, ...] | None, num: int, seed: int) -> npt.NDArray[np.int64] | None:
    if shares is None:
        return None
    edges = np.cumsum(shares)[:-1]
    return np.searchsorted(edges, generator(seed, "priority").random(num), side="right").astype(np.int64)
