"""Sweeps: what --over may say, what trials draw, the table; and real ones on Ray Tune, stopped, killed and resumed."""

import csv
import dataclasses
import json
import math
import os
import shutil
import signal

import numpy as np
import pytest

from inkling.train import config as configs
from inkling.train.cli import main
from inkling.train.runs import RunError
from inkling.train.storage import RunFolder
from inkling.train.tuning import effects, table
from inkling.train.tuning import sweep as sweeps
from inkling.train.tuning.picture import parallel_coordinates
from inkling.train.tuning.space import parse, settings, with_values
from inkling.train.tuning.sweep import SweepConfig
from tests.patience import wait_until
from tests.train.ray_processes import SMALL, Job, checkpoint_steps

QUICK = configs.quick()


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("learning_rat=1e-3,1e-2", "has no field 'learning_rat'; did you mean learning_rate?"),
        ("learning_rate", "expected FIELD=VALUES"),
        ("learning_rate=1e-2:1e-3", "1e-2 is not below 1e-3"),
        ("learning_rate=log:0:1e-3", "begins above 0"),
        ("learning_rate=fast,slow", "'fast' is no number"),
        ("learning_rate=1:2:3", "expected LOW:HIGH or log:LOW:HIGH"),
        ("learning_rate=-1:1", "--learning-rate takes a positive number"),
        ("learning_rate=nan,1", "'nan' is not finite"),
        ("shift_px=0:5000", "--shift-px takes from 0 to 1000"),
        ("epochs=1.5:3", "'1.5' is no whole number"),
        ("epochs=3", "one value is no choice"),
        ("l2=1e-4,1e-4", "the same value comes twice"),
        ("widths=8:16", "expected a list of values"),
        ("dropout=0.2,0.3", "expected 2 numbers joined by x"),
        ("policy=digits,letters", "'letters' is none of none, digits, robust, original"),
        ("horizontal-flip=yes,no", "'yes' is none of true, false"),
        ("seed=1,2", "--seeds 3 trains each setting with three seeds"),
        ("validation_size=1:2", "cannot be swept over"),
    ],
)
def test_what_cannot_be_swept_over_is_refused(line, expected):
    with pytest.raises(ValueError) as caught:
        parse([line], QUICK)
    assert f"--over {line}: " in str(caught.value) and expected in str(caught.value)


def test_a_field_given_twice_and_no_field_at_all_are_refused():
    with pytest.raises(ValueError, match="shift_px is swept over already"):
        parse(["shift_px=0:1", "--shift-px=2:3"], QUICK)
    with pytest.raises(ValueError, match="a sweep needs --over FIELD=VALUES"):
        parse([], QUICK)


def test_values_are_judged_beside_those_that_come_with_them():
    parse(["epochs=12,20", "plain_epochs=0:10"], QUICK)  # of the base's 6 epochs 10 could not be plain
    with pytest.raises(ValueError, match=r"--over plain_epochs=0:10: plain_epochs=10 is out of range"):
        parse(["epochs=5,8", "plain_epochs=0:10"], QUICK)


def test_draws_lie_in_their_ranges_and_reach_their_ends():
    space = parse(["learning_rate=log:1e-4:1e-2", "epochs=2:4", "shift_px=0:4", "dropout=0.2x0.3,0.3x0.5"], QUICK)
    drawn = settings(space, trials=400, seed=0)
    rates = np.array([values["learning_rate"] for values in drawn])
    assert rates.min() >= 1e-4 and rates.max() <= 1e-2
    assert np.mean(np.log10(rates)) == pytest.approx(-3, abs=0.1)  # even on a logarithmic scale
    counts = np.bincount([values["epochs"] for values in drawn], minlength=5)
    assert counts[:2].sum() == 0 and counts[2:].min() > 90  # either end as often as what lies between
    assert {values["dropout"] for values in drawn} == {(0.2, 0.3), (0.3, 0.5)}
    assert 0 <= min(values["shift_px"] for values in drawn) <= max(values["shift_px"] for values in drawn) <= 4


def test_more_trials_and_other_fields_leave_what_was_drawn():
    few = settings(parse(["l2=log:1e-5:1e-3"], QUICK), trials=3, seed=7)
    more = settings(parse(["shift_px=0:4", "l2=log:1e-5:1e-3"], QUICK), trials=5, seed=7)
    assert [values["l2"] for values in more[:3]] == [values["l2"] for values in few]
    assert few != settings(parse(["l2=log:1e-5:1e-3"], QUICK), trials=3, seed=8)


