"""The alias `champion` moves only to a version that is better beyond the noise."""

import shutil
from contextlib import nullcontext
from types import SimpleNamespace

import mlflow
import pytest

from flows import UserError
from flows.models.promotion import CHAMPION, champions, named_decoders, pin, promote

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


BETTER, WORSE = (True, "fewer bits"), (False, "within the noise")


def never(champion: str) -> tuple[bool, str]:
    raise AssertionError("it is not to be measured")


def test_the_first_version_is_champion_unmeasured(tracker):
    assert champions() == []
    assert promote(tracker, NAME, "1", never) == "version 1 is the first"
    assert champions() == ["gpt-mine/1"]
    assert promote(tracker, NAME, "1", never) == "version 1 stays champion"


def test_a_version_with_an_alias_is_named_and_a_pin_is_an_alias(tracker):
    for version in "123":
        tracker.client.set_model_version_tag(NAME, version, "digest", f"digest {version}")
    assert named_decoders() == set()
    promote(tracker, NAME, "1", never)
    assert pin(f"{NAME}/2") == pin(f"{NAME}/2") == "gpt-mine/2"
    pin(f"{NAME}@champion")
    assert named_decoders() == {"digest 1", "digest 2"}
    pin(f"{NAME}@pinned-2", pinned=False)
    assert named_decoders() == {"digest 1"}
    for unknown in ("gpt-mine/4", "gpt-mine@pinned-2", "gpt-other/1"):
        with pytest.raises(UserError, match="is not known"):
            pin(unknown)


def test_a_better_version_replaces_the_champion(tracker):
    promote(tracker, NAME, "1", never)
    asked = []
    verdict = promote(tracker, NAME, "2", lambda champion: asked.append(champion) or BETTER)
    assert asked == ["gpt-mine/1"]
    assert verdict == "version 2 replaces 1: fewer bits"
    assert champions() == ["gpt-mine/2"]


def test_any_other_version_does_not(tracker):
    promote(tracker, NAME, "1", never)
    verdict = promote(tracker, NAME, "2", lambda champion: WORSE)
    assert verdict == "version 1 stays: within the noise"
    assert champions() == ["gpt-mine/1"]


def test_a_champion_that_cannot_be_scored_stays_and_is_tried_again(tracker):
    def broken(champion: str) -> tuple[bool, str]:
        raise UserError("its weights are gone")

    promote(tracker, NAME, "1", never)
    verdict = promote(tracker, NAME, "3", broken)
    assert verdict == "version 1 stays: it cannot be scored to compare (its weights are gone)"
    promote(tracker, NAME, "3", lambda champion: BETTER)
    assert str(tracker.client.get_registered_model(NAME).aliases[CHAMPION]) == "3"
