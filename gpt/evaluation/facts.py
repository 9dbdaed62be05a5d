"""Does a model know simple facts? Each is phrased as several sentences; the right answer must be likelier than wrong ones.

A candidate's score is ln P(answer and what follows it | start of a document, prompt). All candidates share the prompt, so whole
sentences compare. The score is a sum, not a mean over tokens or bytes: by the chain rule it is the probability of the text, in
however many tokens, while a mean favours long answers that complete themselves. A common or short answer gains little by it:
see `_neighbours`. Sentences are encoded whole, as in training, so a token may straddle prompt and answer. The sum therefore
begins at the first token at which the encodings of the prompt and of all candidates differ: all have the same context, and no
part of an answer is left out.
"""

import hashlib
import tomllib
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from os.path import commonprefix
from pathlib import Path
from statistics import fmean

import torch
from sentencepiece import SentencePieceProcessor
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence

from gpt import GPTError
from gpt.data.dataset import IGNORE
from gpt.model.transformer import GPT

PATH = Path(__file__).with_name("facts.toml")
N_WRONG = 4
TIE = 1e-4  # nats: float32 sums differ by less in another batch, which makes a tie, not a win


@dataclass(frozen=True)
class Fact:
    """One fact: its sentences, with {answer} in the place of the answer; the right answer; wrong ones."""

    name: str
    category: str
    phrasings: tuple[str, ...]
    answer: str
    wrong: tuple[str, ...]

    def sentences(self, phrasing: int) -> list[str]:
        """The sentence up to the answer; the whole one; and those with a wrong answer."""
        text = self.phrasings[phrasing]
        texts = [text.partition("{answer}")[0], *(text.replace("{answer}", one) for one in (self.answer, *self.wrong))]
        return [text[:1].upper() + text[1:] for text in texts]


def load() -> list[Fact]:
    """The facts of facts.toml, whose head describes the format."""
    facts, data = [], tomllib.loads(PATH.read_text(encoding="utf-8"))
    for relation, about in data["relations"].items():
        for group in about["facts"].values():
            for subject, answer in group.items():
                phrasings = tuple(text.replace("{subject}", subject) for text in about["phrasings"])
                wrong = _neighbours(answer, set(group.values()), about.get("also", {}).get(subject, []))
                facts.append(Fact(f"{relation}: {subject}", about["category"], phrasings, answer, wrong))
    for about in data["single"]:
        phrasings = tuple(about["phrasings"])
        facts.append(Fact(phrasings[0], about["category"], phrasings, about["answer"], tuple(about["wrong"])))
    return facts


@dataclass(frozen=True)
class Verdict:
    """One phrasing of one fact: the log-likelihoods, in nats, of its right answer and then of `fact.wrong`."""

    fact: Fact
    phrasing: int
    nats: tuple[float, ...]

    @property
    def right(self) -> float:
        """1 if the right answer is the likeliest, 0 if not, 1/k in a tie of k."""
        best = max(self.nats) - TIE
        return (self.nats[0] >= best) / sum(nats >= best for nats in self.nats)

    def row(self) -> dict[str, object]:
        """A row for the table of all sentences; its wrong answer is the likeliest one."""
        fact, (nats, wrong) = self.fact, max(zip(self.nats[1:], self.fact.wrong, strict=True))
        right = {"fact": fact.name, "category": fact.category, "right": self.right, "nats": self.nats[0]}
        return right | {"wrong": wrong, "wrong_nats": nats, "sentence": fact.sentences(self.phrasing)[1]}


