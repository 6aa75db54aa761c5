"""Features less their mean, over their deviation, both of the training clips."""

import numpy as np

from avs.standardize import standardized


def test_standardizing_uses_training_clips_only() -> None:
    table = np.random.default_rng(0).normal(3, 2, (2, 12, 4, 5)).astype(np.float32)
    table[..., 0] = 7  # a constant feature stays finite
    train = np.arange(6)
    done = standardized(table, train)
    np.testing.assert_allclose(done[:, train].mean((0, 1, 2)), 0, atol=1e-5)
    np.testing.assert_allclose(done[:, train, :, 1:].std((0, 1, 2)), 1, atol=1e-5)
    shifted = table.copy()
    shifted[:, 6:] += 100
    np.testing.assert_array_equal(standardized(shifted, train)[:, train], done[:, train])