def test_lists_give_every_combination_and_ranges_want_a_number_of_trials():
    both = settings(parse(["policy=none,digits", "onednn=true,none"], QUICK), trials=None, seed=0)
    assert [tuple(values.values()) for values in both] == [
        ("none", True), ("none", None), ("digits", True), ("digits", None),
    ]  # fmt: skip
    with pytest.raises(ValueError, match="--over l2: a range has no end of values; --trials 20 draws"):
        settings(parse(["l2=0:1"], QUICK), trials=None, seed=0)


def test_a_policy_comes_before_its_strengths():
    config = with_values(QUICK, {"shift_px": 3.0, "policy": "none", "l2": 0.0})
    assert config.augmentation == dataclasses.replace(configs.POLICIES["none"], shift_px=3.0) and config.l2 == 0


def begin(tmp_path, *over, base=QUICK, **changes):
    changes = {"name": "s", "storage": str(tmp_path), "over": over} | changes
    return sweeps.begin(base, SweepConfig(**changes), lambda event: None)


def test_values_that_do_not_go_together_are_refused_before_anything_is_written(tmp_path):
    with pytest.raises(ValueError, match=r"trial 1 would set epochs=2 plain_epochs=3: plain_epochs=3 is out of range"):
        begin(tmp_path, "epochs=2,9", "plain_epochs=1,3")
    with pytest.raises(ValueError, match="--validation-size 0 holds no images out"):
        begin(tmp_path, "l2=0,1", base=dataclasses.replace(QUICK, validation_size=0))
    assert list(tmp_path.iterdir()) == []


def test_a_sweep_goes_on_only_with_its_own_settings(tmp_path):
    begin(tmp_path, "l2=0,1", "dropout=0.1x0.2,0.2x0.3")
    begin(tmp_path, "l2=0,1", "dropout=0.1x0.2,0.2x0.3")
    with pytest.raises(RunError, match=r"over=\['l2=0,1', .* then, \['l2=0,2'\] now.*sweep --resume s"):
        begin(tmp_path, "l2=0,2")
    resumed = begin(tmp_path, resume="s", base=configs.best())
    assert resumed.base == QUICK and len(resumed.trials()) == 4
    with pytest.raises(RunError, match="there is no sweep 'other' in .*; it has: s"):
        begin(tmp_path, resume="other", name="other")


def test_a_sweep_goes_on_only_with_its_own_data(tmp_path):
    sweep = begin(tmp_path, "l2=0,1")
    sweeps.check_data(sweep, "one")
    sweeps.check_data(begin(tmp_path, "l2=0,1"), "one")
    with pytest.raises(RunError, match="sweep 's' was begun with other data"):
        sweeps.check_data(sweep, "another")


def test_a_resumed_sweep_takes_more_trials(tmp_path):
    begin(tmp_path, "l2=0:1", trials=2)
    assert len(begin(tmp_path, resume="s", trials=3).trials()) == 3
    assert len(begin(tmp_path, resume="s").trials()) == 3


def measured(tmp_path, run, losses):
    lines = [{"step": n, "validation_loss": loss, "validation_accuracy": 0.9} for n, loss in enumerate(losses)]
    RunFolder(str(tmp_path), run).write("metrics.jsonl", "".join(f"{json.dumps(line)}\n" for line in lines).encode())


def test_the_table_has_the_best_first_with_the_error_over_seeds(tmp_path):
    base = dataclasses.replace(QUICK, epochs=2)
    sweep = begin(tmp_path, "l2=0.0,0.1,0.2,0.3", base=base, seeds=2)
    for run, losses in {
        "s-000-seed0": [0.5, 0.3], "s-000-seed1": [0.5, 0.5], "s-001-seed0": [0.5, 0.2], "s-001-seed1": [0.5, 0.2],
        "s-002-seed0": [0.1], "s-002-seed1": [0.1],
    }.items():  # fmt: skip
        measured(tmp_path, run, losses)
    sweeps.mark(sweep.folder, "s-002-seed0", "stopped")
    sweeps.mark(sweep.folder, "s-003-seed1", "failed", "a reason")
    states = sweeps.states(sweep)
    rows = table.rows(states)
    assert [(row.values["l2"], row.status) for row in rows] == [
        (0.1, "done"), (0.0, "done"), (0.2, "unfinished"), (0.3, "failed"),
    ]  # fmt: skip
    assert rows[1].loss == pytest.approx(0.4) and rows[1].loss_error == pytest.approx(0.1)
    assert math.isinf(rows[3].loss) and rows[3].accuracy is None
    assert "s-000-seed0 to -seed1  0    2/2     0.4000 ± 0.1000" in table.text(rows)
    table.write(sweep, states)
    with (tmp_path / "s/table.csv").open() as file:
        lines = list(csv.DictReader(file))
    assert [line["run"] for line in lines[:2]] == ["s-001-seed0", "s-001-seed1"]
    assert lines[-1]["status"] == "failed" and lines[-1]["why"] == "a reason" and lines[-1]["validation_loss"] == ""
    assert json.loads((tmp_path / "s/table.json").read_text())[0]["l2"] == 0.1


