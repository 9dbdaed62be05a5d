"""The packed dataset: what goes in comes out, once an epoch, in an order that only the seed decides."""

import itertools
import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpt import GPTError
from gpt.data import shards
from gpt.data.dataset import IGNORE, Dataset, write
from tests.gpt.conftest import EOS, VOCAB, about, documents, pack, splits

PAD = 1


def packed_with(folder, lengths, block_size=2, **changes):
    """Documents of which every token tells where it stands: 100 * document + place + 2."""
    some = [(str(n), 100 * n + np.arange(length) + 2, length) for n, length in enumerate(lengths)]
    changes |= {"vocab_size": 100 * len(lengths) + 102, "block_size": block_size, "pad_id": PAD}
    write(folder, splits(train=some, val=some), about(**changes))
    return Dataset.open(folder)


def epoch_of(data, epoch, batch_size, seed):
    """The rows of an epoch as (ids, targets, documents)."""
    n = data.n_sequences()
    rows = []
    for step in range(epoch * n // batch_size, -(-(epoch + 1) * n // batch_size)):
        for number, row in enumerate(zip(*data.batch(step, batch_size, seed), strict=True), step * batch_size):
            rows += [row] if epoch * n <= number < (epoch + 1) * n else []
    assert len(rows) == n
    return rows


@settings(max_examples=60, deadline=None)
@given(
    lengths=st.lists(st.integers(0, 30), min_size=1, max_size=12),
    block_size=st.integers(2, 13),
    batch_size=st.integers(1, 7),
    seed=st.integers(0, 2**40),
)
def test_every_token_is_a_target_exactly_once_an_epoch(tmp_path_factory, lengths, block_size, batch_size, seed):
    lengths = [*lengths, 1]
    block_size = min(block_size, sum(lengths) + len(lengths))
    data = packed_with(tmp_path_factory.mktemp("data"), lengths, block_size)
    wanted = sorted(
        (number, before, target)
        for number, length in enumerate(lengths)
        for tokens in [[EOS, *(100 * number + np.arange(length) + 2).tolist(), EOS]]
        for before, target in itertools.pairwise(tokens)
    )
    for epoch in (0, 1):
        seen, padding = [], 0
        for ids, targets, of in epoch_of(data, epoch, batch_size, seed):
            real = targets != IGNORE
            seen += zip(of[real].tolist(), ids[real].tolist(), targets[real].tolist(), strict=True)
            assert (of[~real] == -1).all()
            assert (ids[~real] == PAD).all()
            padding += int((~real).sum())
        assert sorted(seen) == wanted
        assert padding == data.n_sequences() * block_size - len(wanted) < block_size


@settings(max_examples=30, deadline=None)
@given(step=st.integers(0, 50), seed=st.integers(0, 9), parts=st.sampled_from([1, 2, 3, 6]))
def test_a_batch_depends_on_step_and_seed_alone_and_parts_make_it_up(data, step, seed, parts):
    whole, fresh = data.batch(step, 6, seed), Dataset.open(data.folder)
    made = [fresh.batch(step, 6, seed, part, parts) for part in range(parts)]
    for mine, theirs in zip(whole, zip(*made, strict=True), strict=True):
        assert mine.dtype == np.int64
        assert (mine == np.concatenate(theirs)).all()


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data")
    pack(folder)
    return Dataset.open(folder)


def test_documents_lie_otherwise_in_each_epoch_and_by_each_seed(data):
    n = data.n_sequences()
    first, second, other = (data.batch(0, n, 1), data.batch(1, n, 1), data.batch(0, n, 2))
    for batch in (second, other):
        assert {*map(bytes, first.targets_BT)} != {*map(bytes, batch.targets_BT)}  # not only the order of the rows


def test_evaluation_takes_the_documents_as_they_stand(tmp_path):
    data = packed_with(tmp_path, [3, 1, 0, 2], block_size=4)
    ids_BT, targets_BT, documents_BT = data.sequences("val", [0, 1, 2])
    assert targets_BT.tolist() == [[2, 3, 4, EOS], [102, EOS, EOS, 302], [303, EOS, -1, -1]]
    assert ids_BT.tolist() == [[EOS, 2, 3, 4], [EOS, 102, EOS, EOS], [302, 303, PAD, PAD]]
    assert documents_BT.tolist() == [[0, 0, 0, 0], [1, 1, 2, 3], [3, 3, -1, -1]]


def test_the_same_documents_give_the_same_bytes_in_whatever_batches_they_come(packed, tmp_path):
    for size in (1, 50):
        found = splits(size, train=documents(1, 60), val=documents(2, 12))
        write(tmp_path / "again", found, about(tokenizer_fingerprint="rule of three"))
        for path in packed.iterdir():
            assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes()


def test_counts_dtypes_and_the_index(tmp_path):
    counts = pack(tmp_path)
    some = list(documents(1, 60))
    lengths = [len(ids) for _, ids, _ in some]
    assert counts["train"] == {"tokens": sum(lengths) + 60, "documents": 60, "bytes": 2 * sum(lengths)}
    data = Dataset.open(tmp_path)
    index = data.splits["train"].index
    for number, (name, ids, n_bytes) in enumerate(some):
        row = index[number]
        assert (row["doc_id"].decode(), row["length"], row["bytes"], row["row"]) == (name, len(ids), n_bytes, number)
        assert shards.read_sources(tmp_path)[row["source"]] == f"file-{len(name) % 3}"
        assert (data.splits["train"].tokens(row["offset"] + np.arange(len(ids))) == ids).all()
    assert data.splits["train"].stream.dtype == np.uint16
    pack(tmp_path / "wide", vocab_size=70_000)
    assert Dataset.open(tmp_path / "wide").splits["val"].stream.dtype == np.uint32


@pytest.mark.parametrize(
    ("split", "message"),
    [
        ([("a", np.array([1, VOCAB]), 2)], f"'a' has token {VOCAB}"),
        ([("b", np.array([1]), 2), ("a", np.array([1, -1]), 2)], "'a' has token -1"),
        ([("a", np.array([1, EOS]), 2)], "'a' has the end-of-document token"),
        ([], "no document in the val split"),
        ([("a" * 33, np.array([1, 2]), 2)], f"'{'a' * 33}' has 2 bytes: an id has at most 32"),
        ([("b", np.array([1]), 2), ("a", np.array([1, 2]), 2**32)], f"'a' has {2**32} bytes"),
        ([("a", np.array([1, 2]), 2)], "val has 3 tokens, so T can be at most 3"),
    ],
)
def test_what_cannot_be_packed_is_refused(tmp_path, split, message):
    some = [("x", np.ones(40, np.int64), 40)]
    with pytest.raises(GPTError, match=message):
        write(tmp_path, splits(train=some, val=split), about())
    with pytest.raises(GPTError, match=r"dataset\.json is missing"):
        Dataset.open(tmp_path)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"block_size": 1}, "block_size is 1; it must be from 2"),
        ({"eos_id": VOCAB}, f"eos_id is {VOCAB}; it must be from 0 to {VOCAB - 1}"),
        ({"pad_id": -1}, "pad_id is -1; it must be from 0"),
        ({"document_mask": 1}, "document_mask is 1"),
    ],
)
def test_a_wrong_description_is_refused(changes, message):
    with pytest.raises(GPTError, match=message):
        about(**changes)


