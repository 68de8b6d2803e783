"""The learning curve against curves that are known, and when it says that it cannot tell."""

import json

import numpy as np
import pytest

from thawline.errors import DataError
from thawline.evaluate.learning_curve import Measure, fit_power_law, learning_curve, on_features, power_law, shuffled

Law = tuple[float, float, float]


def drawn_from(law: Law, m: int = 2000) -> Measure:
    """Errors at random whose share follows a power law; an example is hard or easy whatever the size."""
    hardness = np.random.default_rng(0).random(m)

    def measure(size: int, seed: int) -> np.ndarray:
        noise = 0.01 * np.random.default_rng([size, seed]).standard_normal(m)
        return np.asarray(hardness + noise < power_law(np.array(law), float(size)), dtype=float)

    return measure


@pytest.mark.parametrize("law", [(2.0, 0.5, 0.1), (1.0, 0.3, 0.0), (5.0, 1.0, 0.2), (0.0, 0.05, 0.3)])
def test_fit_finds_the_law(law: Law) -> None:
    sizes = np.array([100.0, 200, 400, 800, 1600])
    errors = power_law(np.array(law), sizes)  # type: ignore[arg-type]
    found = fit_power_law(sizes, np.stack([errors, errors]), np.ones(5))
    assert found.shape == (2, 3)
    np.testing.assert_allclose(power_law(found[0], 3200.0), power_law(np.array(law), 3200.0), atol=1e-3)


def test_gain_is_foretold() -> None:
    law = (3.0, 0.5, 0.05)
    found = learning_curve(drawn_from(law), 1600)
    assert json.loads(json.dumps(found)) == found
    real = float(power_law(np.array(law), 1600.0) - power_law(np.array(law), 3200.0))
    assert found["gain"]["low"] < real < found["gain"]["high"]
    assert found["gain"]["value"] == pytest.approx(real, abs=0.015)
    assert [point["size"] for point in found["points"]] == [100, 200, 400, 800, 1600]
    assert [len(point["draws"]) for point in found["points"]] == [5, 5, 5, 5, 1]
    assert found["sure"]
    assert found["words"].startswith("Twice as many labels would lower the error by 0.0")


def test_flat_cannot_be_told() -> None:
    found = learning_curve(drawn_from((0.0, 0.5, 0.2)), 1600, times=4)
    assert not found["sure"]
    assert found["words"].startswith("4 times as many labels")
    assert found["words"].endswith("cannot be told.")


def test_a_jump_is_no_power_law() -> None:
    def measure(size: int, seed: int) -> np.ndarray:
        return (np.arange(1000) < (500 if size < 1600 else 100)).astype(float)

    assert learning_curve(measure, 1600)["words"].endswith("does not follow a power law, so it cannot be told.")


def test_more_data_lowers_the_error_on_features() -> None:
    rng = np.random.default_rng(0)
    labels = rng.integers(0, 2, 1600)
    features = labels[:, None] * 0.3 + rng.standard_normal((1600, 40))
    measure = on_features((features[:800], labels[:800]), (features[800:], labels[800:]))
    np.testing.assert_array_equal(measure(100, 3), measure(100, 3))
    assert measure(800, 0).mean() < measure(50, 0).mean()
    found = learning_curve(measure, 800, sizes=4, seeds=3)
    assert found["points"][-1]["error"] < found["points"][0]["error"]


def test_too_few() -> None:
    with pytest.raises(DataError, match="needs 80 examples to learn from; there are 50"):
        learning_curve(drawn_from((1.0, 0.5, 0.1)), 50)


def test_each_beginning_has_each_class_in_its_share() -> None:
    labels = np.repeat([0, 1, 2], [600, 300, 100])
    for size in (10, 100, 500):
        np.testing.assert_allclose(np.bincount(labels[shuffled(labels, 0)[:size]]), np.array([0.6, 0.3, 0.1]) * size, atol=1)
    assert sorted(shuffled(labels, 1).tolist()) == list(range(1000))
