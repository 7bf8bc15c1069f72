"""Encoders of images in a pool of their own: images become tokens there, which are sent to the engines that prefill.

An encoder holds the whole vision tower on each of its devices (`sim.serving.images`) and takes requests in order of
arrival, one at a time, whoever is free first. What it has made (16-bit embeddings of the language model's width) leaves
over its port, one request after another, while it encodes the next. Nothing of it depends on what comes later, so that
the load of the other pools is known beforehand: the same requests without images, when their tokens are there.
"""

import dataclasses
import heapq
from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt

from hw_models import catalog
from hw_models.clock import limited_system
from hw_models.device import best_fidelity, machine
from kernels.errors import InputError
from kernels.units import PS_PER_S
from sim.cluster.parts import ports_byte_per_s
from sim.run.scenario import Scenario, from_mapping
from sim.serving.images import images_of
from sim.serving.step_price import HostTime, Lowered
from workloads import models, placement
from workloads.formats import Formats
from workloads.models.vision import Vision, num_param
from workloads.requests import Requests

Ints = npt.NDArray[np.int64]
FIELDS = ("system", "tp", "dp")  # in which encoders may differ from the engines
EMBED_BYTE = 2


@dataclasses.dataclass(frozen=True, eq=False)
class Encoded:
    """What encoders made of a load. `[request]` of the load; picoseconds."""

    load: Requests  # without images, in order of when their tokens are there
    order: Ints  # which request of the given load each of these is
    begin_ps: Ints  # when its images began to be encoded; its arrival where it shows none
    done_ps: Ints  # when they were
    ready_ps: Ints  # when their tokens are where they are prefilled
    busy_ps: Ints  # [encoder]
    num_batch: int  # requests with images
    num_token: int  # that their images became
    moved_byte: float

    def asked(self, column: Ints) -> Ints:
        """A column of `load`, in the order of the given one."""
        found = np.empty_like(column)
        found[self.order] = column
        return found


def encoder_scenario(scenario: Scenario, change: Mapping[str, Any]) -> Scenario:
    """The scenario of a pool of encoders. Raises `InputError` for a field that they have not."""
    for name in change:
        if name not in FIELDS:
            raise InputError("no field of encoders", field="encode", value=name, allowed=FIELDS)
    return from_mapping(vars(scenario) | {"pp": 1, "ep": 1, "attn_dp": 1} | dict(change))


def encode(load: Requests, scenario: Scenario, link_byte_per_s: float = 0.0, latency_s: float = 0.0) -> Encoded:
    """Encodes the images of a load on `scenario.dp` encoders of `scenario.tp` devices each.

    `link_byte_per_s`: an encoder's link, a direction (0: the ports of its machine); `latency_s` is added to each
    transfer. Raises `InputError` for a load without images, and for one whose requests wait for each other.
    """
    if not load.num_image.any():
        raise InputError("has no effect: no request shows an image", field="encode", value=scenario.system,
                         allowed="a load with num_image")  # fmt: skip
    if (load.parent >= 0).any() or load.max_concurrency:
        raise InputError("encoders are served before the others", field="requests", value=scenario.requests,
                         allowed="requests that come by themselves, and wait for nobody's answer")  # fmt: skip
    system = limited_system(catalog.system(scenario.system, scenario.tp * scenario.dp), scenario.power_limit_W)
    fidelity = "sol" if scenario.fidelity == "sol" else best_fidelity(system.device)
    model = models.load(scenario.model)
    placed = placement.make(model, 1, 1, 1, 1, None, False, system.node.num_device)
    placed = dataclasses.replace(placed, tp=scenario.tp)
    lowered = Lowered(model, Formats(), placed, machine(system, fidelity), 0.0, HostTime())
    images = images_of(load, lowered)
    assert images is not None
    assert model.vision is not None
    _check_room(model.vision, scenario.system)
    rate = link_byte_per_s or ports_byte_per_s(system.node, scenario.tp)
    byte = EMBED_BYTE * model.vision.out * load.num_image.astype(np.int64) * load.image_token
    send_ps = np.round(byte / rate * PS_PER_S).astype(np.int64)
    return _queue(load, images.time_ps, send_ps, round(latency_s * PS_PER_S), scenario.dp, float(byte.sum()))


def _queue(load: Requests, time_ps: Ints, send_ps: Ints, latency_ps: int, num: int, moved_byte: float) -> Encoded:
    """First come, first served, by whoever is free first; a port sends in order."""
    arrival = np.asarray(load.arrival_ps)
    begin, done, ready = arrival.copy(), arrival.copy(), arrival.copy()
    free = [(0, k) for k in range(num)]
    port, busy = [0] * num, np.zeros(num, np.int64)
    for i in np.flatnonzero(load.num_image).tolist():
        at, k = heapq.heappop(free)
        begin[i] = max(at, int(arrival[i]))
        done[i] = begin[i] + time_ps[i]
        port[k] = max(port[k], int(done[i])) + int(send_ps[i])
        ready[i] = port[k] + latency_ps
        busy[k] += time_ps[i]
        heapq.heappush(free, (int(done[i]), k))
    order = np.argsort(ready, kind="stable")
    token = load.num_image.astype(np.int64) * load.image_token
    return Encoded(_later(load, ready, order), order, begin, done, ready, busy, int((token > 0).sum()),
                   int(token.sum()), moved_byte)  # fmt: skip


def _later(load: Requests, ready: Ints, order: Ints) -> Requests:
    """The same requests without images, as they reach the engines."""
    column: dict[str, Any] = {
        name: value[order].copy() for name, value in vars(load).items()
        if isinstance(value, np.ndarray) and name != "unit_id"
    }  # fmt: skip
    none = {name: np.zeros_like(column[name]) for name in ("num_image", "image_token")}
    return dataclasses.replace(load, **(column | none | {"arrival_ps": ready[order]}))


def _check_room(vision: Vision, system: str) -> None:
    device = catalog.system(system).device
    need, room = 2.0 * num_param(vision), device.mem_byte - device.mem_reserved_byte
    if need > room:
        raise InputError("does not hold the encoder", field="encode", value=system,
                         allowed=f"a device with {need / 2**30:.3g} GiB of memory")  # fmt: skip
