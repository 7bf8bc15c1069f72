"""`ridgeline validate points FILE`: steady-state serving points (a concurrency, TTFT, TPOT) against their simulation.

A row names a model, a system, a placement, input and output lengths, a concurrency and formats, and what was
measured. It is simulated as a closed loop: that many users, each asking again as soon as it is answered, as its
`protocol` has it.

`burst`: all users start together, lengths are 0.8 to 1 of the nominal ones, everything is averaged (what the benchmark
clients of engines do; taken too where a row names its engine and no protocol). `steady`: users who begin together stay
together (their prompts queue behind each other, and nobody asks while they decode), so that they begin spread over the
time of one answer, which a first run of two rounds tells; the first two rounds and the last are left out.

An `engine` (vllm, sglang, trtllm, with a version or without) is priced and scheduled by its profile. Columns go by the
names in `ALIASES`. Where `ep` is above `tp`, `dp` counts attention groups that share the
experts, else replicas.
"""

import argparse
import math
import pathlib
from collections import Counter
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from hw_models.calibration.odd_rows import OddRows

HELP = "steady-state serving points (TTFT, TPOT at a concurrency) against their simulation"

ALIASES: dict[str, tuple[str, ...]] = {
    "model": ("model", "model_id", "model_path"),
    "system": ("system", "gpu", "hardware", "device", "hw"),
    "tp": ("tp", "tensor_parallel", "tp_size"),
    "pp": ("pp", "pipeline_parallel", "pp_size"),
    "dp": ("dp", "data_parallel", "dp_size"),
    "ep": ("ep", "expert_parallel", "ep_size", "moe_ep", "moe_ep_size"),
    "attn_dp": ("attn_dp", "attention_dp", "attention_dp_size", "attn_dp_size", "dp_attention"),
    "input_len": ("input_len", "isl", "input_length", "prompt_len", "prompt_token"),
    "output_len": ("output_len", "osl", "output_length", "output_token"),
    "concurrency": ("concurrency", "max_concurrency", "conc", "batch", "batch_size", "users"),
    "weight_format": ("weight_format", "format", "weights", "quantization", "gemm_dtype", "dtype", "precision"),
    "kv_format": ("kv_format", "kv_dtype", "kv_cache_dtype"),
    "engine": ("engine", "framework", "backend", "runtime"),
    "protocol": ("protocol",),
    "request_per_user": ("request_per_user", "requests_per_user"),
    "ttft_s": ("ttft_s", "ttft_ms", "ttft", "mean_ttft_ms", "median_ttft_ms", "mean_ttft_s"),
    "tpot_s": ("tpot_s", "tpot_ms", "tpot", "mean_tpot_ms", "median_tpot_ms", "mean_tpot_s"),
}
NEEDED = ("model", "system", "input_len", "output_len", "concurrency")
MOST = 1e7  # of tokens of a request, devices, or milliseconds: what a run can be asked for
MOST_USER = 65536
CLASSES = ((1, "one_user"), (16, "up_to_16_users"), (128, "up_to_128_users"), (1 << 62, "over_128_users"))
ROUNDS, WARM_ROUNDS = 6, 2  # requests a user, and those that are not counted at the start; nor is the last
BURST_ROUNDS, BURST_SHORTEST = 10, 0.8  # requests a user where a row does not say, and the shortest of its lengths
PROTOCOLS = ("steady", "burst")
BLANK = {"tp": 1, "pp": 1, "dp": 1, "ep": 1, "attn_dp": 1, "request_per_user": BURST_ROUNDS}  # what an empty cell means
SEED = 0  # of when users begin
CHUNK = 8192  # prompt tokens a step and attention group, as engines ship


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("file", metavar="FILE", help="CSV of points")
    parser.add_argument("--engine", default="vllm_0.15", help="engine profile (default: vllm_0.15)")
    parser.add_argument("--json", metavar="OUT", help="write the rows")


def run(arguments: argparse.Namespace) -> int:
    from sim.validate._rows import finish

    rows, reasons = validate_points(arguments.file, arguments.engine)
    return finish(rows, arguments.json, reasons)


