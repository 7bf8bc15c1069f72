"""Fifty faults in processes of their own: signals at random moments, full disks, folders that cannot be written,
readers and writers that are not there, two cold processes at once, children of a killed parent."""

import importlib
import json
import os
import pathlib
import random
import signal
import subprocess
import sys
import time
from collections.abc import Iterator

import pytest

ROOT = pathlib.Path(__file__).parents[2]
SCHEDULE = ["schedule", "zb-v", "--stages", "4", "--microbatches", "8"]
SERVE = ["simulate", "--quiet", "--model", "gpt2", "--system", "a100_sxm", "--requests"]
SMALL = [*SERVE, "batch:n=3,prompt=8,output=4"]
LONG = [*SERVE, "poisson:rate=60,n=400000,prompt=20,output=60"]
OLD = b"what lay there before\n"
WAIT_S = 300  # far above what any of these takes


def start(words: list[str], folder: pathlib.Path, **environment: str) -> subprocess.Popen[bytes]:
    """A command in a process of its own, in `folder`."""
    env = {**os.environ, "PYTHONPATH": str(ROOT), **environment}
    command = [sys.executable, "-m", "sim.cli", *words]
    return subprocess.Popen(
        command,
        cwd=folder,
        env=env,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        preexec_fn=hears_interrupts,  # noqa: PLW1509 - no thread runs here
    )


