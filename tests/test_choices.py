"""A word of an option that stands for a method is known wherever something else hangs on that method."""

from __future__ import annotations

from typing import get_args

from anatograph.anatomy.registration.register import DEFORMATIONS
from anatograph.choices import Archive, LungMethod, RegistrationMethod, TargetKind
from anatograph.evaluation.headline import HEADLINES
from anatograph.imaging.lungs.choose import FINDERS
from anatograph.reporting.sections.methods import LUNGS, REGISTRATIONS
from anatograph.reporting.sections.references import REFERENCES
from anatograph.study.archives.build import ARCHIVES
from anatograph.study.versions import VERSIONS


def test_every_lung_method_can_run_has_a_version_and_is_described_in_the_report() -> None:
    methods = set(get_args(LungMethod)) - {"auto"}
    assert set(FINDERS) == methods - {"given"}
    assert {step.removeprefix("lungs:") for step in VERSIONS if step.startswith("lungs:")} == methods
    assert set(LUNGS) == methods
    assert {reference for _, reference in LUNGS.values()} - {""} <= set(REFERENCES)


def test_every_registration_can_run_has_a_version_and_is_described_in_the_report() -> None:
    methods = set(get_args(RegistrationMethod))
    assert {"affine", "ants-affine", *DEFORMATIONS} == methods
    assert {step.removeprefix("register:") for step in VERSIONS if step.startswith("register:")} == methods
    assert set(REGISTRATIONS) == methods
    assert {reference for _, reference in REGISTRATIONS.values()} <= set(REFERENCES)


def test_every_archive_has_a_recipe() -> None:
    assert set(ARCHIVES) == set(get_args(Archive))


def test_every_kind_of_target_has_a_headline() -> None:
    assert set(HEADLINES) == set(get_args(TargetKind))
