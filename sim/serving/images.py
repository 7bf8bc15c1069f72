"""Images of requests: what their encoder does before the prompt that holds them.

The images of a request are encoded once, in the step that schedules the first of its prompt; a recomputed prompt finds
what was encoded (engines keep it by its hash). They are spread over the tensor-parallel devices of a replica, each of
which holds the whole encoder (`workloads.encoder`): a device encodes its share as one batch, on the first stage.
"""

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from kernels import optable as op
from kernels.errors import InputError
from sim.serving.step_price import Lowered
from workloads.encoder import lower_encoder
from workloads.requests import Requests

Ints = npt.NDArray[np.int64]


@dataclass(frozen=True, eq=False)
class Batch:
    """The images of one request: operators of one device, their costs, and the devices that share them."""

    ops: op.OpTable
    cost: np.ndarray
    num_device: int


@dataclass(frozen=True, eq=False)
class Images:
    """Of every request: which of `batch` its images are (-1: it has none), and their picoseconds and nanojoules."""

    batch: tuple[Batch, ...]
    kind: Ints
    time_ps: Ints
    energy_nj: Ints


def images_of(load: Requests, lowered: Lowered) -> Images | None:
    """The images of a load on a machine; None where it has none. `InputError` where the model has no encoder."""
    if not load.num_image.any():
        return None
    vision = lowered.model.vision
    if vision is None:
        raise InputError(
            f"{lowered.model.name} has no encoder of images that is priced", field="num_image",
            value=int(load.num_image.max()), allowed="0, or a model with a vision_config that is read",
        )  # fmt: skip
    shapes, index = np.unique(np.stack([load.num_image, load.image_token]), axis=1, return_inverse=True)
    index = index.reshape(-1)
    batches: list[Batch] = []
    kind_of: list[int] = []
    spent: list[tuple[int, int]] = []
    for num_image, token in shapes.T.tolist():
        if num_image == 0:
            kind_of.append(-1)
            spent.append((0, 0))
            continue
        share = -(-num_image // lowered.placement.tp)
        num_device = -(-num_image // share)
        ops, work = lower_encoder(vision, lowered.formats, [token * vision.merge**2] * share)
        cost = lowered.price(ops, work)
        kind_of.append(len(batches))
        batches.append(Batch(ops, cost, num_device))
        spent.append((int(cost["time_ps"].sum()), int(cost["energy_nj"].sum()) * num_device))
    time_ps, energy_nj = np.array(spent, np.int64)[index].T
    return Images(tuple(batches), np.array(kind_of, np.int64)[index], time_ps, energy_nj)