def validate_points(file: str | pathlib.Path, engine: str = "vllm_0.15") -> tuple[list[dict[str, Any]], Counter[str]]:
    """A row of error for TTFT and for TPOT in all, by system and model (`kernel`), by format, and by concurrency
    (`size_class`); and why rows were not simulated, or are no measurement (what beats the speed of light tenfold or is
    a hundred times slower a token among them). Fits nothing. Raises `InputError` where no row is a measurement."""
    import numpy as np

    from hw_models.calibration.odd_rows import OddRows
    from kernels.errors import InputError
    from sim.validate._light import light_s, note_light, note_slow
    from sim.validate._rows import error_row

    odd = OddRows(pathlib.Path(file))
    frame = read(odd.file, odd)
    good = odd.stands(len(frame))
    reasons: Counter[str] = Counter()
    found = {"ttft_s": np.full(len(frame), np.nan), "tpot_s": np.full(len(frame), np.nan)}
    for index, row in enumerate(frame.to_dict("records")):
        if not good[index]:
            continue
        sizes = {name: int(row.get(name, 1)) for name in ("tp", "pp", "dp", "ep", "attn_dp")}
        num_device = max(sizes["tp"] * sizes["dp"] * sizes["attn_dp"], sizes["ep"]) * sizes["pp"]
        where = str(row["model"]), str(row["system"]), num_device
        try:
            least = light_s(*where, int(row["input_len"]), row["weight_format"])
        except InputError as error:
            reasons[str(error)] += 1
            continue
        pairs = [(name, row.get(name, np.nan), least_s) for name, least_s in zip(found, least, strict=True)]
        if any(note_light(odd, index, *pair) for pair in pairs):
            continue
        try:
            ours = simulate_point(row, engine)
        except InputError as error:
            reasons[str(error)] += 1
            continue
        if not note_slow(odd, index, "tpot_s", row.get("tpot_s", np.nan), ours[1]):
            found["ttft_s"][index], found["tpot_s"][index] = ours
    odd.stands(len(frame))
    odd.count(reasons)
    users = frame["concurrency"].map(lambda value: next(name for most, name in CLASSES if value <= most))
    every = {"system": frame["system"], "model": frame["model"], "format": frame["weight_format"], "users": users}
    every["protocol"] = frame["protocol"]
    groups: list[dict[str, Any]] = [{}]
    groups += [{"system": s, "model": m} for s, m in sorted(set(zip(frame["system"], frame["model"], strict=True)))]
    groups += [{"format": name} for name in sorted(set(frame["weight_format"]))]
    groups += [{"users": name} for _, name in CLASSES if (users == name).any()]
    groups += [{"protocol": name} for name in PROTOCOLS if (frame["protocol"] == name).any()]
    rows = []
    for group in groups:
        chosen = np.ones(len(frame), bool)
        for key, value in group.items():
            chosen &= (every[key] == value).to_numpy()
        for metric in ("ttft_s", "tpot_s"):
            if metric not in frame:
                continue
            measured = frame[metric].to_numpy(float)
            given = chosen & np.isfinite(measured)
            ran = given & np.isfinite(found[metric])
            pair = found[metric][ran].tolist(), measured[ran].tolist()
            model, system, fmt = (str(group.get(key, "all")) for key in ("model", "system", "format"))
            size = str(group.get("users", group.get("protocol", "all")))
            name, count = metric.removesuffix("_s"), int(given.sum())
            rows.append(error_row(name, model, system, *pair, count, number_format=fmt, size_class=size))
    return rows, reasons


def read(path: pathlib.Path, odd: "OddRows | None" = None) -> Any:
    """The file with our column names, times in seconds; an `InputError` where a column is amiss, or a value where
    there is no `odd` to note it."""
    import numpy as np

    from hw_models.calibration.measured import read_frame
    from hw_models.calibration.odd_rows import OddRows
    from kernels.errors import InputError
    from sim.validate._published_names import known_format

    raw = read_frame(path, ())
    noted = OddRows(path) if odd is None else odd
    lower = {str(name).lower(): name for name in raw.columns}
    frame = raw.iloc[:, :0].copy()
    for name, aliases in ALIASES.items():
        source = next((lower[alias] for alias in aliases if alias in lower), None)
        if source is None:
            if name in NEEDED:
                raise InputError("column is missing", file=path, field=name, value="", allowed=aliases)
            continue
        if name in ("model", "system", "weight_format", "kv_format", "engine", "protocol"):
            frame[name] = raw[source].astype(str).where(raw[source].notna(), "")
            continue
        word = raw[source].astype(str).str.lower()
        if name == "attn_dp" and word.isin(("true", "false")).any():  # each rank of a replica is a group of its own
            on, tp = word == "true", frame.get("tp", 1.0)
            noted.note(~word.isin(("true", "false")), "not true or false", str(source), raw[source].to_list())
            frame[name], frame["tp"] = np.where(on, tp, 1.0), np.where(on, 1.0, tp)
            continue
        timed = name.endswith("_s")
        blank = math.nan if timed else BLANK.get(name)
        most = MOST_USER if name == "concurrency" else MOST
        values = noted.number(raw, str(source), positive=True, whole=not timed, most=most, blank=blank)
        milliseconds = name.endswith("_s") and not str(source).lower().endswith("_s")
        frame[name] = values * 1e-3 if milliseconds else values
    stored = frame["weight_format"] if "weight_format" in frame else [""] * len(frame)
    frame["weight_format"] = [known_format(*pair) for pair in zip(stored, frame["model"], strict=True)]
    if "kv_format" in frame:
        frame["kv_format"] = [known_format(text, "") for text in frame["kv_format"]]
    named = frame["engine"] if "engine" in frame else [""] * len(frame)
    told = frame["protocol"].str.strip().str.lower() if "protocol" in frame else [""] * len(frame)
    frame["protocol"] = [how or ("burst" if engine else "steady") for how, engine in zip(told, named, strict=True)]
    words = frame["protocol"].tolist()
    noted.note([how not in PROTOCOLS for how in words], "unknown", "protocol", words, ", ".join(PROTOCOLS))
    if odd is None:
        noted.check()
    if not {"ttft_s", "tpot_s"} & set(frame.columns):
        raise InputError("nothing was measured", file=path, field="ttft_s", value="", allowed=ALIASES["ttft_s"])
    return frame


