"""The length of a run, expected and planned."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from small_study import SmallStudy, small

from anatograph.errors import UserError
from anatograph.learning.api import train
from anatograph.learning.model.folder import load_model
from anatograph.learning.training import plan
from anatograph.learning.training.plan import Length, Pace, expected_seconds, fitted
from anatograph.learning.training.settings import PretrainSettings

PACE = Pace(patch_update=0.5, view=0.2, graph_update=0.01)


def test_expected_time_counts_updates_and_views() -> None:
    settings = PretrainSettings(bank_views=4, recalibrate_batches=1, patch_batch=500, graph_batch=16)
    seconds = expected_seconds(PACE, Length(3, 100, 50), settings, lambda updates: 20)
    assert seconds == pytest.approx(3 * (100 * 0.5 + 50 * 0.01 + (20 * 4 + 16 + 1) * 0.2))
    fresh = PretrainSettings(bank_views=0, recalibrate_batches=1, patch_batch=500, graph_batch=16)
    seconds = expected_seconds(PACE, Length(1, 0, 50), fresh, lambda updates: 20)
    assert seconds == pytest.approx(50 * 0.01 + (2 * 16 * 50 + 17) * 0.2)


@pytest.mark.parametrize("most", [20.0, 100.0, 1000.0])
def test_the_longest_run_that_fits(most: float) -> None:
    whole = Length(10, 200, 40)

    def seconds(length: Length) -> float:
        return expected_seconds(PACE, length, PretrainSettings(), lambda updates: math.ceil(updates * 16 / 20))

    shorter = fitted(whole, most, seconds)
    assert 0.5 * most < seconds(shorter) <= most
    assert shorter.epochs <= whole.epochs
    assert shorter.patch_updates <= whole.patch_updates
    assert fitted(whole, 1e9, seconds) == whole


def test_a_run_of_given_minutes_is_planned_once_and_continues(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(plan, "measure", lambda trainer: Pace(0.01, 0.001, 0.01))
    study, run = SmallStudy(), tmp_path / "run"
    settings = small("minutes=0.005", "epochs=500")
    account = train(study, run, settings, progress=False)
    planned = json.loads((run / "settings.json").read_text(encoding="utf-8"))
    assert planned["minutes"] == 0.005
    assert 1 <= planned["epochs"] < 10
    assert account.results["updates"] == planned["epochs"] * (planned["patch_steps"] + planned["graph_rounds"])
    assert any("Planned for 0.005 minutes" in note for note in account.notes)
    again = train(study, run, settings, progress=False)  # the same request: what was planned stays
    assert any("finished already" in note for note in again.notes)
    with pytest.raises(UserError, match=r"minutes was 0\.005, now 9"):
        train(study, run, small("minutes=9", "epochs=500"), progress=False)
    monkeypatch.setattr(plan, "measure", lambda trainer: Pace(9.0, 9.0, 9.0))
    account = train(study, tmp_path / "least", settings, progress=False)
    assert account.results["updates"] == 2
    assert any("Even the shortest run of 2 updates takes" in note for note in account.notes)


def test_measuring_changes_no_bit_of_the_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    study = SmallStudy(absent=0.1)
    train(study, tmp_path / "silent", small(), progress=False)
    monkeypatch.setattr(plan, "LEAST_UPDATES", 1)
    account = train(study, tmp_path / "measured", small(), progress=True)
    assert "Expected time on this machine" in capsys.readouterr().err
    assert any("--minutes" in note for note in account.notes)
    one, two = (load_model(tmp_path / name / "model").state_dict() for name in ("silent", "measured"))
    assert all(torch.equal(one[name], two[name]) for name in one)


def test_the_same_request_continues_a_run(tmp_path: Path) -> None:
    study, run = SmallStudy(), tmp_path / "run"
    train(study, run, small(), progress=False)
    assert any("finished already" in note for note in train(study, run, small(), progress=False).notes)
    with pytest.raises(UserError, match=r"other settings \(seed was 0, now 4\); --resume"):
        train(study, run, small("seed=4"), progress=False)
