"""Does a state in place of keys and values let more sequences run, and faster? (Llamba, arXiv 2502.14458, section 4)"""

import itertools
import json
import pathlib
import tempfile
from typing import TYPE_CHECKING, Any

import pandas as pd

from sim.record.export import write_json
from sim.run.scenario import Scenario
from sim.run.setup import prepare
from sim.run.simulate import simulate
from sim.show.plot_style import BLUE, GREEN, ORANGE, new_figure, styled, suptitle
from studies._panels import log_places, number_log
from studies._verdict import frame, order, point
from workloads import kv
from workloads.models.catalogue import FOLDER

if TYPE_CHECKING:
    from matplotlib.figure import Figure

CLAIM = (
    "Llamba (Bick et al. 2025): Llama with Mamba-2 for attention runs larger batches at higher throughput (no number)"
)

# The configurations are the authors'. GPU, lengths and batches of the throughput figure are not published, nor the
# format of the state in it: their code allocates fp32 and casts it to the activations' format at the first step.
PAIR = ("llamba-8b", "llama-3.1-8b")
STATES = {"fp32 state": "float32", "bf16 state": "bfloat16"}
LENGTHS = (256, 1024, 4096, 16384)
SYSTEMS = ("h100_sxm", "a100_sxm_80gb")
PROMPT, EQUAL, MOST = 64, 32, 2048
OPEN = (
    "GPU, lengths, batches and the format of the state are not published: all combinations are run and must agree; at "
    f"most {MOST} sequences at once, prompts of {PROMPT} tokens"
)
BATCH, RATE, LEVEL = "sequences at once", "tokens/s, memory full", f"tokens/s, batch {EQUAL}"

SMALL = {"lengths": (256, 4096), "systems": ("h100_sxm",)}


def run(lengths: tuple[int, ...] = LENGTHS, systems: tuple[str, ...] = SYSTEMS) -> pd.DataFrame:
    """Points of each model, machine and length, then the orders that the paper states over all of them."""
    table: list[dict[str, Any]] = []
    value: dict[tuple[str, str, str, int], float] = {}
    with tempfile.TemporaryDirectory() as folder:
        models = {"llama-3.1-8b": PAIR[1]} | {name: _with_state(folder, name) for name in STATES}
        for name, model in models.items():
            for system in systems:
                for length in lengths:
                    for claim, found in _measured(model, system, length).items():
                        value[claim, name, system, length] = found
                        table.append(point("Llamba", f"{claim}, {name}", f"{system}, {length} tokens", found, OPEN))

    def gains(claim: str, over: int = 0) -> list[list[float]]:
        """Llamba's over Llama's by growing length, a list for each format and machine."""
        return [
            [value[claim, name, system, n] / value[claim, PAIR[1], system, n] for n in lengths if n >= over]
            for name in STATES for system in systems
        ]  # fmt: skip

    where = f"{', '.join(systems)}; {', '.join(map(str, lengths))} tokens"
    even = _even_token()
    for name, token in even.items():
        table.append(point("Llamba", f"tokens whose KV is as large as a state, {name}", PAIR[1], token))
    for claim, text, times in (
        (BATCH, "larger batches", 1), (RATE, "higher throughput at the largest batch", 2),
    ):  # fmt: skip
        least = times * max(even.values())  # a state takes its room, and is read and written
        each = [gain for row in gains(claim) for gain in row]
        far = [gain for row in gains(claim, round(least)) for gain in row]
        said = f"{min(each):.3g} to {max(each):.4g} times; {OPEN}"
        small = f"below {least:.0f} tokens Llama's KV is smaller than {times} fp32 states; {said}"
        table.append(order("Llamba", f"{text}, at every length", where, min(each) > 1, small))
        table.append(order("Llamba", f"{text}, where KV outgrows {times} states", where, min(far) > 1, said))
        grows = all(a < b for row in gains(claim) for a, b in itertools.pairwise(row))
        table.append(order("Llamba", f"{text}: the more the longer the sequences", where, grows, OPEN))
    same = [
        value[BATCH, name, system, n] for name in STATES for system in systems for n in (min(lengths), max(lengths))
    ]
    constant = all(a == b for a, b in zip(same[::2], same[1::2], strict=True))
    table.append(order("Llamba", "its batch does not depend on the length", where, constant, OPEN))
    return frame(table)


def _even_token() -> dict[str, float]:
    """Tokens whose keys and values in Llama are as many bytes as a state of Llamba, by its format."""
    with tempfile.TemporaryDirectory() as folder:
        budgets = {
            name: prepare(Scenario(model=_with_state(folder, name), system=SYSTEMS[0])).budget for name in STATES
        }
    token_byte = kv.token_byte(prepare(Scenario(model=PAIR[1], system=SYSTEMS[0])).budget.group)
    return {name: kv.state_byte(budget.group) / token_byte for name, budget in budgets.items()}


def _with_state(folder: str, name: str) -> str:
    """The published configuration with the state in a format."""
    config = json.loads((FOLDER / "configs" / f"{PAIR[0]}.json").read_text())
    path = pathlib.Path(folder) / f"{name.partition(' ')[0]}.json"
    write_json(config | {"mamba_ssm_dtype": STATES[name]}, path)
    return str(path)


def _measured(model: str, system: str, length: int) -> dict[str, float]:
    """Sequences of `length` that the memory holds, and tokens a second of so many at once, and of a batch for both."""
    scenario, fits = Scenario(model=model, system=system), MOST
    for _ in range(2):  # logits of a step take memory too, by its sequences
        budget = prepare(scenario, 2048, fits).budget
        fits = min(MOST, int(budget.kv // budget.sequence_byte(length)))
    return {BATCH: float(fits), RATE: _rate(scenario, fits, length), LEVEL: _rate(scenario, min(EQUAL, fits), length)}


def _rate(scenario: Scenario, batch: int, length: int) -> float:
    """Output tokens a second of `batch` short prompts that all come at once and grow to `length`."""
    load = f"constant:rate=1e6,n={batch},prompt={PROMPT},output={length - PROMPT}"
    done = simulate(Scenario(model=scenario.model, system=scenario.system, requests=load, max_num_seq=batch))
    return float(done.metrics["output_throughput"])


@styled
def plot(table: pd.DataFrame) -> "Figure":
    """Sequences that fit and tokens a second by length; a line a model on the first machine of the frame."""
    figure, axes = new_figure(1, 3, (11.0, 3.6))
    points = table[table["paper"].isna() & table["setup"].str.endswith("tokens")]
    machine = points["setup"].iloc[0].partition(",")[0]
    own = points[points["setup"].str.startswith(machine)]
    for axis, claim in zip(axes, (BATCH, RATE, LEVEL), strict=True):
        for name, colour in ((PAIR[1], ORANGE), ("fp32 state", BLUE), ("bf16 state", GREEN)):
            part = own[own["claim"] == f"{claim}, {name}"]
            length = part["setup"].str.extract(r", (\d+) tokens")[0].astype(int)
            label = name if name == PAIR[1] else f"Llamba-8B, {name}"
            axis.plot(length, part["simulated"], "o-", color=colour, label=label)
        axis.set(xlabel="tokens of a sequence", ylabel=claim, yscale="log")
        log_places(axis, length)
        number_log(axis)
    axes[0].legend()
    suptitle(figure, f"Llamba-8B beside Llama-3.1-8B on {machine}")
    return figure
