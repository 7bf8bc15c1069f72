"""Trace files: what they hold is what is read, and whatever is wrong with them is named with its line."""

import gzip
import json
import pathlib
import textwrap

import numpy as np
import pandas as pd
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from kernels.errors import InputError
from tests.shared_data import folder
from tests.workloads.trace_files import (
    AZURE,
    BURST,
    FILES,
    MOONCAKE,
    OPTION,
    OTHER_FORMS,
    PLAIN,
    SHAREGPT,
    VLLM,
)
from workloads.load import load_requests, parse_load
from workloads.requests import describe, digest
from workloads.trace_formats import find_formats, formats, sniff


def write(tmp_path: pathlib.Path, text: str | bytes, name: str = "trace") -> pathlib.Path:
    path = tmp_path / name
    path.write_bytes(text.encode() if isinstance(text, str) else text)
    return path


def test_every_format_of_the_folder_is_found_and_told_by_its_content(tmp_path) -> None:
    assert set(formats()) == set(FILES)
    for name, text in FILES.items():
        path = write(tmp_path, text)
        assert sniff(path) == name
        option = OPTION.get(name, "")
        whole = load_requests(f"{path}{option}")
        assert digest(whole) == digest(load_requests(f"{name}:{path}{option}"))
        packed = write(tmp_path, gzip.compress(text.encode()), "packed.gz")
        assert digest(load_requests(f"{packed}{option}")) == digest(whole)
        load = parse_load(f"{path}{option},n=2,scale=2,max_concurrency=3")
        assert parse_load(str(load)) == load == parse_load(load.table())
        assert len(load_requests(load)) == 2
        assert load_requests(load).max_concurrency == 3
    for name, texts in OTHER_FORMS.items():
        assert [sniff(write(tmp_path, text)) for text in texts] == [name] * len(texts)


def test_azure_keeps_100_ns(tmp_path) -> None:
    requests = load_requests(write(tmp_path, AZURE))
    assert requests.arrival_ps.tolist() == [0, 4_314_579_000_000]  # 50.9951690 - 46.6805900 s
    assert requests.prompt_token.tolist() == [374, 396]
    late_first = "\n".join([*AZURE.split("\n")[:1], *AZURE.split("\n")[2:0:-1]])
    assert load_requests(write(tmp_path, late_first)).prompt_token.tolist() == [374, 396]  # sorted by time


def test_mooncake_hashes_become_dense_units(tmp_path) -> None:
    requests = load_requests(write(tmp_path, MOONCAKE))
    assert requests.arrival_ps.tolist() == [0, 2 * 10**9]
    assert requests.unit_id.tolist() == [0, 1, 0, 2, 3]  # 46, 7 | 46, 9, 7e9 in order of first appearance
    assert (requests.unit_token, requests.unit_start.tolist(), requests.unit_stop.tolist()) == (512, [0, 2], [2, 5])


def test_burstgpt_leaves_out_failures_and_says_so(tmp_path) -> None:
    path = write(tmp_path, BURST)
    requests = load_requests(path)
    assert requests.arrival_ps.tolist() == [0, 113 * 10**12]
    assert requests.note == "1 failed requests (no token) left out"
    assert load_requests(f"burstgpt:{path},model=GPT-4").prompt_token.tolist() == [100]
    with pytest.raises(InputError, match="nearest: GPT-4"):
        load_requests(f"burstgpt:{path},model=GPT-5")


def test_vllm_benchmark_arrivals(tmp_path) -> None:
    requests = load_requests(write(tmp_path, VLLM))
    assert requests.arrival_ps.tolist() == [500_000_000_000, 2_000_000_000_000]  # since the earliest, the failed one's
    assert requests.output_token.tolist() == [1, 3]
    made = json.loads(VLLM)
    del made["start_times"], made["duration"]
    path = write(tmp_path, json.dumps(made))
    assert digest(load_requests(path, 1)) == digest(load_requests(path, 1)) != digest(load_requests(path, 2))
    assert load_requests(path).arrival_ps[-1] == 15 * 10**11  # three requests at 2 a second, the last at 1.5 s
    assert load_requests(f"{path},rate=0.5").arrival_ps[-1] == 6 * 10**12
    path = write(tmp_path, json.dumps(made | {"request_rate": "inf"}))
    assert load_requests(path).arrival_ps.tolist() == [0, 0]
    assert load_requests(path).max_concurrency == 0


