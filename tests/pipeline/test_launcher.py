"""The launcher `hydra/launcher=slots` and its process pool, with processes that train nothing."""

import os
import signal
import subprocess
import sys
import textwrap
import time

import pytest

from conftest import wait_for
from hydra_plugins.stagetransfer_launcher._process_pool import Command, ProcessPool
from hydra_plugins.stagetransfer_launcher.launcher import (
    cause_of_exit,
    program,
    result,
    slot_environments,
    visible_devices,
)
from stagetransfer.files import read_json
from stagetransfer.pipeline.distributed import PARENT
from stagetransfer.pipeline.sweep import Job, labels


def python_commands(folder, *scripts):
    return [
        Command([sys.executable, "-c", script], folder / str(i) / "log.txt")
        for i, script in enumerate(scripts)
    ]


def run_pool(slots, jobs):
    codes = {}
    ProcessPool(slots).run(jobs, lambda number, slot: None, codes.__setitem__)
    return [codes[i] for i in range(len(jobs))]


def has_ended(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    with open(f"/proc/{pid}/stat") as file:  # a zombie: ended, not yet waited for
        return file.read().rsplit(")", 1)[1].split()[0] == "Z"


def test_one_process_per_slot_runs_at_a_time_each_with_its_own_device(tmp_path):
    script = "import os, time; print(os.environ['DEVICE'], os.getpid()); a = time.time(); time.sleep(0.3); print(a, time.time())"  # noqa: E501
    jobs = python_commands(tmp_path, *[script] * 5)
    assert run_pool([{"DEVICE": "a"}, {"DEVICE": "b"}], jobs) == [0] * 5
    outputs = [job.output.read_text().split() for job in jobs]
    assert len({output[1] for output in outputs}) == 5
    spans = [(output[0], float(output[2]), float(output[3])) for output in outputs]
    for device, begin, _ in spans:
        running = [d for d, b, e in spans if b <= begin < e]
        assert running.count(device) == 1
        assert len(running) <= 2
    assert {device for device, *_ in spans} == {"a", "b"}


def test_the_exit_code_of_a_killed_job_is_reported_and_the_others_go_on(tmp_path):
    die = "import os; os.kill(os.getpid(), 9)"
    jobs = python_commands(tmp_path, die, "raise ValueError('no such thing')", "print('done')")
    codes = run_pool([{}], jobs)
    assert codes == [-9, 1, 0]
    assert cause_of_exit(codes[0], jobs[0].output) == "killed by SIGKILL (out of memory?)"
    assert cause_of_exit(codes[1], jobs[1].output) == "exit code 1: ValueError: no such thing"
    assert jobs[2].output.read_text() == "done\n"


def test_a_job_that_trained_sources_alone_has_no_accuracy(tmp_path):
    """Its folder is that of a stored stage, which has no metrics.json."""
    job = Job(tmp_path / "0", 0)
    job.begin(["chain=[natural]"], tmp_path / "stages" / "0123456789abcdef")
    assert result(job) == ""


def test_ctrl_c_ends_all_processes_and_their_children_that_ignore_sigterm(tmp_path):
    script = f"""
        import signal, sys
        from pathlib import Path
        from hydra_plugins.stagetransfer_launcher import _process_pool as pool
        signal.signal(signal.SIGINT, signal.default_int_handler)  # a shell ignores SIGINT after &
        pool.SECONDS_BEFORE_SIGKILL = 1.0
        child = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); time.sleep(600)"
        shell = f'{{sys.executable}} -c "{{child}}" & echo $$ $!; wait'
        jobs = [pool.Command(["sh", "-c", shell], Path({str(tmp_path)!r}) / f"{{i}}.txt") for i in range(3)]
        pool.ProcessPool([{{}}, {{}}]).run(jobs, lambda *_: None, lambda *_: None)
    """  # noqa: E501
    launcher = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(script)], stderr=subprocess.PIPE, text=True
    )

    def both_running():
        texts = [path.read_text().split() for path in tmp_path.glob("*.txt")]
        return len(texts) == 2 and all(len(text) == 2 for text in texts) and texts

    pids = [int(pid) for text in wait_for(both_running) for pid in text]
    time.sleep(0.5)  # until the children ignore SIGTERM
    launcher.send_signal(signal.SIGINT)
    _, error = launcher.communicate(timeout=30)
    assert "KeyboardInterrupt" in error
    assert len(pids) == 4
    wait_for(lambda: all(has_ended(pid) for pid in pids), 5)
    assert len(list(tmp_path.glob("*.txt"))) == 2  # the third was never started


def test_a_job_ends_when_its_launcher_is_killed(tmp_path):
    child = "from stagetransfer.pipeline.distributed import end_with_parent; import time; end_with_parent(); print('started', flush=True); time.sleep(600)"  # noqa: E501
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
    wait_for(lambda: "started" in (tmp_path / "out").read_text())
    launcher.kill()
    launcher.communicate()
    wait_for(lambda: has_ended(pid), 10)


def test_each_slot_sees_one_gpu_and_its_share_of_the_cpu_cores(monkeypatch):
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    monkeypatch.setattr(os, "sched_getaffinity", lambda _: set(range(16)))
    slots = slot_environments(4, ["2", "GPU-7f"])
    assert [slot["CUDA_VISIBLE_DEVICES"] for slot in slots] == ["2", "GPU-7f"] * 2
    assert {slot["OMP_NUM_THREADS"] for slot in slots} == {"4"}
    assert "CUDA_VISIBLE_DEVICES" not in slot_environments(2, [])[0]
    monkeypatch.setenv("OMP_NUM_THREADS", "3")
    assert "OMP_NUM_THREADS" not in slot_environments(4, [])[0]


