"""Values of landmarks painted on the voxels of their patches."""

from __future__ import annotations

import numpy as np
import pytest

from anatograph.explanation.painting import paint
from anatograph.imaging.volume import Frame


def test_painting() -> None:
    frame = Frame((20, 24, 28), (2.0, 2.0, 2.0), (-10.0, 5.0, 100.0))
    lungs = np.ones(frame.shape, dtype=bool)
    lungs[:, :, :3] = False
    centres = frame.to_lps([(8, 10, 8), (12, 10, 8), (29, 10, 8), (5, 5, 5)])
    heat = paint(np.array([0.8, 0.2, 0.9, np.nan]), centres, 10.0, lungs, frame)
    assert heat[8, 10, 7] == pytest.approx(0.8, abs=1e-3)
    assert heat[8, 10, 10] == pytest.approx(0.5, abs=1e-3)  # halfway between both
    assert heat[8, 10, 13] == pytest.approx(0.2, abs=1e-3)
    assert heat[8, 10, 20] == 0  # no patch reaches here
    assert heat[5, 5, 5] == 0  # the landmark that is absent
    assert (heat[:, :, :3] == 0).all()
    # A patch has the size it says: 10 mm are the voxels within 5 mm of its middle.
    line = heat[8, 10, :]
    assert np.flatnonzero(line).tolist() == [6, 7, 8, 9, 10, 11, 12, 13, 14, 27]
    assert heat[8, 10, 27] == pytest.approx(0.9, abs=1e-3)  # reached from a landmark outside the scan
    same = paint(np.full(4, 0.3), centres, 10.0, lungs, frame)
    np.testing.assert_allclose(same[same > 0], 0.3, rtol=1e-6)
