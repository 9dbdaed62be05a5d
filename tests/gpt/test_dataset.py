import json

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gpt import GPTError
from gpt.dataset import Dataset, write
from tests.gpt.conftest import EOS, VOCAB, T, documents, pack


def packed_with(tmp_path_factory, lengths, block_size=1):
    folder = tmp_path_factory.mktemp("data")
    some = [(str(n), np.arange(1, length + 1) % (VOCAB - 1) + 1, length) for n, length in enumerate(lengths)]
    write(
        folder,
        {"train": some, "val": some},
        vocab_size=VOCAB,
        eos_id=EOS,
        block_size=block_size,
        tokenizer_fingerprint="",
    )
    return Dataset.open(folder)


@settings(max_examples=40, deadline=None)
@given(
    lengths=st.lists(st.integers(0, 30), min_size=1, max_size=12),
    block_size=st.integers(1, 13),
    batch_size=st.integers(1, 7),
    seed=st.integers(0, 2**40),
)
def test_an_epoch_has_every_token_as_target_exactly_once(tmp_path_factory, lengths, block_size, batch_size, seed):
    block_size = min(block_size, sum(lengths) + len(lengths))
    data = packed_with(tmp_path_factory, lengths, block_size)
    stream = np.asarray(data.splits["train"].tokens)
    assert len(stream) == sum(length + 1 for length in lengths)
    before = np.concatenate(([EOS], stream[:-1]))
    n = data.n_sequences()
    steps = -(-2 * n // batch_size)
    batches = [data.batch(step, batch_size, seed) for step in range(steps)]
    rows = [(ids, targets) for batch in batches for ids, targets in zip(*batch, strict=True)]
    for epoch in (0, 1):
        seen = [(ids[targets >= 0], targets[targets >= 0]) for ids, targets in rows[epoch * n : (epoch + 1) * n]]
        pairs = np.sort(np.concatenate([i * VOCAB + t for i, t in seen]))
        assert (pairs == np.sort(before.astype(np.int64) * VOCAB + stream)).all()
    again = Dataset.open(data.folder)
    for step in reversed(range(steps)):  # whatever was asked before
        for mine, theirs in zip(batches[step], again.batch(step, batch_size, seed), strict=True):
            assert mine.dtype == np.int64
            assert (mine == theirs).all()


def test_the_last_sequence_is_padded_and_the_first_starts_from_eos(tmp_path_factory):
    data = packed_with(tmp_path_factory, [3, 1], block_size=4)  # stream: a b c eos d eos
    ids_BT, targets_BT = data.sequences("train", [0, 1])
    stream = data.splits["train"].tokens.tolist()
    assert ids_BT.tolist() == [[EOS, *stream[:3]], [*stream[3:5], EOS, EOS]]
    assert targets_BT.tolist() == [stream[:4], [*stream[4:], -1, -1]]


def test_epochs_and_seeds_differ_in_order(packed):
    data = Dataset.open(packed)
    n = data.n_sequences()
    first, second, other = data.batch(0, n, 1), data.batch(1, n, 1), data.batch(0, n, 2)
    assert (first[1] != second[1]).any()
    assert (first[1] != other[1]).any()


def test_the_same_documents_give_the_same_bytes(packed, tmp_path):
    pack(tmp_path / "again")
    for path in packed.iterdir():
        assert path.read_bytes() == (tmp_path / "again" / path.name).read_bytes()
    reference = tmp_path / "reference.npy"
    np.save(reference, np.load(packed / "train.npy"))
    assert (packed / "train.npy").read_bytes() == reference.read_bytes()


def test_counts_and_dtypes(tmp_path):
    counts = pack(tmp_path)
    lengths = [len(ids) for _, ids, _ in documents(1, 60)]
    assert counts["train"] == {"tokens": sum(lengths) + 60, "documents": 60, "bytes": 2 * sum(lengths)}
    assert Dataset.open(tmp_path).splits["train"].tokens.dtype == np.uint16
    pack(tmp_path / "wide", vocab_size=70_000)
    assert Dataset.open(tmp_path / "wide").splits["val"].tokens.dtype == np.uint32


@pytest.mark.parametrize(
    ("split", "message"),
    [
        ([("a", np.array([1, VOCAB]), 2)], f"'a' has token {VOCAB}"),
        ([("a", np.array([1, -1]), 2)], "'a' has token -1"),
        ([("a", np.array([1, EOS]), 2)], "contains the end-of-document token"),
        ([("a" * 33, np.array([1]), 2)], "does not fit 32 bytes"),
        ([("a", np.array([1.5]), 2)], "integers"),
        ([], "no document in the val split"),
        ([("a", np.array([1, 2]), 2)], "T can be at most 3"),
    ],
)
def test_what_cannot_be_packed_is_refused(tmp_path, split, message):
    some = [("x", np.ones(40, np.int64), 40)]
    about = {"vocab_size": VOCAB, "eos_id": EOS, "block_size": T, "tokenizer_fingerprint": ""}
    with pytest.raises(GPTError, match=message):
        write(tmp_path, {"train": some, "val": split}, **about)
    with pytest.raises(GPTError, match=r"dataset\.json is missing"):
        Dataset.open(tmp_path)


def edit(path, **changes):
    document = json.loads(path.read_text())
    path.write_text(json.dumps(document | changes))


@pytest.mark.parametrize("name", ["train.npy", "val.npy", "train.index.npy", "val.index.npy", "dataset.json"])
@pytest.mark.parametrize("damage", ["missing", "cut", "cut in the header", "foreign", "longer"])
def test_a_damaged_file_is_named(packed, name, damage):
    path = packed / name
    whole = path.read_bytes()
    if damage == "missing":
        path.unlink()
    else:
        damaged = {
            "cut": whole[:-5],
            "cut in the header": whole[:9],
            "foreign": b"PK\x03\x04 hello",
            "longer": whole + b"abc",
        }
        path.write_bytes(damaged[damage])
    with pytest.raises(GPTError, match=name):
        Dataset.open(packed)


def test_files_that_do_not_belong_together_are_noticed(packed, tmp_path):
    pack(tmp_path / "other", n_train=61)
    (packed / "train.npy").write_bytes((tmp_path / "other" / "train.npy").read_bytes())
    with pytest.raises(GPTError, match=r"train\.npy has \d+ tokens"):
        Dataset.open(packed)


def test_edited_content_is_noticed(packed):
    description = json.loads((packed / "dataset.json").read_text())
    for changes, message in [
        ({"version": 2}, "version 2"),
        ({"format": "x"}, "does not describe"),
        ({"vocab_size": 70_000}, "uint32"),
        ({"eos_id": 5}, "does not end in eos"),
        ({"splits": {**description["splits"], "val": {"tokens": 1}}}, "counts of val"),
    ]:
        edit(packed / "dataset.json", **changes)
        with pytest.raises(GPTError, match=message):
            Dataset.open(packed)
        edit(packed / "dataset.json", **description)
    index = np.load(packed / "train.index.npy")
    index["length"][3] += 1
    np.save(packed / "train.index.npy", index)
    with pytest.raises(GPTError, match=r"train\.index\.npy"):
        Dataset.open(packed)


def test_a_token_beyond_the_vocabulary_is_refused_when_it_is_read(packed):
    tokens = np.load(packed / "train.npy")
    tokens[5] = VOCAB
    np.save(packed / "train.npy", tokens)
    with pytest.raises(GPTError, match="over vocab_size"):
        Dataset.open(packed).sequences("train", [0])