def test_the_effect_of_each_field_is_found(tmp_path):
    over = ("learning_rate=log:1e-3:1e-1", "policy=none,digits,original")
    sweep = begin(tmp_path, *over, base=dataclasses.replace(QUICK, epochs=1), trials=30)
    lift = {"none": 0.0, "digits": -0.02, "original": 0.05}
    states = []
    for number, trial in enumerate(sweep.trials()):
        error = 0.1 + 0.01 * math.log10(trial.values["learning_rate"] / 1e-3) + lift[trial.values["policy"]]
        epoch = sweeps.Epoch(1, 0.5, 1 - error - 1e-4 * (number % 2))
        states.append(sweeps.State(trial, [epoch], "done"))
    found = {(effect.field, effect.second): effect for effect in effects.effects(states, parse(over, QUICK))}
    expected = {("learning_rate", 1e-1): 0.02, ("policy", "digits"): -0.02, ("policy", "original"): 0.05}
    assert {key: effect.change for key, effect in found.items()} == pytest.approx(expected, abs=2e-4)
    assert list(found)[0] == ("policy", "digits") and all(0 < effect.error < 1e-4 for effect in found.values())
    assert effects.effects(states[:4], parse(over, QUICK)) == []  # too few to tell
    assert "-2.00" in effects.text(list(found.values()), 30)


@pytest.mark.parametrize("losses", [[[0.3], [0.3]], [[0.2, 0.1], []]], ids=["all alike", "one alone"])
def test_the_picture_of_few_runs_is_drawn(tmp_path, losses):
    over = ("widths=4x4x8x8,8x8x8x8", "onednn=true,none")
    sweep = begin(tmp_path, *over, base=dataclasses.replace(QUICK, epochs=2))
    for number, found in enumerate(losses):
        measured(tmp_path, f"s-{number:03d}", found)
    rows = table.rows(sweeps.states(sweep))
    assert parallel_coordinates(rows, parse(over, QUICK), "a $ sign").startswith(b"\x89PNG")


def test_asha_knows_what_an_earlier_start_has_measured(tmp_path):
    trials = pytest.importorskip("inkling.train.tuning.trials")
    sweep = begin(tmp_path, "l2=0.0,0.1,0.2", base=dataclasses.replace(QUICK, epochs=4), reduction_factor=2)
    measured(tmp_path, "s-000", [0.5, 0.4, 0.3, 0.2])
    asha = trials.scheduler_of(sweep, sweeps.states(sweep))
    new = trials.Past("s-001")
    asha.on_trial_add(None, new)
    assert asha.on_trial_result(None, new, {"epoch": 1, "validation_loss": 0.6}) == "STOP"
    better = trials.Past("s-002")
    asha.on_trial_add(None, better)
    assert asha.on_trial_result(None, better, {"epoch": 1, "validation_loss": 0.4}) == "CONTINUE"


class Feed:
    """Takes what a tracker would be told."""

    def __init__(self, run):
        self.run, self.steps, self.status = run, [], None

    def put(self, event):
        self.steps.append((event.step, sorted(event.figures)))

    def close(self, status, *, timeout_s):
        self.status = status


@pytest.mark.training
def test_the_driver_tells_trackers_what_it_reads_in_the_trials_folders(tmp_path, digits):
    from inkling.train.tuning.tracked import TrackedTrials

    sweep = begin(tmp_path, "l2=0.0,0.1", track="mlflow:./store")
    feeds = []

    def feeds_of(run, emit, origin, *, tensorboard):
        assert run.job.track == "mlflow:./store" and origin["sweep"] == "s" and not tensorboard
        feeds.append(Feed(run))
        return feeds[-1:]

    told = TrackedTrials(sweep, digits, lambda event: None, feeds_of=feeds_of)
    one, two = sweep.trials()
    for trial, count in ((one, 2), (two, 1), (one, 3)):
        lines = [{"step": step, "epoch": 1, "loss": 0.5} for step in range(1, count + 1)]
        lines.append({"step": count, "epoch": 1, "validation_loss": 0.4})
        content = "".join(json.dumps(line) + "\n" for line in lines).encode()
        RunFolder(str(tmp_path), trial.run).write("metrics.jsonl", content)
        told.measured(trial)
    told.ended(one, "finished")
    told.close()
    assert [(feed.run.folder.name, feed.status) for feed in feeds] == [("s-000", "finished"), ("s-001", "stopped")]
    assert feeds[0].steps == [
        (1, ["loss"]), (2, ["loss"]), (2, ["validation_loss"]), (3, ["loss"]), (3, ["validation_loss"]),
    ]  # fmt: skip


