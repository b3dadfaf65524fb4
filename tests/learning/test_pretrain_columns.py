"""Where the columns that pretraining is told of come from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import anatograph
from anatograph.errors import UserError
from anatograph.learning.training.settings import PretrainSettings
from fixtures.small import Small


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[PretrainSettings]:
    """The settings with which training would begin."""
    seen: list[PretrainSettings] = []

    def train(study: Any, run: Any, settings: PretrainSettings, *more: Any) -> None:
        seen.append(settings)

    monkeypatch.setattr("anatograph.learning.api.train", train)
    return seen


def test_the_table_is_the_studys_own_or_the_one_given(
    small: Small, tmp_path: Path, asked: list[PretrainSettings]
) -> None:
    config = tmp_path / "recipe.toml"
    config.write_text('negatives_within = "site"\n')
    other = tmp_path / "other.csv"
    small.table().to_csv(other, index=False)
    run = tmp_path / "run"
    anatograph.pretrain(small.study, run, negatives_within="site")
    anatograph.pretrain(small.study, run, config=config)
    anatograph.pretrain(small.study, run, overrides=["negatives_within=site"], group="subject_id")
    anatograph.pretrain(small.study, run, config=config, cohort=other)
    assert [one.negatives_within for one in asked] == ["site"] * 4
    assert [one.group for one in asked] == ["", "", "subject_id", ""]
    own = str(small.cohort.resolve())
    assert [one.group_table for one in asked] == [own, own, own, str(other.resolve())]


def test_a_column_or_table_that_nothing_comes_of_is_refused(small: Small, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="negatives_within is empty: name a column"):
        anatograph.pretrain(small.study, tmp_path / "run", negatives_within="")
    with pytest.raises(UserError, match="no column of it: name group or negatives_within"):
        anatograph.pretrain(small.study, tmp_path / "run", cohort=small.cohort)
    with pytest.raises(UserError, match="resumed with its own cohort table"):
        anatograph.pretrain(small.study, tmp_path / "run", resume=True, cohort=small.cohort)
    assert not (tmp_path / "run").exists()
