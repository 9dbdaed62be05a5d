"""The alias `champion` moves only to a version that is better beyond the noise."""

import math
import shutil
from contextlib import nullcontext
from types import SimpleNamespace

import mlflow
import pytest

from flows import UserError
from flows.evaluation.comparison import challenge_text
from flows.models.promotion import CHAMPION, Challenge, champions, named_decoders, pin, promote
from gpt.evaluation.confidence import Interval

NAME = "gpt-mine"


@pytest.fixture
def tracker(tmp_path, empty_mlflow):
    """What `promote` uses of a run's tracker, on a registry in which `gpt-mine` has the versions 1 to 3."""
    shutil.copy(empty_mlflow, tmp_path)
    before = mlflow.get_tracking_uri()
    mlflow.set_tracking_uri(f"sqlite:///{tmp_path}/mlflow.db")
    client = mlflow.MlflowClient()
    client.create_registered_model(NAME)
    for _ in range(3):
        client.create_model_version(NAME, str(tmp_path))
    yield SimpleNamespace(client=client, assessing=nullcontext)
    mlflow.set_tracking_uri(before)


def challenge(low: float, high: float, excluded: int = 0) -> Challenge:
    middle = (low + high) / 2 if math.isfinite(low + high) else 0.0
    return high < 0, challenge_text(2.0 + middle, 2.0, Interval(middle, low, high), 1234, excluded)


def never(champion: str) -> Challenge:
    raise AssertionError("it is not to be measured")


def test_the_first_version_is_champion_unmeasured(tracker):
    assert champions() == []
    assert promote(tracker, NAME, "1", never) == "version 1 is the first"
    assert champions() == ["gpt-mine/1"]
    assert promote(tracker, NAME, "1", never) == "version 1 stays champion"


def test_a_version_with_an_alias_is_named_and_a_pin_is_an_alias(tracker):
    for version in "123":
        tracker.client.set_model_version_tag(NAME, version, "digest", f"digest {version}")
    assert named_decoders() == {}
    promote(tracker, NAME, "1", never)
    assert pin(f"{NAME}/2") == pin(f"{NAME}/2") == "gpt-mine/2"
    pin(f"{NAME}@champion")
    assert named_decoders() == {"digest 1": "gpt-mine/1 (champion, pinned-1)", "digest 2": "gpt-mine/2 (pinned-2)"}
    pin(f"{NAME}@pinned-2", pinned=False)
    assert named_decoders() == {"digest 1": "gpt-mine/1 (champion, pinned-1)"}
    for unknown in ("gpt-mine/4", "gpt-mine@pinned-2", "gpt-other/1"):
        with pytest.raises(UserError, match="is not known"):
            pin(unknown)


def test_a_better_version_replaces_the_champion(tracker):
    promote(tracker, NAME, "1", never)
    asked = []
    verdict = promote(tracker, NAME, "2", lambda champion: asked.append(champion) or challenge(-0.3, -0.1, excluded=5))
    assert asked == ["gpt-mine/1"]
    assert verdict == (
        "version 2 replaces 1: 1.8000 bits per byte against 2.0000 on 1,234 held-out documents "
        "(not on 5 that the champion was trained on); difference -0.2000, 95 % interval -0.3000 to -0.1000"
    )
    assert champions() == ["gpt-mine/2"]


@pytest.mark.parametrize(
    ("result", "end"),
    [
        (challenge(0.1, 0.3), "worse than the champion"),
        (challenge(-0.3, 0.1), "within the noise"),
        (challenge(-math.inf, math.inf), "within the noise"),
    ],
)
def test_any_other_version_does_not_and_is_measured_once(tracker, result, end):
    promote(tracker, NAME, "1", never)
    verdict = promote(tracker, NAME, "2", lambda champion: result)
    assert verdict.startswith("version 1 stays: ")
    assert verdict.endswith(end)
    assert promote(tracker, NAME, "2", never) == verdict
    assert champions() == ["gpt-mine/1"]


def test_a_champion_that_cannot_be_scored_stays_and_is_tried_again(tracker):
    def broken(champion: str) -> Challenge:
        raise UserError("its weights are gone")

    promote(tracker, NAME, "1", never)
    verdict = promote(tracker, NAME, "3", broken)
    assert verdict == "version 1 stays: it cannot be scored to compare (its weights are gone)"
    promote(tracker, NAME, "3", lambda champion: challenge(-0.3, -0.1))
    assert str(tracker.client.get_registered_model(NAME).aliases[CHAMPION]) == "3"
