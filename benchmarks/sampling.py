"""How far a model's sampled text is from its corpus, by temperature, top-k and top-p: what the defaults are chosen by.

    python -m benchmarks.sampling                     # every corpus that has a model in this home
    python -m benchmarks.sampling trump wsb --documents 64

A model begins documents from nothing. They are compared with held-out documents, cut to as many tokens:

    new words    share of words that the training text never has
    distinct     share of the sequences of three words that differ from all others
    words        Jensen-Shannon divergence, in bits, of the frequencies of words from those of all held-out text
    tokens       mean length
    distance     mean of |ln(sampled / held-out)| over the four

The row "held out" is the goal; "training text" says how near two halves of the same writers come to one another.
"""

import argparse
import math
import re
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from flows.evaluation import scoring
from flows.home import set_defaults, shared_home
from flows.recipe import corpus_names
from flows.stages.documents import read_texts
from flows.store.artifacts import Store
from gpt.generation import sample

SETTINGS = [
    {"temperature": temperature, "top_k": top_k, "top_p": top_p}
    for top_k, top_p in ((50, 1.0), (0, 0.95), (0, 1.0))
    for temperature in (0.7, 0.8, 0.9, 1.0)
]
MEASURES = ("new words", "distinct", "words", "tokens")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("corpora", nargs="*", help="those to measure; none: all that have a model")
    parser.add_argument("--documents", type=int, default=128, help="to sample for each setting")
    parser.add_argument("--tokens", type=int, default=200, help="the most of each")
    given = parser.parse_args()
    set_defaults()
    store = Store(shared_home())
    for corpus in given.corpora or [name for name in corpus_names() if store.manifests(name, "train")]:
        print(f"\n{corpus}", flush=True)
        print("  ".join(f"{name:>13}" for name in ("temperature", "top-k", "top-p", *MEASURES, "distance")))
        for names, found, distance in measure(store, corpus, given.documents, given.tokens):
            figures = "  ".join(f"{found[name]:13.4f}" for name in MEASURES)
            print("  ".join(f"{name:>13}" for name in names), figures, f"{distance:13.3f}", sep="  ", flush=True)


def measure(store: Store, corpus: str, count: int, tokens: int) -> Iterable[tuple[tuple, dict, float]]:
    """(the setting, its measures, its distance from the held-out text), a row at a time."""
    model = scoring.find(store, corpus)
    decoder, tokenizer = sample.load(model.folder)
    folder = Path(model.clean["path"])
    train, test = (list(read_texts(folder, split)) for split in ("train", "test"))
    known = {word for text in train for word in words(text)}
    all_words = Counter(word for text in test for word in words(text))

    def figures(texts: list[str]) -> dict[str, float]:
        cut = [tokenizer.encode(text)[:tokens] for text in texts]
        return describe([tokenizer.decode(ids) for ids in cut], known, all_words) | {
            "tokens": sum(map(len, cut)) / len(cut)
        }

    goal = figures(test[:: max(1, len(test) // count)][:count])
    yield ("held out", "", ""), goal, 0.0
    found = figures(train[:: max(1, len(train) // count)][:count])
    yield ("training text", "", ""), found, apart(found, goal)
    for setting in SETTINGS:
        (written,) = sample.texts(decoder, tokenizer, [""], count, max_tokens=tokens, **setting)
        found = figures(written)
        yield tuple(setting.values()), found, apart(found, goal)


def words(text: str) -> list[str]:
    return re.findall(r"\w+", text.casefold())


def describe(texts: list[str], known: set[str], expected: Counter) -> dict[str, float]:
    found = [words(text) for text in texts]
    all_found = [word for one in found for word in one]
    triples = [triple for one in found for triple in zip(one, one[1:], one[2:], strict=False)]
    return {
        "new words": sum(word not in known for word in all_found) / max(1, len(all_found)),
        "distinct": len(set(triples)) / max(1, len(triples)),
        "words": divergence(Counter(all_found), expected),
    }


def divergence(one: Counter, other: Counter) -> float:
    """Jensen-Shannon divergence of two distributions, in bits."""
    totals, result = (max(1, one.total()), max(1, other.total())), 0.0
    for word in one.keys() | other.keys():
        p, q = one[word] / totals[0], other[word] / totals[1]
        result += sum(share * math.log2(2 * share / (p + q)) for share in (p, q) if share) / 2
    return result


def apart(found: dict[str, float], goal: dict[str, float]) -> float:
    return sum(abs(math.log(max(found[name], 1e-4) / max(goal[name], 1e-4))) for name in MEASURES) / len(MEASURES)


if __name__ == "__main__":
    main()