def test_plain_csv_and_parquet_are_the_same_table(tmp_path) -> None:
    requests = load_requests(write(tmp_path, PLAIN))
    assert requests.arrival_ps.tolist() == [250_000_000_000, 500_000_000_000]
    assert (requests.prompt_token.tolist(), requests.priority.tolist()) == ([20, 10], [0, 1])
    pytest.importorskip("pyarrow")
    pd.read_csv(tmp_path / "trace").to_parquet(tmp_path / "trace.parquet")
    assert digest(load_requests(tmp_path / "trace.parquet")) == digest(requests)
    bad = pd.DataFrame({"arrival_s": [0.0, 1.0], "prompt_token": [4, -4], "output_token": [1, 1]})
    bad.to_parquet(tmp_path / "bad.parquet")
    with pytest.raises(InputError, match=r"bad\.parquet:3: prompt_token = '-4'"):
        load_requests(tmp_path / "bad.parquet")


BAD = [
    (AZURE.replace("396", "-396"), 3, "ContextTokens", "-396"),
    (AZURE.replace("109", "nan"), 3, "GeneratedTokens", "nan"),
    (AZURE.replace("109", ""), 3, "GeneratedTokens", ""),
    (AZURE.replace(",109", ""), 3, "GeneratedTokens", ""),
    (AZURE.replace(",374,44", ",374,44,9"), 2, "row", 4),
    (AZURE.replace("374", "99999999999999999999"), 2, "ContextTokens", "99999999999999999999"),
    (AZURE.replace("374", "True"), 2, "ContextTokens", "True"),
    (AZURE.replace("374", "3.5"), 2, "ContextTokens", "3.5"),
    (AZURE.replace("2023-11-16 18:15:50.9951690", "yesterday"), 3, "TIMESTAMP", "yesterday"),
    (AZURE.replace("2023-11-16 18:15:50.9951690", "2024-11-16 18:15:50"), 3, "TIMESTAMP", "2024-11-16 18:15:50"),
    (AZURE.replace("2023-11-16 18:15:50.9951690", "9023-11-16 18:15:50"), 3, "TIMESTAMP", "9023-11-16 18:15:50"),
    (AZURE.replace("GeneratedTokens", "Generated"), 1, "header", "GeneratedTokens"),
    (AZURE.replace("\n2023-11-16 18:15:50", "\n\n2023-11-16 18:15:50"), 3, "TIMESTAMP", ""),
    (BURST.replace("118", "inf"), 4, "Timestamp", "inf"),
    (BURST.replace("472", "-1"), 2, "Request tokens", "-1"),
    (MOONCAKE[:-20], 2, "line", None),
    (MOONCAKE.replace("1200", "NaN"), 2, "input_length", None),
    (MOONCAKE.replace("1200", "true"), 2, "input_length", True),
    (MOONCAKE.replace("1200", "512"), 2, "hash_ids", 3),
    (MOONCAKE.replace("[46, 7]", '"x"'), 1, "hash_ids", "x"),
    (MOONCAKE.replace("[46, 7]", "[46, -7]"), 1, "hash_ids", -7),
    (MOONCAKE.replace('"timestamp": 12', '"timestamp": 1e14'), 2, "timestamp", 1e14),
    (SHAREGPT + "12,0\n", 3, "column 2", "0"),
    (PLAIN.replace("0.25", "-0.25"), 3, "arrival_s", "-0.25"),
    (PLAIN.replace("0.25", "1e300"), 3, "arrival_s", "1e300"),
    (PLAIN.replace(",1\n", ",1000\n"), 2, "priority", "1000"),
    (PLAIN.replace("priority", "priorty"), 1, "header", "priorty"),
    (VLLM.replace("20", "-20"), None, "input_lens[1]", -20),
    (VLLM.replace("[7.5, 7, 9]", "[7.5, 7]"), None, "start_times", 2),
    (VLLM.replace('"output_lens"', '"output"'), None, "output_lens", None),
]


@pytest.mark.parametrize(("text", "line", "field", "value"), BAD)
def test_errors_name_file_line_field_and_value(tmp_path, text, line, field, value) -> None:
    path = write(tmp_path, text)
    with pytest.raises(InputError) as caught:
        load_requests(path)
    error = caught.value
    assert (error.file, error.line, error.field) == (path, line, field)
    if value is not None:
        assert error.value == value
    assert "\n" not in str(error)


@pytest.mark.parametrize(
    "data",
    [b"", b"\n\n", b"\x00\x01\x02", b"\xff\xfe", b"\x1f\x8bbroken", b"PAR1broken",
     b"{", b"{}", b"[1]", b"hello", b'"', b"1,2,3\n", b"1e999,3"],
)  # fmt: skip
def test_rubbish_is_refused_by_every_format(tmp_path, data) -> None:
    path = write(tmp_path, data)
    for source in ("", *(f"{name}:" for name in formats())):
        with pytest.raises(InputError):
            load_requests(f"{source}{path}")


