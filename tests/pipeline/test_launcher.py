"""`hydra/launcher=slots` and its pool of processes, with real processes that train nothing."""

import os
import signal
import subprocess
import sys
import textwrap
import time

import pytest

from hydra_plugins.stagetransfer_launcher._pool import Command, Pool
from hydra_plugins.stagetransfer_launcher.launcher import environments, visible_devices, why
from stagetransfer.files import read_json
from stagetransfer.pipeline.distributed import PARENT
from stagetransfer.pipeline.sweep import labels


def commands(folder, *scripts):
    return [
        Command([sys.executable, "-c", script], folder / str(i) / "log.txt")
        for i, script in enumerate(scripts)
    ]


def run(slots, jobs):
    codes = {}
    Pool(slots).run(jobs, lambda number, slot: None, codes.__setitem__)
    return [codes[i] for i in range(len(jobs))]


def gone(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    with open(f"/proc/{pid}/stat") as file:  # an orphan whom nobody has buried yet
        return file.read().rsplit(")", 1)[1].split()[0] == "Z"


def wait_for(condition, seconds=30):
    end = time.monotonic() + seconds
    while not (value := condition()):
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)
    return value


def test_as_many_at_a_time_as_slots_each_a_fresh_process_with_its_own_device(tmp_path):
    script = "import os, time; print(os.environ['DEVICE'], os.getpid()); a = time.time(); time.sleep(0.3); print(a, time.time())"  # noqa: E501
    jobs = commands(tmp_path, *[script] * 5)
    assert run([{"DEVICE": "a"}, {"DEVICE": "b"}], jobs) == [0] * 5
    outputs = [job.output.read_text().split() for job in jobs]
    assert len({output[1] for output in outputs}) == 5
    spans = [(output[0], float(output[2]), float(output[3])) for output in outputs]
    for device, begin, _ in spans:
        running = [d for d, b, e in spans if b <= begin < e]
        assert running.count(device) == 1
        assert len(running) <= 2
    assert {device for device, *_ in spans} == {"a", "b"}


def test_a_job_that_dies_is_known_and_the_others_go_on(tmp_path):
    die = "import os; os.kill(os.getpid(), 9)"
    jobs = commands(tmp_path, die, "raise ValueError('no such thing')", "print('well')")
    codes = run([{}], jobs)
    assert codes == [-9, 1, 0]
    assert why(codes[0], jobs[0].output) == "killed by SIGKILL (out of memory?)"
    assert why(codes[1], jobs[1].output) == "exit code 1: ValueError: no such thing"
    assert jobs[2].output.read_text() == "well\n"


def test_ctrl_c_ends_all_processes_and_theirs_even_the_deaf(tmp_path):
    script = f"""
        import signal, sys
        from pathlib import Path
        from hydra_plugins.stagetransfer_launcher import _pool
        signal.signal(signal.SIGINT, signal.default_int_handler)  # shells ignore it behind an &
        _pool.GRACE = 1.0
        child = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
        shell = f'{{sys.executable}} -c "{{child}}" & echo $$ $!; wait'
        jobs = [_pool.Command(["sh", "-c", shell], Path({str(tmp_path)!r}) / f"{{i}}.txt") for i in range(3)]
        _pool.Pool([{{}}, {{}}]).run(jobs, lambda *_: None, lambda *_: None)
    """  # noqa: E501
    launcher = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)], stderr=subprocess.PIPE, text=True
    )

    def begun():
        texts = [path.read_text().split() for path in tmp_path.glob("*.txt")]
        return len(texts) == 2 and all(len(text) == 2 for text in texts) and texts

    pids = [int(pid) for text in wait_for(begun) for pid in text]
    time.sleep(0.5)  # until the deaf are deaf
    launcher.send_signal(signal.SIGINT)
    _, error = launcher.communicate(timeout=30)
    assert "KeyboardInterrupt" in error
    assert len(pids) == 4
    wait_for(lambda: all(gone(pid) for pid in pids), 5)
    assert len(list(tmp_path.glob("*.txt"))) == 2  # the third was never started


