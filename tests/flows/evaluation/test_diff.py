"""What changed between two versions of a corpus, as `gpt diff` and the page of the next training tell it."""

import csv
import json
import random
from pathlib import Path

import mlflow
import pytest

from flows.store.artifacts import Store
from tests.flows.conftest import TINY, WORDS, gpt_here, own_home, settings
from tests.flows.stages.test_clean import artifacts

DRAW = random.Random(0)
EVERY = [" ".join(DRAW.choices(WORDS, k=12)) + f" {number}." for number in range(167)]
TEXTS, OTHERS, NEW = EVERY[:160], EVERY[160:163], EVERY[163:]


def write(folder: Path, name: str, rows: list[dict]) -> None:
    folder.mkdir(exist_ok=True)
    with (folder / name).open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


def write_first(folder: Path) -> None:
    write(folder, "a.csv", [{"text": text, "lang": "en", "note": "x"} for text in TEXTS])
    write(folder, "b.csv", [{"text": text, "lang": "en", "note": "x"} for text in OTHERS])


def write_second(folder: Path) -> None:
    """One text is changed, one emptied, b.csv gone, four new; every other `lang` is empty, `note` gone, `score` came."""
    texts = [*TEXTS, *NEW]
    texts[5], texts[7] = texts[5] + " Write to miller@mill.org", ""
    rows = [{"text": text, "lang": "en" * (n % 2), "score": n} for n, text in enumerate(texts)]
    write(folder, "a.csv", rows)
    (folder / "b.csv").unlink()


@pytest.fixture(scope="module")
def home(tmp_path_factory, prefect_server, empty_mlflow):
    """In which a corpus was trained, cleaned by another rule, and trained again when its raw data had changed."""
    folder = tmp_path_factory.mktemp("changed")
    train = ("train", "--from", str(folder / "raw"), "--name", "mine", *TINY)
    with own_home(folder / "home", prefect_server, empty_mlflow):
        write_first(folder / "raw")
        assert gpt_here(*train).returncode == 0
        other_rule = ("clean", *train[1:5], *settings({"clean.min_chars": 60}))
        assert gpt_here(*other_rule).returncode == 0
        write_second(folder / "raw")
        again = gpt_here(*train)
        assert again.returncode == 0, again.stderr
        assert (
            "the raw data have changed since the last training: 4 added, 1 gone: empty, 3 gone: not in the raw data, 1 changed"
            in again.stderr
        )
        assert "raw data have changed" not in gpt_here(*train).stderr  # than the last training has them
        yield folder / "home"


@pytest.fixture(scope="module")
def keys(home) -> list[str]:
    """Of the three versions, as they were made."""
    made = sorted(Store(home).manifests("mine", "clean"), key=lambda manifest: manifest["created"])
    return [manifest["key"] for manifest in made]


def diff(*asked: str) -> dict:
    result = gpt_here("diff", "mine", *asked, "--json")
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def numbers(facts: dict) -> dict[str, tuple[int, str]]:
    return {row["documents"]: (row["number"], row["such_as"]) for row in facts["documents"]}


def test_documents_reasons_and_columns_before_and_after(keys):
    facts = diff("--from", keys[0][:6], "--to", keys[2][:6])
    assert (facts["from"]["key"], facts["to"]["key"]) == (keys[0], keys[2])
    assert numbers(facts) == {
        "added": (4, "a.csv row 160, a.csv row 161, a.csv row 162"),
        "gone: empty": (1, "a.csv row 7"),
        "gone: not in the raw data": (3, "b.csv row 0, b.csv row 1, b.csv row 2"),
        "changed": (1, "a.csv row 5"),
        "the same": (158, "a.csv row 0, a.csv row 1, a.csv row 2"),
    }
    assert {row["reason"]: (row["before"], row["after"]) for row in facts["rejects"]} == {"empty": (0, 1)}
    columns = {row["column"]: (row["before"], row["after"]) for row in facts["columns"]}
    assert columns == {"lang": (0, 0.5), "note": (0, "–"), "score": ("–", 0), "text": (0, pytest.approx(1 / 164))}
    assert any("files.b.csv" in line for line in facts["because"])