def edit(path, **changes):
    document = json.loads(path.read_text())
    path.write_text(json.dumps(document | changes))


@pytest.mark.parametrize("name", ["train-00000.tokens.npy", "val-00000.index.npy", "dataset.json"])
@pytest.mark.parametrize("damage", ["missing", "empty", "cut", "cut in the header", "foreign", "longer"])
def test_a_damaged_file_is_named(packed, name, damage):
    path = packed / name
    whole = path.read_bytes()
    if damage == "missing":
        path.unlink()
    else:
        damaged = {
            "empty": b"",
            "cut": whole[:-5],
            "cut in the header": whole[:19],
            "foreign": b"PK\x03\x04 hello",
            "longer": whole + b"abc",
        }
        path.write_bytes(damaged[damage])
    with pytest.raises(GPTError, match=name):
        Dataset.open(packed)


def test_a_shard_of_another_tokenizer_or_dataset_is_refused(packed, tmp_path):
    for changes, message in (
        ({"n_train": 61}, r"train-00000\.index\.npy is of another dataset"),
        ({"vocab_size": 70_000}, r"train-00000\.tokens\.npy is of another tokenizer or vocabulary"),
    ):
        pack(tmp_path / "other", **changes)
        for name in ("train-00000.tokens.npy", "train-00000.index.npy"):
            (packed / name).write_bytes((tmp_path / "other" / name).read_bytes())
        with pytest.raises(GPTError, match=message):
            Dataset.open(packed)


def test_edited_content_is_noticed(packed):
    description = json.loads((packed / "dataset.json").read_text())
    for changes, message in [
        ({"version": 2}, "version 2"),
        ({"format": "x"}, "not of the format"),
        ({"shards": {"train": description["shards"]["train"]}}, r"dataset\.json has no split val: pack"),
        ({"vocab_size": 70_000}, "another tokenizer or vocabulary"),
        ({"eos_id": 5}, "does not end in eos 5"),
        ({"block_size": "16"}, "block_size is '16'"),
        (
            {"shards": {**description["shards"], "val": {"val-00000": "0"}}},
            r"val-00000\.index\.npy is of another dataset",
        ),
    ]:
        edit(packed / "dataset.json", **changes)
        with pytest.raises(GPTError, match=message):
            Dataset.open(packed)
        (packed / "dataset.json").write_text(json.dumps(description))
    path = packed / "train-00000.index.npy"
    index = np.load(path)
    for name, message in (("length", "do not add up"), ("bytes", "was edited"), ("offset", "was edited")):
        edited = index.copy()
        edited[name][3] += 1
        np.save(path, edited)
        with pytest.raises(GPTError, match=message):
            Dataset.open(packed)
    np.save(path, index)
    path = packed / "train-00000.tokens.npy"
    tokens = np.load(path)
    tokens[int(index["length"][0]) + 1] = 7
    np.save(path, tokens)
    with pytest.raises(GPTError, match="does not end in eos"):
        Dataset.open(packed)


def test_a_token_beyond_the_vocabulary_is_refused_when_it_is_read(packed):
    path = packed / "val-00000.tokens.npy"
    tokens = np.load(path)
    tokens[2] = VOCAB
    np.save(path, tokens)
    with pytest.raises(GPTError, match="over vocab_size"):
        Dataset.open(packed).sequences("val", [0])
