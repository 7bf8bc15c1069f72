"""Recurrent layer kinds as scan rows of a step price: FLOPs and bytes a token and a sequence, read off their operators.

A kind writes its operators for any list of prompts or decodes (`Mixer.scan`). Where these depend on the numbers of
tokens and sequences alone, and linearly, three small lists give every coefficient, and two more prove it.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from kernels import optable as op
from kernels.engine.scan import CHAIN, NONE, SCAN_SIZE, STREAM
from kernels.errors import InputError
from kernels.machine import Machine
from kernels.price import CHAIN as CHAIN_CLASS
from kernels.price import CLASS
from kernels.price import STREAM as STREAM_CLASS
from workloads.formats import Formats
from workloads.models.layers.base import Mixer
from workloads.models.spec import ModelSpec
from workloads.placement import Placement
from workloads.rows import Rows

Floats = npt.NDArray[np.float64]
COLUMNS = ("flop", "weight_byte", "act_byte", "write_byte")
PROOFS = ((7, 3, 0), (6, 2, 50))  # tokens, sequences, tokens computed before


@dataclass(frozen=True)
class ScanRow:
    """One operator of a recurrent kind, with the layers of each stage that have it."""

    mixer: Mixer
    name: str
    layer: tuple[int, ...]
    price: Floats  # [2, SCAN_SIZE]
    kind: tuple[int, int]  # codes of kernels.optable, in prompts and in decodes; -1: none


def scan_rows(model: ModelSpec, formats: Formats, placement: Placement, machine: Machine) -> list[ScanRow]:
    """The scan rows of a model, kind by kind in order of first layer.

    Raises `InputError` where the operators of a kind depend on more than tokens and sequences (compressed attention
    reads its context).
    """
    held = [model.mixer_class(start, stop) for start, stop in placement.stages(model.num_layer)]
    found = []
    for mixer in model.mixer_class():
        layer = tuple(stage.get(mixer, 0) for stage in held)
        phases = [_phase(mixer, formats, placement, machine, decode) for decode in (False, True)]
        for name in dict.fromkeys([*phases[0], *phases[1]]):
            none = (np.zeros(SCAN_SIZE), -1)
            (prompt, first), (decode, second) = (phase.get(name, none) for phase in phases)
            found.append(ScanRow(mixer, name, layer, np.stack([prompt, decode]), (first, second)))
    return found


def _phase(
    mixer: Mixer, formats: Formats, placement: Placement, machine: Machine, decode: bool
) -> dict[str, tuple[Floats, int]]:
    """By the name of each operator its fields and the code of its kind."""

    def rows(token: int, sequence: int, before: int = 0) -> op.OpTable:
        _, work = op.empty(0, sequence)
        work["query_len"], work["causal"] = 1, 1
        work["query_len"][0] += token - sequence
        work["kv_len"] = work["query_len"] + before
        made = Rows(formats, placement, 1)
        mixer.scan(made, work, decode)
        return made.table()

    one, longer, more = rows(1, 1), rows(2, 1), rows(2, 2)
    unique = len(set(one["name"])) == len(one)
    found = {}
    for i, row in enumerate(one):
        each = {column: float(row[column]) for column in COLUMNS}
        token = {column: float(longer[i][column]) - each[column] for column in COLUMNS}
        seq = {column: float(more[i][column]) - float(longer[i][column]) for column in COLUMNS}
        still = {column: each[column] - token[column] - seq[column] for column in COLUMNS}
        form = {STREAM_CLASS: STREAM, CHAIN_CLASS: CHAIN}.get(CLASS[row["kind"]], NONE)
        linear = form != NONE and not (seq["flop"] or still["flop"] or token["weight_byte"] or seq["weight_byte"])
        for count, sequence, before in PROOFS:
            there = rows(count, sequence, before)
            linear = linear and len(there) == len(one) and int(there[i]["m"]) == count and all(
                np.isclose(float(there[i][c]), still[c] + count * token[c] + sequence * seq[c], 1e-12) for c in COLUMNS
            )  # fmt: skip
        if not (unique and linear):
            raise InputError(
                f"its operator {row['name'].decode()} depends on more than tokens and sequences: priced step by step "
                "(`roofline`), not in a serving run",
                field="layer_types", value=type(mixer).__name__.lower(), allowed="attention and recurrent layers",
            )  # fmt: skip
        weight = still["weight_byte"] + still["act_byte"] + still["write_byte"]
        fields = (
            form, row["num_head"], token["flop"], weight, token["act_byte"], seq["act_byte"], token["write_byte"],
            seq["write_byte"], machine.peak_flop_per_s[row["fmt"]],
        )  # fmt: skip
        fit = machine.fit[row["kind"], row["fmt"]]
        found[row["name"].decode()] = (np.concatenate([fields, fit]), int(row["kind"]))
    return found