def test_the_newest_is_compared_with_the_one_before(keys):
    facts = diff()
    assert (facts["from"]["key"], facts["to"]["key"]) == (keys[1], keys[2])
    assert "clean.min_chars 60 -> 1" in facts["because"]
    assert (diff("--from", keys[0])["to"]["key"], diff("--to", keys[1])["from"]["key"]) == (keys[2], keys[0])
    words = gpt_here("diff", "mine").stdout
    assert all(word in words for word in (keys[1], "clean.min_chars 60 -> 1", "too_short", "lang", "50.0%"))


def test_documents_that_moved_to_other_rows_are_the_same(keys, home, tmp_path):
    rows = [{"text": text, "lang": "en", "note": "x"} for text in TEXTS]
    for name, some in (("first", rows), ("second", rows[2:])):
        write(tmp_path / "moved", "a.csv", some)
        assert gpt_here("clean", "--from", str(tmp_path / "moved"), "--name", "moved").returncode == 0, name
    facts = json.loads(gpt_here("diff", "moved", "--json").stdout)
    found = numbers(facts)
    assert found["gone: not in the raw data"] == (2, "a.csv row 0, a.csv row 1")
    assert found["the same"][0] == 158
    assert found["added"][0] == found["changed"][0] == 0


def test_a_damaged_version_of_then_does_not_stop_a_training(home, tmp_path):
    train = ("train", "--from", str(tmp_path / "damaged"), "--name", "damaged", *TINY)
    write_first(tmp_path / "damaged")
    assert gpt_here(*train).returncode == 0
    for path in (home / "artifacts" / "damaged" / "clean").glob("*/documents/00000.parquet"):
        path.write_bytes(b"nothing")
    write_second(tmp_path / "damaged")
    again = gpt_here(*train)
    assert again.returncode == 0, again.stderr
    assert "what changed in the raw data is left out: " in again.stderr


def test_the_page_of_a_training_on_new_data_tells_it(home, prefect_server):
    experiment = mlflow.get_experiment_by_name("gpt").experiment_id
    order = ["attributes.start_time ASC"]
    runs = mlflow.search_runs([experiment], "tags.corpus = 'mine'", order_by=order, output_format="list")
    files = [
        [f.path for f in mlflow.artifacts.list_artifacts(run_id=r.info.run_id, artifact_path="changes")] for r in runs
    ]
    assert [len(found) for found in files] == [0, 3, 0]  # of the first training, on new data, and on the same
    page = mlflow.artifacts.load_text(f"runs:/{runs[1].info.run_id}/changes/card.md")
    assert "| gone: empty | 1 | a.csv row 7 |" in page
    assert "| lang | 0.0% | 50.0% |" in page
    assert [run.data.tags.get("changes", "")[:22] for run in runs] == ["", "4 added, 1 gone: empty", ""]
    (shown,) = artifacts(prefect_server, "changes-mine")
    assert "| lang | 0.0% | 50.0% |" in shown["data"]


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        (("mine", "--from", "ffffff"), "no other version 'ffffff' of the cleaned 'mine' is here"),
        (("mine", "--to", "ffffff"), "no other version 'ffffff' of the cleaned 'mine' is here"),
        (("nothing",), "no other version of the cleaned 'nothing' is here to compare; here are: none"),
        (("*",), "no other version of the cleaned '*' is here to compare; here are: none"),
        (("/tmp",), "no other version of the cleaned '/tmp' is here to compare; here are: none"),
        (("alone",), "no other version of the cleaned 'alone' is here to compare; here are: "),
    ],
)
def test_what_cannot_be_compared_is_refused_in_a_line(home, tmp_path, asked, words):
    write_first(tmp_path / "alone")
    assert gpt_here("clean", "--from", str(tmp_path / "alone"), "--name", "alone").returncode == 0
    refused = gpt_here("diff", *asked)
    assert refused.returncode == 2
    assert words in refused.stderr
    assert len(refused.stderr.strip().splitlines()) == 1


def test_a_damaged_version_and_the_same_version_twice_are_refused(home, keys):
    twice = gpt_here("diff", "mine", "--from", keys[2], "--to", keys[2])
    assert (twice.returncode, len(twice.stderr.strip().splitlines())) == (2, 1)
    documents = home / "artifacts" / "mine" / "clean" / keys[1] / "documents" / "00000.parquet"
    whole = documents.read_bytes()
    documents.write_bytes(whole[:-7])
    refused = gpt_here("diff", "mine", "--from", keys[1], "--to", keys[2])
    documents.write_bytes(whole)
    assert refused.returncode == 2
    assert "is damaged: documents/00000.parquet has" in refused.stderr
