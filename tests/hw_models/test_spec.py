"""Datasheet numbers against each other: peak = cores x clock x FLOP a core and clock, bandwidth = pins x pin rate."""

import dataclasses

import pytest

from hw_models import catalog
from kernels.formats import PIPES

# FLOP a core and clock, dense: (vector fp32, {pipe: value}). A fused multiply-add counts 2.
# GA100: 64 FP32 lanes; four tensor cores of 256 fp16 FMA each.
GA100 = (128, {"tf32": 1024, "bf16": 2048, "fp16": 2048, "int8": 4096, "int4": 8192})
# GA102 with full-rate accumulation (A40, A6000): 128 FP32 lanes; four tensor cores of 128 fp16 FMA.
GA102 = (256, {"tf32": 512, "bf16": 1024, "fp16": 1024, "int8": 2048, "int4": 4096})
# GA102 as GeForce (and A10G): 32-bit accumulation at half rate; integers are not affected on GeForce.
GA102_HALF = (256, {"tf32": 256, "bf16": 512, "fp16": 512})
# Ada with full rate: fp8 and int8 at twice fp16; as GeForce with 32-bit accumulation: fp16 and fp8 at half of that.
ADA = (256, {"tf32": 512, "bf16": 1024, "fp16": 1024, "fp8": 2048, "int8": 2048})
ADA_HALF = (256, {"tf32": 256, "bf16": 512, "fp16": 512, "fp8": 1024, "int8": 2048, "int4": 4096})
VOLTA = (128, {"fp16": 1024})  # 64 lanes; eight tensor cores of 64 FMA
PASCAL_100, PASCAL = (128, {"fp16": 256}), (256, {"fp32": 256})  # 64 lanes with packed fp16; 128 lanes
TURING = (128, {"fp16": 1024, "int8": 2048, "int4": 4096})  # 64 lanes; eight tensor cores of 64 FMA
TURING_HALF = (128, {"fp16": 512, "int8": 2048, "int4": 4096})  # GeForce: 32-bit accumulation at half rate
GH100 = (None, {"tf32": 2048, "bf16": 4096, "fp16": 4096, "fp8": 8192, "int8": 8192})  # vector clock differs, see below
GB100 = (None, {"tf32": 4096, "bf16": 8192, "fp16": 8192, "fp8": 16384, "int8": 16384, "fp4": 32768})
GB202 = (256, {"tf32": 512, "bf16": 1024, "fp16": 1024, "fp8": 2048, "int8": 2048, "fp4": 4096})
# CDNA 3: 256 FLOP a CU and clock of packed fp32, 2048 dense fp16 in four matrix cores.
CDNA3 = (256, {"fp32": 256, "tf32": 1024, "bf16": 2048, "fp16": 2048, "fp8": 4096, "int8": 4096})
MXU = 128 * 128 * 2  # a systolic array of a TPU
IDENTITIES = {
    "a100_sxm_80gb": GA100, "a100_pcie_40gb": GA100, "a40": GA102, "rtx_a6000": GA102, "a10g": GA102_HALF,
    "rtx_3090": GA102_HALF, "l4": ADA, "l40s": ADA, "rtx_4090": ADA_HALF, "t4": TURING, "v100_sxm_32gb": VOLTA,
    "rtx_2080_ti": TURING_HALF,
    "p100_pcie_16gb": PASCAL_100, "p40": PASCAL, "h100_sxm": GH100,
    "h100_pcie": GH100, "h200": GH100, "b200": GB100, "rtx_pro_6000": GB202, "mi300x": CDNA3,
    "tpu_v4": (None, {"bf16": 4 * MXU, "int8": 4 * MXU}),  # four arrays a TensorCore; no int8 doubling
    "tpu_v5e": (None, {"bf16": 4 * MXU, "int8": 8 * MXU}),
    "tpu_v5p": (None, {"bf16": 4 * MXU, "int8": 8 * MXU}),
    "epyc_9554": (32, {"fp32": 32, "bf16": 64, "int8": 128}),  # two 256-bit FMA pipes
}  # fmt: skip


@pytest.mark.parametrize("name", sorted(IDENTITIES))
def test_peak_is_cores_times_clock_times_width(name: str) -> None:
    device = catalog.device(name)
    vector, pipes = IDENTITIES[name]
    turn = device.num_core * device.clock_hz
    if vector is not None:
        assert device.vector_flop_per_s == pytest.approx(vector * turn, rel=0.02)
    for pipe, width in pipes.items():
        assert device.peak(pipe) == pytest.approx(width * turn, rel=0.02), pipe


def test_h100_vector_rate_is_quoted_at_its_own_clock() -> None:
    # 132 SMs x 128 lanes x 2 FLOP x 1980 MHz = 66.9 TFLOP/s (the tensor peaks are quoted at 1830 MHz)
    assert catalog.device("h100_sxm").vector_flop_per_s == pytest.approx(132 * 256 * 1.98e9, rel=0.01)


@pytest.mark.parametrize("name", catalog.names("device"))
def test_what_every_device_satisfies(name: str) -> None:
    device = catalog.device(name)
    if device.mem_bus_bit:
        assert device.mem_byte_per_s == pytest.approx(device.mem_bus_bit / 8 * device.mem_pin_bit_per_s, rel=0.02)
    assert device.l2_byte_per_s > device.mem_byte_per_s
    assert 0 < device.idle_w < device.tdp_w
    assert len(device.peak_flop_per_s) == len(PIPES)
    half_the_bits = (pytest.approx(factor * device.peak("bf16"), rel=0.03) for factor in (1, 2))  # Gaudi 3: the same
    assert device.peak("fp8") in (0, *half_the_bits)


def test_units() -> None:
    h100 = catalog.device("h100_sxm")
    assert h100.mem_byte == 80 * 2**30  # GiB
    assert h100.mem_byte_per_s == 3352e9  # GB, decimal
    assert h100.peak("bf16") == pytest.approx(989.4e12)
    assert h100.clock_hz == 1.83e9
    assert h100.l2_byte == 50 * 2**20
    assert catalog.link("nvlink4").latency_s == pytest.approx(0.4e-6)
    assert catalog.link("infiniband_ndr").byte_per_s * 8 == 400e9  # its name in Gbit/s


@pytest.mark.parametrize(
    ("name", "op_per_byte"),
    [
        ("h100_sxm", 295.2),  # 989.4e12 / 3352e9
        ("a100_sxm_80gb", 153.0),  # 312e12 / 2039e9
        ("tpu_v5e", 240.5),  # 197e12 / 819e9, the figure that TPU guides teach with
    ],
)
def test_ridge_points(name: str, op_per_byte: float) -> None:
    device = catalog.device(name)
    assert device.peak("bf16") / device.mem_byte_per_s == pytest.approx(op_per_byte, abs=0.1)


def test_a_specification_cannot_be_changed_and_can_be_hashed() -> None:
    device = catalog.device("h100_sxm")
    with pytest.raises(dataclasses.FrozenInstanceError):
        device.tdp_w = 1.0  # type: ignore[misc]
    assert hash(device) == hash(catalog.device("h100_sxm"))


def test_rental_of_a_part_of_a_node_is_its_share() -> None:
    system = catalog.system("dgx_h100")
    assert system.price_usd_per_h() == pytest.approx(8 * 2.99)
    assert system.price_usd_per_h(2) == pytest.approx(system.price_usd_per_h() / 4)
    assert system.rest_w(2) == pytest.approx((10200 - 8 * 700) / 4)  # 10.2 kW at most