def test_a_child_ends_when_its_launcher_is_killed(tmp_path):
    child = "from stagetransfer.pipeline.distributed import end_with_parent; import time; end_with_parent(); print('on', flush=True); time.sleep(600)"  # noqa: E501
    script = f"""
        import os, subprocess, sys, time
        env = os.environ | {{{PARENT!r}: str(os.getpid())}}
        with open({str(tmp_path / "out")!r}, "w") as out:
            process = subprocess.Popen([sys.executable, "-c", {child!r}], env=env, stdout=out)
        print(process.pid, flush=True)
        time.sleep(600)
    """
    launcher = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)], stdout=subprocess.PIPE, text=True
    )
    pid = int(launcher.stdout.readline())
    wait_for(lambda: "on" in (tmp_path / "out").read_text())
    launcher.kill()
    launcher.communicate()
    wait_for(lambda: gone(pid), 10)


def test_each_slot_sees_one_device_and_its_share_of_the_cores(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)))
    slots = environments(4, ["2", "GPU-7f"])
    assert [slot["CUDA_VISIBLE_DEVICES"] for slot in slots] == ["2", "GPU-7f"] * 2
    assert {slot["OMP_NUM_THREADS"] for slot in slots} == {"4"}
    assert "CUDA_VISIBLE_DEVICES" not in environments(2, [])[0]
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert "OMP_NUM_THREADS" not in environments(4, [])[0]


@pytest.mark.parametrize(
    ("named", "count", "devices"),
    [
        (None, 3, ["0", "1", "2"]),
        ("3,1", 2, ["3", "1"]),
        ("", 0, []),
        ("GPU-a, GPU-b", 2, ["GPU-a", "GPU-b"]),
    ],
)
def test_the_devices_are_those_that_are_visible(monkeypatch, named, count, devices):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if named is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", named)
    monkeypatch.setattr("torch.cuda.device_count", lambda: count)
    assert visible_devices() == devices


def test_a_jobs_label_is_what_the_others_do_not_share():
    assert labels([["a=1", "b=1"], ["a=1", "b=2"]]) == ["b=1", "b=2"]
    assert labels([["a=1", "b=1"]]) == ["a=1 b=1"]


@pytest.fixture
def application(tmp_path):
    """A Hydra program with the project's callback, whose jobs do as `x` says."""
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "config.yaml").write_text(
        "x: well\nhydra:\n  output_subdir: null\n  sweep:\n    dir: sweep\n"
        "  run:\n    dir: .\n  callbacks:\n    sweep:\n"
        "      _target_: stagetransfer.pipeline.sweep.SweepCallback\n"
    )
    (tmp_path / "app.py").write_text(
        textwrap.dedent(
            """
            import os
            import hydra
            @hydra.main(version_base="1.3", config_path="conf", config_name="config")
            def main(cfg):
                print("x is", cfg.x)
                if cfg.x == "die":
                    os.kill(os.getpid(), 9)
                if cfg.x == "fail":
                    raise RuntimeError("no luck")
            main()
            """
        )
    )

    def start(*words):
        return subprocess.run(
            [sys.executable, "app.py", "-m", "hydra/launcher=slots", *words],
            cwd=tmp_path, capture_output=True, text=True, timeout=120,
        )  # fmt: skip

    return start


def test_a_sweep_lists_its_dead_and_exits_with_1(application, tmp_path):
    done = application("x=die,well,fail,'a b'", "hydra.launcher.slots=2")
    assert done.returncode == 1
    assert "2 of 4 jobs failed" in done.stderr
    assert "#0 x=die: killed by SIGKILL (out of memory?)" in done.stderr
    assert "#2 x=fail: exit code 1: RuntimeError: no luck" in done.stderr
    assert "Traceback" not in done.stderr
    assert "#1 finished in" in done.stdout
    assert "#3 finished in" in done.stdout
    assert (tmp_path / "sweep" / "1" / "log.txt").read_text() == "x is well\n"
    assert read_json(tmp_path / "sweep" / "2" / "job.json")["overrides"] == ["x=fail"]
    assert (tmp_path / "sweep" / "0" / "failure.txt").read_text().startswith("killed by SIGKILL")


def test_no_slots_are_refused_with_one_line(application):
    done = application("x=well", "hydra.launcher.slots=0")
    assert done.returncode == 2
    assert done.stderr.strip() == "error: hydra.launcher.slots=0: must be 1 or more"
