"""Facts about a packed dataset: how full its sequences are, how many documents are cut, how long documents are."""

from collections import Counter
from typing import Any

import numpy as np

from gpt.data.dataset import Dataset
from gpt.data.packing import PADDING

PER_TEN = 8  # bins of length for a factor of ten


def facts(dataset: Dataset) -> dict[str, Any]:
    """{"splits": a row a split, "lengths": {"up to T" | "longer": {floor(PER_TEN * log10(tokens)): documents}}}.

    A row: documents, tokens (ends of documents included), sequences (of an epoch), padding (positions without a target),
    utilisation (share of positions with one), cut (documents that lie in more than one sequence, in the split's own order).
    """
    rows, T = [], dataset.block_size
    for split, part in dataset.splits.items():
        layout = dataset.layout(split)
        real = layout.documents != PADDING
        starts, ends = layout.starts[:-1][real], layout.starts[1:][real]
        sequences = np.bincount(layout.documents[real], (ends - 1) // T - starts // T + 1, part.n_documents)
        n, cut = len(layout.order), int((sequences > 1).sum())
        row = {"split": split, "documents": part.n_documents, "tokens": part.n_tokens, "sequences": n}
        rows.append(row | {"padding": n * T - part.n_tokens, "utilisation": part.n_tokens / (n * T), "cut": cut})
    lengths = np.concatenate([part.index["length"] for part in dataset.splits.values()]).astype(np.int64)
    bins = np.floor(np.log10(np.maximum(lengths, 1)) * PER_TEN + 1e-9).astype(int)
    counted = {"up to T": Counter(bins[lengths <= T].tolist()), "longer": Counter(bins[lengths > T].tolist())}
    return {"splits": rows, "lengths": {name: dict(sorted(counts.items())) for name, counts in counted.items()}}