@torch.no_grad()
def score(model: GPT, tokenizer: SentencePieceProcessor, facts: Sequence[Fact], batch_size: int = 128) -> list[Verdict]:
    """Score every candidate of every phrasing; one Verdict a phrasing, in the order of the facts.

    model: in eval mode. tokenizer: its own, whose eos starts a document. batch_size: sentences at a time; it changes no result.
    Sentences over T tokens lose their beginning, all candidates equally.
    Raises GPTError for a tokenizer of another size, or too small a T.
    """
    if tokenizer.vocab_size() != model.config.vocab_size:
        raise GPTError(f"tokenizer of {tokenizer.vocab_size()} tokens, model of {model.config.vocab_size}: not a pair")
    T, eos_id, device = model.config.block_size, tokenizer.eos_id(), model.tokens.weight.device
    phrasings = [(fact, number) for fact in facts for number in range(len(fact.phrasings))]
    rows: list[tuple[Tensor, Tensor]] = []  # inputs and targets of each candidate
    for fact, number in phrasings:
        prompt, *sentences = tokenizer.encode(fact.sentences(number))
        start = len(commonprefix([prompt, *sentences]))  # noqa: RUF071 (of lists, not of paths)
        first = max(0, max(map(len, sentences)) - T)
        if start < first:
            raise GPTError(f"block size (T) {T} is too short for the answers of the fact {fact.name!r}")
        not_scored = [IGNORE] * (start - first)
        for ids in sentences:
            rows.append((torch.tensor([eos_id, *ids[:-1]][first:]), torch.tensor(not_scored + ids[start:])))
    order = sorted(range(len(rows)), key=lambda row: len(rows[row][0]))
    nats = torch.zeros(len(rows), dtype=torch.float64)
    for done in range(0, len(order), batch_size):
        batch = order[done : done + batch_size]
        ids_BT = pad_sequence([rows[row][0] for row in batch], True, eos_id).to(device)
        targets_BT = pad_sequence([rows[row][1] for row in batch], True, IGNORE).to(device)
        losses = model.loss(ids_BT, targets_BT, None, reduction="none")
        nats[batch] = -losses.to("cpu", torch.float64).view(ids_BT.shape).sum(1)
    scores = iter(nats.tolist())
    return [Verdict(f, number, tuple(next(scores) for _ in range(1 + len(f.wrong)))) for f, number in phrasings]


def summarize(verdicts: Iterable[Verdict]) -> list[dict[str, object]]:
    """A row for each category, by name, and a last one for "all".

    accuracy: mean over facts of the share of phrasings that are right; low, high: its 95 % confidence interval, over facts, as
    phrasings of one are not independent; chance: the accuracy of guessing; always: share of facts right in every phrasing.
    """
    right_of: dict[Fact, list[float]] = defaultdict(list)
    for verdict in verdicts:
        right_of[verdict.fact].append(verdict.right)
    rows: list[dict[str, object]] = []
    for category in (*sorted({fact.category for fact in right_of}), "all") if right_of else ():
        facts = [fact for fact in right_of if category in ("all", fact.category)]
        accuracy = fmean(fmean(right_of[fact]) for fact in facts)
        low, high = wilson(accuracy, len(facts))
        always = fmean(min(right_of[fact]) == 1 for fact in facts)
        row = {"category": category, "facts": len(facts), "accuracy": accuracy, "low": low, "high": high}
        rows.append(row | {"chance": 1 / (1 + N_WRONG), "always": always})
    return rows


def wilson(share: float, n: int, z: float = 1.959964) -> tuple[float, float]:
    """Score interval of a mean of n independent values in 0..1 (Wilson 1927); it has a width even at 0 and 1."""
    centre, spread = share + z * z / (2 * n), z * (share * (1 - share) / n + z * z / (4 * n * n)) ** 0.5
    return max(0.0, (centre - spread) / (1 + z * z / n)), min(1.0, (centre + spread) / (1 + z * z / n))


def _neighbours(answer: str, pool: set[str], also: Iterable[str]) -> tuple[str, ...]:
    """The N_WRONG answers next to this one on a circle of the pool, alternating sides, without those that are right too.

    A hash decides the order, so it never changes. Neighbours are mutual: where each answer is right once, an answer that beats
    two on either side leaves none of those four right. So a model that ignores the subject wins at most a third of the facts.
    """
    circle = sorted(pool, key=lambda name: hashlib.sha256(name.encode()).digest())
    steps = [sign * step for step in range(1, len(circle)) for sign in (1, -1)]
    nearest = [circle[(circle.index(answer) + step) % len(circle)] for step in steps]
    return tuple(name for name in dict.fromkeys(nearest) if name != answer and name not in also)[:N_WRONG]