def simulate_point(row: dict[str, Any], engine: str) -> tuple[float, float]:
    """Mean TTFT and TPOT (seconds) of one point by its protocol."""
    taken = burst_requests(row, engine) if row.get("protocol") == "burst" else steady_requests(row, engine)
    return float(taken["ttft_s"].mean()), float(taken["tpot_s"].mean())


def profile_of(text: str, usual: str) -> str:
    """The profile of an engine as files name it: `usual` where they name none, or vLLM without a version.

    >>> [profile_of(text, "vllm_0.15") for text in ("", "vLLM", "vllm 0.33.0", "SGLang 0.5.5", "TensorRT-LLM")]
    ['vllm_0.15', 'vllm_0.15', 'vllm_0.33', 'sglang', 'trtllm']
    """
    from kernels.errors import InputError
    from sim.serving.engine_profile import names

    word = "".join(c for c in text.lower() if c.isalpha())
    version = ".".join("".join(c if c.isdigit() else " " for c in text).split()[:2])
    stem = next((stem for known, stem in ENGINES.items() if word.startswith(known)), None)
    if not word or (stem == "vllm" and f"vllm_{version}" not in names()):
        return usual
    if stem is None:
        raise InputError("no profile of this engine", field="engine", value=text, allowed=sorted(set(ENGINES.values())))
    return f"vllm_{version}" if stem == "vllm" else stem


ENGINES = {"vllm": "vllm", "sglang": "sglang", "trtllm": "trtllm", "tensorrtllm": "trtllm", "trt": "trtllm"}


def burst_requests(row: dict[str, Any], engine: str) -> Any:
    """All requests that are served of users who start together; an `InputError` where none is."""
    num_round = int(row.get("request_per_user", BURST_ROUNDS))
    return _done(scenario_of(row, engine, num_round, 0.0, BURST_SHORTEST), row)


def _done(scenario: Any, row: dict[str, Any]) -> Any:
    from kernels.errors import InputError
    from sim.run.simulate import simulate

    requests = simulate(scenario).run.requests
    done = requests[requests["status"] == "finished"]
    if not len(done):
        why = requests["reason"].iloc[0] or "unfinished"
        raise InputError(f"no request is served: {why}", field="input_len", value=int(row["input_len"]))
    return done


def steady_requests(row: dict[str, Any], engine: str) -> Any:
    """The requests of the steady rounds, in order of arrival; an `InputError` where none is served."""
    users = int(row["concurrency"])
    answer_s = 0.0
    for num_round in (WARM_ROUNDS, ROUNDS):
        done = _done(scenario_of(row, engine, num_round, answer_s), row)
        answer_s = float(done["e2e_s"].mean())
    return done.sort_values("arrival_s", kind="stable").iloc[WARM_ROUNDS * users : (ROUNDS - 1) * users]


def scenario_of(row: dict[str, Any], engine: str, num_round: int, ramp_s: float, shortest: float = 1.0) -> Any:
    """`num_round` requests for each of the row's users, who begin spread over `ramp_s`; lengths from `shortest` times
    the row's to the row's, all alike."""
    from sim.run.scenario import from_mapping
    from sim.validate._published_names import known_model, known_system

    users = int(row["concurrency"])
    length = [
        str(most) if shortest == 1.0 else f"uniform:min={max(1, int(shortest * most))}:max={most}"
        for most in (int(row["input_len"]), int(row["output_len"]))
    ]
    load = f"closed_loop:users={users},n={users * num_round},ramp_s={ramp_s:.9g},prompt={length[0]},output={length[1]}"
    profile = profile_of(str(row.get("engine", "")), engine)
    given: dict[str, Any] = {name: int(row[name]) for name in ("tp", "pp", "dp", "ep", "attn_dp") if name in row}
    given |= {name: str(row[name]) for name in ("weight_format", "kv_format") if name in row}
    shared = max(given.get("attn_dp", 1), given.get("ep", 1) // given.get("tp", 1), 1)  # attention groups of a replica
    spread = (
        1 if given.get("attn_dp", 1) > 1 else max(given.get("ep", 1) // given.get("tp", 1), 1)
    )  # of dp, one replica
    return from_mapping(
        {
            "model": known_model(str(row["model"])),
            "system": known_system(str(row["system"])),
            "requests": load,
            "policy": _policy(profile, CHUNK * shared, max(256, users)),
            "engine": profile,
            **({"router": "least_outstanding"} if given.get("dp", 1) > spread else {}),
            "seed": SEED,
            **given,
        }
    )


def _policy(engine: str, token: int, seq: int) -> str:
    """The engine's own policy with these limits."""
    from sim.serving.engine_profile import load

    return f"{load(engine).policy}:max_token={token},max_seq={seq}"