def test_mistakes_on_the_command_line_end_it_at_once(tmp_path, capsys, monkeypatch):
    monkeypatch.chdir(tmp_path)
    handler = signal.getsignal(signal.SIGTERM)
    try:
        assert main(["sweep", "--over", "learning_rat=1,2"]) == 2
        assert main(["sweep", "--resume", "x", "--epochs", "3"]) == 2
        assert main(["sweep", "--resume", "x"]) == 1
    finally:
        signal.signal(signal.SIGTERM, handler)
    told = capsys.readouterr().err
    assert "did you mean learning_rate?" in told and "--resume goes on with the sweep's own settings" in told
    assert "there is no sweep 'x' in runs; it has: none" in told


SWEEP = [*SMALL, "--epochs", "2", "--name", "s"]


def lines_of(folder):
    return {line["run"]: line for line in json.loads((folder / "runs/s/table.json").read_text())}


@pytest.mark.slow
@pytest.mark.process
def test_asha_ends_a_bad_trial_and_each_trial_is_a_run(digits_file, tmp_path):
    # One after the other, the good one first: each takes both CPUs.
    over = ["--over", "learning_rate=3e-3,1e-7", "--reduction-factor", "2", "--cpus-per-trial", str(os.cpu_count())]
    shutil.copy(digits_file, tmp_path / "digits.npz")
    status, output = Job(tmp_path, "sweep", *SWEEP, *over, "--data", "digits.npz").wait()
    assert status == 0, output
    found = lines_of(tmp_path)
    assert found["s-000"]["status"] == "done" and found["s-000"]["epochs"] == 2
    assert found["s-001"]["status"] == "stopped" and found["s-001"]["epochs"] == 1
    assert "s-001  stopped at epoch 1/2" in output and "python -m train --resume s-000" in output
    assert (tmp_path / "runs/s/parallel_coordinates.png").read_bytes().startswith(b"\x89PNG")
    assert {path.name for path in (tmp_path / "runs").iterdir()} == {"s", "s-000", "s-001"}
    assert not (tmp_path / "runs/s-000/report.json").exists()  # the test set is nobody's business here
    status, output = Job(tmp_path, "--resume", "s-001", "--in-process").wait()
    assert status == 0 and "going on from step" in output and "models/mnist/1" in output, output
    status, output = Job(tmp_path, "publish", "s-000").wait()
    assert status == 0 and "models/mnist/2" in output, output


@pytest.mark.slow
@pytest.mark.process
def test_a_sweep_that_was_killed_goes_on(digits_file, tmp_path):
    over = ["--over", "learning_rate=log:1e-3:1e-2", "--trials", "2", "--no-asha", "--data", digits_file]
    killed = Job(tmp_path, "sweep", *SWEEP, *over)
    wait_until(lambda: checkpoint_steps(tmp_path / "runs/s-000") or killed.process.poll() is not None, killed.output)
    assert killed.process.poll() is None, killed.output()
    killed.kill()
    stopped = Job(tmp_path, "sweep", "--resume", "s")
    stopped.wait_for("sweep s: 2 runs")
    stopped.process.send_signal(signal.SIGTERM)
    status, output = stopped.wait()
    assert status == 130 and "stopped; go on with: python -m train sweep --resume s" in output, output
    status, output = Job(tmp_path, "sweep", "--resume", "s").wait()
    assert status == 0, output
    assert {(line["status"], line["epochs"]) for line in lines_of(tmp_path).values()} == {("done", 2)}
    for run in ("s-000", "s-001"):
        lines = [json.loads(line) for line in (tmp_path / f"runs/{run}/metrics.jsonl").read_text().splitlines()]
        steps = [line["step"] for line in lines if "loss" in line]
        assert steps == sorted(set(steps)) and steps[-1] == 38