def hears_interrupts() -> None:
    """A shell that runs tests in the background has them ignore Ctrl-C, and what they start inherits that."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)


def end(child: subprocess.Popen[bytes]) -> tuple[int, str, str]:
    out, err = child.communicate(timeout=WAIT_S)
    return child.returncode, out.decode(), err.decode()


def refused(found: tuple[int, str, str], *words: str) -> None:
    code, _, err = found
    assert code == 2, found
    assert err.startswith("ridgeline: "), found
    assert err.count("\n") == 1, found
    for word in words:
        assert word in err, found


def left(folder: pathlib.Path) -> set[str]:
    return {path.name for path in folder.iterdir()}


@pytest.fixture(scope="module")
def tiny() -> Iterator[pathlib.Path]:
    """A disk of 64 KiB."""
    with _mounted("size=64k") as place:
        yield place


@pytest.fixture(scope="module")
def sealed() -> Iterator[pathlib.Path]:
    """A disk that is read-only."""
    with _mounted("ro") as place:
        yield place


class _mounted:  # noqa: N801
    def __init__(self, option: str) -> None:
        self.option = option

    def __enter__(self) -> pathlib.Path:
        import tempfile

        self.place = tempfile.mkdtemp(prefix="fault")
        done = subprocess.run(["mount", "-t", "tmpfs", "-o", self.option, "tmpfs", self.place], capture_output=True,
                              check=False)  # fmt: skip
        if done.returncode:
            os.rmdir(self.place)
            pytest.skip("no disk can be mounted here")
        return pathlib.Path(self.place)

    def __exit__(self, *error: object) -> None:
        subprocess.run(["umount", "-l", self.place], check=False)
        os.rmdir(self.place)


@pytest.mark.parametrize("moment", range(12))
def test_killed_at_a_random_moment_the_old_file_or_the_new_one_is_there(tmp_path: pathlib.Path, moment: int) -> None:
    (tmp_path / "o.json").write_bytes(OLD)
    words = [*SCHEDULE, "--json", "o.json", "--trace", "t.json"] if moment % 2 else [*SMALL, "--json", "o.json"]
    child = start(words, tmp_path)
    time.sleep(random.Random(moment).uniform(0, 4))
    child.kill()
    end(child)
    content = (tmp_path / "o.json").read_bytes()
    if content != OLD:
        json.loads(content)
    strange = left(tmp_path) - {"o.json", "t.json"}
    assert all(name.startswith(".ridgeline.") and name.endswith(".part") for name in strange), strange


@pytest.mark.parametrize("moment", range(8))
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopped_at_a_random_moment(tmp_path: pathlib.Path, number: signal.Signals, moment: int) -> None:
    (tmp_path / "o.json").write_bytes(OLD)
    child = start([*LONG, "--json", "o.json"], tmp_path)
    time.sleep(2 + random.Random(moment).uniform(0, 8))  # by then Python has started and listens
    child.send_signal(number)
    code, _, err = end(child)
    assert code in (0, 128 + number, -number), (code, err)  # done already; said; before Python listened
    assert "Traceback" not in err or code == -number or "import" in err, err
    content = (tmp_path / "o.json").read_bytes()
    if content == OLD:
        assert code != 0
    else:  # a file that says that it is complete is, whatever came after it; one that is not was said
        written = json.loads(content)
        assert code != -number
        if written["ridgeline"]["complete"]:
            assert written["completed"] == 400_000
        else:
            assert code == 128 + number
            assert written["completed"] < 400_000
    assert left(tmp_path) == {"o.json"}


def test_a_signal_after_the_work_does_not_undo_it(tmp_path: pathlib.Path) -> None:
    """The command has returned its exit code, and the interpreter is being taken down."""
    script = (
        "import atexit, os, signal, sys\n"
        "sys.argv[1:] = ['schedule', 'gpipe', '--stages', '2', '--microbatches', '2', '--json', 'o.json']\n"
        "for each in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):\n"
        "    atexit.register(os.kill, os.getpid(), each)\n"
        "from sim.cli import main\n"
        "sys.exit(main())\n"
    )
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, env=env, capture_output=True, timeout=WAIT_S,
                          check=False, preexec_fn=hears_interrupts)  # fmt: skip
    assert (done.returncode, done.stderr) == (0, b"")
    json.loads((tmp_path / "o.json").read_bytes())


@pytest.mark.parametrize("option", ["--json", "--trace", "--csv", "--plot"])
def test_a_full_disk_leaves_what_was_there(tmp_path: pathlib.Path, tiny: pathlib.Path, option: str) -> None:
    name = {"--json": "o.json", "--trace": "t.json", "--csv": "o.csv", "--plot": "p.png"}[option]
    (tiny / name).write_bytes(OLD)
    (tiny / "filler").write_bytes(b"x" * (40 << 10))
    words = ["schedule", "zb-v", "--stages", "4", "--microbatches", "160"] if option != "--plot" else SCHEDULE
    if option == "--csv":
        (tiny / "filler").write_bytes(b"x" * (60 << 10))
    refused(end(start([*words, option, str(tiny / name)], tmp_path)), str(tiny / name), "No space left on device")
    assert (tiny / name).read_bytes() == OLD
    assert left(tiny) == {name, "filler"}
    (tiny / name).unlink()
    (tiny / "filler").unlink()


def test_a_folder_on_a_full_disk_is_made_whole_or_not_at_all(tmp_path: pathlib.Path, tiny: pathlib.Path) -> None:
    refused(end(start([*SMALL, "--out", str(tiny / "a" / "b")], tmp_path)), "No space left on device")
    assert left(tiny) == set()


def test_a_cache_on_a_full_disk_costs_the_cache(tmp_path: pathlib.Path, tiny: pathlib.Path) -> None:
    code, out, err = end(start(SCHEDULE, tmp_path, RIDGELINE_CACHE_DIR=str(tiny)))
    assert code == 0
    assert "makespan" in out
    assert err.count("\n") <= 1
    assert not err or "compiled kernels are not kept" in err
    subprocess.run(["rm", "-rf", str(tiny / "ridgeline")], check=True)


@pytest.mark.parametrize("words", [SCHEDULE, SMALL[:1] + SMALL[2:], ["models"], ["devices"], ["traces"], ["policies"]])
def test_standard_output_on_a_full_disk(tmp_path: pathlib.Path, words: list[str]) -> None:
    env = {**os.environ, "PYTHONPATH": str(ROOT)}
    with open("/dev/full", "wb") as full:
        more = ["--json", "o.json"] if words[0] != "traces" else []
        done = subprocess.run([sys.executable, "-m", "sim.cli", *words, *more], cwd=tmp_path, env=env, stdout=full,
                              stderr=subprocess.PIPE, timeout=WAIT_S, check=False)  # fmt: skip
    refused((done.returncode, "", done.stderr.decode()), "standard output", "No space left on device")
    if words[0] != "traces":
        json.loads((tmp_path / "o.json").read_bytes())  # what was asked for is there


@pytest.mark.parametrize("words", [["models"], SMALL[:1] + SMALL[2:]])
def test_a_reader_that_stops_reading(tmp_path: pathlib.Path, words: list[str]) -> None:
    child = start([*words, "--json", "o.json"], tmp_path)
    assert child.stdout is not None
    child.stdout.close()
    assert child.stderr is not None
    err = child.stderr.read()
    assert (child.wait(WAIT_S), err) == (0, b"")
    json.loads((tmp_path / "o.json").read_bytes())


@pytest.mark.parametrize("option", ["--json", "--out"])
def test_a_read_only_disk_is_refused_before_the_work(tmp_path: pathlib.Path, sealed: pathlib.Path, option: str) -> None:
    begin = time.monotonic()
    refused(end(start([*LONG, option, str(sealed / "x")], tmp_path)), str(sealed / "x"), "cannot be written")
    assert time.monotonic() - begin < WAIT_S


def test_a_read_only_cache_costs_the_cache_and_writes_nowhere_else(
    tmp_path: pathlib.Path, sealed: pathlib.Path
) -> None:
    before = {path for room in ("kernels", "sim") for path in (ROOT / room).rglob("*.nb?")}
    code, _, err = end(start(SCHEDULE, tmp_path, RIDGELINE_CACHE_DIR=str(sealed)))
    assert code == 0
    assert err.count("\n") == 1
    assert f"compiled kernels are not kept, {sealed} cannot be written" in err
    assert {path for room in ("kernels", "sim") for path in (ROOT / room).rglob("*.nb?")} == before


def test_a_cache_that_others_can_write_to_is_refused(tmp_path: pathlib.Path) -> None:
    (tmp_path / "ridgeline").mkdir()
    (tmp_path / "ridgeline").chmod(0o777)
    refused(end(start(SCHEDULE, tmp_path, RIDGELINE_CACHE_DIR=str(tmp_path))), "others can write to this folder")


def test_two_cold_processes_at_once(tmp_path: pathlib.Path) -> None:
    both = [start([*SCHEDULE, "--json", f"{n}.json"], tmp_path, RIDGELINE_CACHE_DIR=str(tmp_path / "c")) for n in "ab"]
    for child in both:
        code, _, err = end(child)
        assert (code, err) == (0, "")
    assert (tmp_path / "a.json").read_bytes() == (tmp_path / "b.json").read_bytes()


def test_a_trace_from_a_fifo_that_nobody_writes_to(tmp_path: pathlib.Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    refused(end(start(["traces", "azure:pipe"], tmp_path)), "nobody has written into it for 10 s")


def test_a_fifo_that_nobody_reads(tmp_path: pathlib.Path) -> None:
    os.mkfifo(tmp_path / "pipe")
    refused(end(start([*SCHEDULE, "--json", "pipe"], tmp_path)), "pipe", "nobody has read it for 10 s")


def test_an_endless_loop_in_compiled_code_ends_on_ctrl_c(tmp_path: pathlib.Path) -> None:
    package = tmp_path / "site-packages"  # loops of users' files are counted, those of what is installed are not
    package.mkdir()
    (package / "spinning.py").write_text(
        "from kernels.jit import njit\n@njit\n"
        "def spin(x):\n    while True:\n        x += 1\n        if x < 0:\n            break\n    return x\n"
    )
    (tmp_path / "endless.py").write_text(
        "from sim.serving.plugin import Option\nfrom spinning import spin\n"
        "OPTIONS = {'max_token': Option(64, 't'), 'max_seq': Option(4, 's')}\n"
        "open('loaded', 'w').close()\n"
        "def plan(r):\n    return spin(r.me.num_plan)\n"
    )
    child = start([*SMALL, "--policy", "endless.py"], tmp_path, PYTHONPATH=f"{ROOT}{os.pathsep}{package}")
    while not (tmp_path / "loaded").exists() and child.poll() is None:
        time.sleep(0.2)
    for _ in range(WAIT_S // 10):
        time.sleep(10)
        child.send_signal(signal.SIGINT)  # until one falls into the loop
        if child.poll() is not None:
            break
    code, _, err = end(child)
    assert code == 130
    assert err.count("\n") == 1, err


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_no_child_outlives_its_parent(tmp_path: pathlib.Path, number: signal.Signals) -> None:
    script = (
        "import subprocess, sys, time\n"
        "from hw_models.process import child_environment\n"
        "code = 'import time; from hw_models.process import end_with_parent; end_with_parent(); print(1, flush=True); "
        "time.sleep(600)'\n"
        "child = subprocess.Popen([sys.executable, '-c', code], env=child_environment(), stdout=subprocess.PIPE)\n"
        "child.stdout.readline(); print(child.pid, flush=True); time.sleep(600)\n"
    )
    parent = subprocess.Popen([sys.executable, "-c", script], cwd=ROOT, stdout=subprocess.PIPE)
    assert parent.stdout is not None
    child = int(parent.stdout.readline())
    parent.send_signal(number)
    parent.wait(WAIT_S)
    for _ in range(100):
        if not _is_alive(child):
            return
        time.sleep(0.1)
    pytest.fail("the child is still there")


def _is_alive(pid: int) -> bool:
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


@pytest.mark.parametrize("verb", ["goodput", "plan", "study", "report"])
def test_what_is_stopped_keeps_its_parts(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], verb: str
) -> None:
    """The third part is interrupted within."""
    from sim.cli import main

    words, place = {
        "goodput": (["goodput", "--steps=50", "--step-s=1", "--gpus=8", "--mtbf-h=100", "--runs=5"],
                    "sim.training.goodput.simulate_run"),
        "plan": (["plan", "--model=gpt2", "--system=dgx_a100", "--gpus=8", "--batch=8", "--seq=64", "--top=2"],
                 "sim.training.search.score_plans"),
        "study": (["study", "run", "--all", "--small"], "sim.run.study.run_module"),
        "report": (["study", "report", "--small", "--markdown", str(tmp_path / "o.md")], "sim.run.study.run_module"),
    }[verb]  # fmt: skip
    room, _, name = place.rpartition(".")
    whole, count = getattr(importlib.import_module(room), name), 0
    monkeypatch.setattr("sim.run.study.names", lambda: ["two-bp", "attacc", "two-bp", "attacc"])

    def interrupted(*arguments: object, **more: object) -> object:
        nonlocal count
        count += 1
        if count == 3:
            raise KeyboardInterrupt
        return whole(*arguments, **more)

    monkeypatch.setattr(place, interrupted)
    assert main([*words, "--json", str(tmp_path / "o.json")]) == 130
    content = json.loads((tmp_path / "o.json").read_bytes())
    assert count == 3
    assert content["complete"] is False
    if verb == "goodput":
        assert len(content["run"]) == 2
    elif verb == "plan":
        assert content["count"]["plan"] > 0
        assert content["best"]
        assert "replayed_s" not in content["best"][0]
    else:
        assert {row["study"] for row in content["rows"]} == {"two-bp", "attacc"}
    assert left(tmp_path) == {"o.json"}  # no page of a part of the studies
    assert "interrupted: what was done until then is kept" in capsys.readouterr().err


@pytest.mark.parametrize("verb", ["capacity", "compare"])
def test_a_search_that_is_stopped_keeps_what_it_found(
    tmp_path: pathlib.Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], verb: str
) -> None:
    """The third run is interrupted within: it says that it is not complete, and is no answer of the search."""
    import dataclasses

    from sim.cli import main
    from sim.run import capacity, compare
    from sim.run.simulate import Simulation, simulate

    count = 0

    def interrupted(*arguments: object, **more: object) -> Simulation:
        nonlocal count
        count += 1
        done = simulate(*arguments, **more)  # type: ignore[arg-type]
        result = dataclasses.replace(done.result, complete=count < 3)
        return dataclasses.replace(done, result=result)

    monkeypatch.setattr({"capacity": capacity, "compare": compare}[verb], "simulate", interrupted)
    words = [verb, "--model", "gpt2", "--system", "a100_sxm", "--requests", "poisson:rate=4,n=6,prompt=20,output=5"]
    if verb == "compare":
        words = [*words[:3], *words[5:], "--systems", "a100_sxm,h100_sxm,l4,h200"]
    assert main([*words, "--json", str(tmp_path / "o.json")]) == 130
    assert count == 3
    content = json.loads((tmp_path / "o.json").read_bytes())
    if verb == "capacity":
        assert (len(content["tried"]), content["complete"]) == (2, False)
    else:
        assert set(content["rows"][0]) == {"metric", "a100_sxm", "h100_sxm", "h100_sxm / a100_sxm"}
    assert "interrupted" in capsys.readouterr().err
