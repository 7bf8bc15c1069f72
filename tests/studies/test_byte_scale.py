"""ByteScale at a small size."""

from studies import byte_scale


def test_a_group_for_every_sequence_beats_a_mesh_for_the_longest() -> None:
    table = byte_scale.run(("llama-2-7b",), (64, 256), num_device=64, token=2**20)
    gain = table.loc[table["claim"] == "faster than the static mesh, ratio", "simulated"].tolist()
    # the longer the context, the more of the short sequences' keys and values go round for nothing
    assert 1 < gain[0] < gain[1]
    assert table.loc[table["claim"].str.contains("grows"), "verdict"].item() == "reproduced"