def test_folders_and_missing_files_are_input_errors(tmp_path) -> None:
    for path in (tmp_path, tmp_path / "absent.csv"):
        for name in formats():
            with pytest.raises(InputError):
                load_requests(f"{name}:{path}")


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    st.sampled_from(sorted(FILES)), st.integers(0, 400), st.integers(0, 12),
    st.one_of(
        st.binary(max_size=6),
        st.sampled_from([b"\n", b"\r", b'"', b",", b"-", b"nan", b"1e400", b"{", b"\x00", b"9" * 30]),
    ),
)  # fmt: skip
def test_mangled_files_are_read_or_are_input_errors(tmp_path, name, at, cut, inserted) -> None:
    data = FILES[name].encode()
    at = at % len(data)
    path = write(tmp_path, data[:at] + inserted + data[at + cut :])
    for source in (f"{name}:{path}{OPTION.get(name, '')}", path):
        try:
            requests = load_requests(source)
        except InputError:
            continue
        assert len(requests) >= 1


def test_a_new_format_is_one_file(tmp_path) -> None:
    (tmp_path / "pairs_of_ms.py").write_text(
        textwrap.dedent(
            """
            import numpy as np
            from workloads.requests import build
            HELP, OPTIONS = "milliseconds and tokens", {}
            def sniff(head): return head.startswith(b"#ms")
            def read(path, options, seed):
                rows = np.loadtxt(path, dtype=np.int64, ndmin=2)
                return build(rows[:, 0] * 10**9, rows[:, 1], rows[:, 2])
            """
        )
    )
    (tmp_path / "_helper.py").write_text("raise RuntimeError('not a format')")
    formats = find_formats(tmp_path)
    assert "pairs_of_ms" in formats
    path = write(tmp_path, "#ms\n3 10 2\n")
    assert formats["pairs_of_ms"].read(path, {}, 0).arrival_ps.tolist() == [3 * 10**9]
    (tmp_path / "half.py").write_text("HELP = 'no reader'")
    with pytest.raises(InputError, match="half has no OPTIONS"):
        find_formats(tmp_path)


def test_an_entry_point_brings_a_format(tmp_path, monkeypatch) -> None:
    (tmp_path / "their_format.py").write_text(
        "HELP, OPTIONS = 'theirs', {}\ndef sniff(head): return False\ndef read(path, options, seed): raise ValueError\n"
    )
    info = tmp_path / "their-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: their\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[ridgeline.traces]\ntheirs = their_format\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    assert find_formats(tmp_path / "none")["theirs"].HELP == "theirs"
    (info / "entry_points.txt").write_text("[ridgeline.traces]\ntheirs = no_such_module\n")
    with pytest.raises(InputError, match="'no_such_module': cannot be loaded"):
        find_formats(tmp_path / "none")


def test_the_azure_trace_whole() -> None:
    found = describe(load_requests(folder("traces", "AzureLLMInferenceTrace_conv.csv")))
    assert found["num_request"] == 19_366
    assert round(found["prompt_token_mean"]) == 1155  # both means as in Splitwise (ISCA 2024)
    assert round(found["output_token_mean"]) == 211


def test_the_mooncake_trace_conserves_blocks_and_tokens() -> None:
    path = folder("traces", "mooncake_conversation_trace.jsonl")
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    requests = load_requests(path)
    assert requests.prompt_token.sum() == sum(row["input_length"] for row in rows)
    assert len(requests.unit_id) == sum(len(row["hash_ids"]) for row in rows)
    assert requests.num_unit == len({item for row in rows for item in row["hash_ids"]})
    back = {}  # dense unit to hash: one to one
    for i in np.random.default_rng(0).integers(len(rows), size=200):
        units = requests.unit_id[requests.unit_start[i] : requests.unit_stop[i]].tolist()
        for unit, item in zip(units, rows[i]["hash_ids"], strict=True):
            assert back.setdefault(unit, item) == item
    assert len(set(back.values())) == len(back)


def test_the_sharegpt_lengths() -> None:
    requests = load_requests(f"sharegpt:{folder('traces', 'sharegpt_lengths.csv')},rate=4,n=1000")
    assert requests.prompt_token[:2].tolist() == [42, 19]
    assert 1000 / (requests.arrival_ps[-1] * 1e-12) == pytest.approx(4, rel=5 / np.sqrt(1000))


def test_the_page_of_the_door_names_every_format() -> None:
    page = (pathlib.Path(__file__).parents[2] / "docs" / "door.md").read_text()
    assert [name for name in formats() if f"`{name}`" not in page] == []