@pytest.mark.parametrize(
    ("named", "count", "devices"),
    [
        (None, 3, ["0", "1", "2"]),
        ("3,1", 2, ["3", "1"]),
        ("", 0, []),
        ("GPU-a, GPU-b", 2, ["GPU-a", "GPU-b"]),
    ],
)
def test_visible_devices_follow_cuda_visible_devices(monkeypatch, named, count, devices):
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    if named is not None:
        monkeypatch.setenv("CUDA_VISIBLE_DEVICES", named)
    monkeypatch.setattr("torch.cuda.device_count", lambda: count)
    assert visible_devices() == devices


@pytest.mark.parametrize(
    ("started_as", "arguments", "expected"),
    [
        (["python3", "train.py"], ["-m", "seed=0,1"], ["train.py"]),
        (["python3", "/bin/stagetransfer", "train"], ["-m"], ["/bin/stagetransfer", "train"]),
        (["python3", "-m", "stagetransfer", "train"], [], ["-m", "stagetransfer", "train"]),
    ],
)
def test_a_job_is_started_by_the_program_that_started_the_sweep(
    monkeypatch, started_as, arguments, expected
):
    monkeypatch.setattr(sys, "orig_argv", [*started_as, *arguments])
    monkeypatch.setattr(sys, "argv", ["anything", *arguments])
    assert program() == [sys.executable, *expected]


def test_a_job_is_labelled_by_the_overrides_that_not_all_jobs_share():
    assert labels([["a=1", "b=1"], ["a=1", "b=2"]]) == ["b=1", "b=2"]
    assert labels([["a=1", "b=1"]]) == ["a=1 b=1"]


@pytest.fixture
def application(tmp_path):
    """A Hydra program with the project's sweep callback; `x` decides how a job ends."""
    (tmp_path / "conf").mkdir()
    (tmp_path / "conf" / "config.yaml").write_text(
        "x: succeed\nhydra:\n  output_subdir: null\n  sweep:\n    dir: sweep\n"
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
                    raise RuntimeError("a failure")
            main()
            """
        )
    )

    def start_sweep(*overrides):
        return subprocess.run(
            [sys.executable, "app.py", "-m", "hydra/launcher=slots", *overrides],
            cwd=tmp_path, capture_output=True, text=True, timeout=120,
        )  # fmt: skip

    return start_sweep


def test_a_sweep_lists_its_failed_jobs_and_exits_with_code_1(application, tmp_path):
    done = application("x=die,succeed,fail,'a b'", "hydra.launcher.slots=2")
    assert done.returncode == 1
    assert "2 of 4 jobs failed" in done.stderr
    assert "#0 x=die: killed by SIGKILL (out of memory?)" in done.stderr
    assert "#2 x=fail: exit code 1: RuntimeError: a failure" in done.stderr
    assert "Traceback" not in done.stderr
    assert "#1 finished in" in done.stdout
    assert "#3 finished in" in done.stdout
    assert (tmp_path / "sweep" / "1" / "log.txt").read_text() == "x is succeed\n"
    assert read_json(tmp_path / "sweep" / "2" / "job.json")["overrides"] == ["x=fail"]
    assert (tmp_path / "sweep" / "0" / "failure.txt").read_text().startswith("killed by SIGKILL")


@pytest.mark.parametrize("subdir", ["run_${hydra.job.num}", "${hydra.job.override_dirname}"])
def test_folders_of_jobs_with_other_names(application, tmp_path, subdir):
    done = application("x=fail,succeed", f"hydra.sweep.subdir={subdir}")
    assert done.returncode == 1
    assert "#0 x=fail: exit code 1: RuntimeError: a failure" in done.stderr
    names = ("x=fail", "x=succeed") if "override" in subdir else ("run_0", "run_1")
    assert (tmp_path / "sweep" / names[0] / "failure.txt").is_file()
    assert (tmp_path / "sweep" / names[1] / "log.txt").read_text() == "x is succeed\n"


def test_a_sweep_folder_that_is_used_again(application, tmp_path):
    assert application("x=succeed,fail,fail").returncode == 1
    other = tmp_path / "sweep" / "inner" / "0"
    other.mkdir(parents=True)
    for file in (other.parent / "multirun.yaml", other / "job.json", other / "failure.txt"):
        file.write_text("of another sweep")
    foreign = [tmp_path / "sweep" / name / "job.json" for name in ("a", "b")]
    for file, text in zip(foreign, ('{"number": 1}', "no JSON"), strict=True):
        file.parent.mkdir()
        file.write_text(text)
    done = application("x=succeed,succeed")
    assert [file.read_text() for file in foreign] == ['{"number": 1}', "no JSON"]
    assert done.returncode == 0
    assert "2 jobs, all finished" in done.stdout
    assert (other / "job.json").read_text() == "of another sweep"


def test_one_folder_for_all_jobs_is_an_error_of_one_line(application, tmp_path):
    done = application("x=succeed,fail", "hydra.sweep.subdir=same")
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("error: hydra.sweep.subdir=same: each job needs a folder")
    assert not (tmp_path / "sweep").exists()


def test_zero_slots_are_an_error_of_one_line(application):
    done = application("x=succeed", "hydra.launcher.slots=0")
    assert done.returncode == 2
    assert done.stderr.strip() == "error: hydra.launcher.slots=0: must be 1 or more"
