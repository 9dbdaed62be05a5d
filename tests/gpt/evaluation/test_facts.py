import dataclasses
import io
import random
import re
from collections import Counter

import pytest
import sentencepiece
import torch

from gpt import GPTError
from gpt.config import ModelConfig
from gpt.evaluation.facts import N_WRONG, Fact, Verdict, load, score, summarize, wilson
from gpt.model.transformer import GPT

FACTS = load()
CAPITALS = [fact for fact in FACTS if fact.name.startswith("capital: ")][:9]


def fit(texts, vocab_size=600, symbols=()) -> sentencepiece.SentencePieceProcessor:
    model = io.BytesIO()
    sentencepiece.SentencePieceTrainer.train(
        sentence_iterator=iter(texts), model_writer=model, model_type="bpe", vocab_size=vocab_size, byte_fallback=True,
        normalization_rule_name="identity", remove_extra_whitespaces=False, add_dummy_prefix=False, unk_id=0, eos_id=1,
        bos_id=-1, pad_id=-1, minloglevel=2, num_threads=1, split_by_whitespace=not symbols, user_defined_symbols=symbols,
    )  # fmt: skip
    return sentencepiece.SentencePieceProcessor(model_proto=model.getvalue())


def sentences(facts):
    return [text for fact in facts for number in range(len(fact.phrasings)) for text in fact.sentences(number)[1:]]


def shared(rows):
    """How many tokens at the beginning all rows have in common."""
    return next(n for n in range(min(map(len, rows)) + 1) if len({tuple(row[: n + 1]) for row in rows}) > 1)


@pytest.fixture(scope="module")
def tokenizer():
    return fit(sentences(FACTS))


@pytest.fixture
def model():
    torch.manual_seed(0)
    model = GPT(
        ModelConfig(vocab_size=600, block_size=64, n_layer=2, n_head=2, n_embd=32, dropout=0.1, zero_init=False)
    )
    for parameter in model.parameters():  # far from uniform
        torch.nn.init.normal_(parameter, std=0.3)
    return model.eval()


def train(model, tokenizer, texts, steps=80):
    """Until the model knows these sentences by heart."""
    rows = [torch.tensor([1, *ids]) for ids in tokenizer.encode(texts)]
    ids_BT = torch.nn.utils.rnn.pad_sequence(rows, True, 1)
    targets_BT = torch.nn.utils.rnn.pad_sequence([row[1:] for row in rows], True, -1)
    optimizer = torch.optim.AdamW(model.parameters(), 3e-3)
    for _ in range(steps):
        optimizer.zero_grad()
        model.loss(ids_BT[:, :-1], targets_BT).backward()
        optimizer.step()
    return model.eval()


def test_there_are_facts_enough_of_every_kind():
    assert len(FACTS) >= 400
    assert min(Counter(fact.category for fact in FACTS).values()) >= 15
    assert all(len(fact.phrasings) >= 3 and len(fact.wrong) == N_WRONG for fact in FACTS)
    assert all(text.count("{answer}") == 1 for fact in FACTS for text in fact.phrasings)


def test_no_fact_stands_twice_and_the_right_answer_is_never_wrong():
    asked = [text for fact in FACTS for text in fact.phrasings]
    assert len({fact.name for fact in FACTS}) == len(FACTS)
    assert len(set(asked)) == len(asked)
    assert all(len({fact.answer, *fact.wrong}) == 1 + N_WRONG for fact in FACTS)


def test_every_sentence_reads_as_one():
    for text in sentences(FACTS):
        assert re.fullmatch(r"[A-Z0-9].*[^ .]\.", text), text  # a capital or a numeral first, one full stop at the end
        assert not re.search(r"[{}\"’“”`]|  | [.,]|\ba [aeiou]|\bthe the\b|\bthe The\b", text), text


def test_spelling_is_that_of_wikipedia():
    """ASCII, but for names that Wikipedia writes with these letters."""
    assert {character for text in sentences(FACTS) for character in text if not character.isascii()} == set("áéëíöł")


def test_a_frequent_answer_wins_no_more_than_a_third_without_knowing_the_subject():
    """Nor, on average over which answers are frequent, more than chance."""
    wins, draw = [], random.Random(1)
    answers = sorted({answer for fact in FACTS for answer in (fact.answer, *fact.wrong)})
    distinct = [fact for fact in FACTS if fact.name.startswith(("capital: ", "river: ", "deity: ", "director: "))]
    for _ in range(200):
        rank = {answer: place for place, answer in enumerate(draw.sample(answers, len(answers)))}
        won = [all(rank[fact.answer] > rank[wrong] for wrong in fact.wrong) for fact in distinct]
        assert sum(won) <= len(won) / 3
        wins.append(sum(all(rank[fact.answer] > rank[wrong] for wrong in fact.wrong) for fact in FACTS) / len(FACTS))
    assert sum(wins) / len(wins) == pytest.approx(1 / (1 + N_WRONG), abs=0.01)


def test_what_is_also_right_is_never_a_wrong_answer():
    wrong = {fact.name: fact.wrong for fact in FACTS}
    assert "French" not in wrong["language: Italy"]
    assert "krona" not in wrong["currency: Denmark"]
    assert "Pablo Picasso" not in wrong["painter: Las Meninas"]
    assert "baseball" not in wrong["athlete: Michael Jordan"]


def test_wrong_answers_never_change():
    """Known values: whoever adds to a group moves its neighbours, and makes older scores incomparable."""
    wrong = {fact.name: fact.wrong for fact in FACTS}
    assert wrong["capital: France"] == ("Lisbon", "Oslo", "Stockholm", "Warsaw")
    assert wrong["year: the Berlin Wall fell"] == ("1939", "1986", "1968", "1947")
    assert load() == FACTS


@pytest.mark.parametrize(("candidate", "accuracy"), [(0, 1.0), (2, 0.0)])
def test_a_model_knows_the_facts_that_it_was_taught_and_not_what_it_was_taught_wrongly(tokenizer, candidate, accuracy):
    numbers = [(fact, number) for fact in CAPITALS for number in range(len(fact.phrasings))]
    torch.manual_seed(0)
    pupil = GPT(ModelConfig(vocab_size=600, block_size=64, n_layer=2, n_head=2, n_embd=32))
    train(pupil, tokenizer, [fact.sentences(number)[1 + candidate] for fact, number in numbers])
    (*_, every) = summarize(score(pupil, tokenizer, CAPITALS))
    assert (every["accuracy"], every["always"], every["facts"]) == (accuracy, accuracy, 9)


def test_a_model_that_knows_nothing_is_at_chance(model, tokenizer):
    for parameter in model.parameters():
        torch.nn.init.zeros_(parameter)
    rows = summarize(score(model, tokenizer, FACTS))
    assert rows[-1]["category"] == "all"
    assert rows[-1]["chance"] == pytest.approx(0.2)
    assert rows[-1]["low"] < 0.2 < rows[-1]["high"]
    symbols = score(model, tokenizer, [fact for fact in FACTS if fact.name.startswith("symbol: ")])
    assert any(0 < verdict.right < 1 for verdict in symbols)  # as many tokens, as likely: a tie


def test_the_score_is_that_of_the_sentence_after_what_all_candidates_share(model, tokenizer):
    """By a plain loop, without padding or batches."""
    years = [fact for fact in FACTS if fact.name.startswith("year: ")][-4:]  # whose answers begin alike
    for verdict in score(model, tokenizer, CAPITALS[:4] + years + FACTS[-4:]):
        prompt, *ids = tokenizer.encode(verdict.fact.sentences(verdict.phrasing))
        start = shared([*ids, prompt])
        for row, nats in zip(ids, verdict.nats, strict=True):
            logs_TV = model(torch.tensor([[1, *row[:-1]]]))[0].log_softmax(1)
            assert nats == pytest.approx(sum(logs_TV[n, row[n]].item() for n in range(start, len(row))), abs=1e-4)


def test_a_token_that_straddles_prompt_and_answer_is_scored_with_all_of_them(model):
    """Only "is Paris" is one token: all the same, candidates compare as whole sentences, "is" included."""
    tokenizer = fit(sentences(FACTS), 600, ["is\u2581Paris"])
    assert "is▁Paris" in tokenizer.encode("The capital of France is Paris.", out_type=str)
    france = [fact for fact in FACTS if fact.name == "capital: France"]
    whole = []
    for text in france[0].sentences(0)[1:]:
        ids = tokenizer.encode(text)
        logs_TV = model(torch.tensor([[1, *ids[:-1]]]))[0].log_softmax(1)
        whole.append(sum(logs_TV[n, token].item() for n, token in enumerate(ids)))
    nats = score(model, tokenizer, france)[0].nats
    assert [value - nats[0] for value in nats] == pytest.approx([value - whole[0] for value in whole], abs=1e-3)


def test_batches_and_padding_change_nothing(model, tokenizer):
    some = FACTS[::20]
    one, all_ = score(model, tokenizer, some, batch_size=1), score(model, tokenizer, some, batch_size=1000)
    for a, b in zip(one, all_, strict=True):
        assert (a.fact, a.phrasing) == (b.fact, b.phrasing)
        assert a.nats == pytest.approx(b.nats, abs=1e-4)
    assert score(model, tokenizer, some, batch_size=1) == one


def test_a_sentence_longer_than_the_context_loses_its_beginning(model, tokenizer):
    fact = next(fact for fact in FACTS if fact.name == "capital: Norway")
    padding = "Word after word, " * 30
    longer = dataclasses.replace(fact, phrasings=tuple(padding + text for text in fact.phrasings))
    for verdict in score(model, tokenizer, [longer]):
        prompt, *ids = tokenizer.encode(longer.sentences(verdict.phrasing))
        start = shared([*ids, prompt])
        cut = max(map(len, ids)) - model.config.block_size
        assert cut > 0
        for row, nats in zip(ids, verdict.nats, strict=True):
            logs_TV = model(torch.tensor([[1, *row[:-1]][cut:]]))[0].log_softmax(1)
            assert nats == pytest.approx(sum(logs_TV[n - cut, row[n]].item() for n in range(start, len(row))), abs=1e-4)


def test_a_context_too_short_for_an_answer_and_a_foreign_tokenizer_are_refused(tokenizer):
    short = GPT(ModelConfig(vocab_size=600, block_size=2, n_layer=1, n_head=1, n_embd=8))
    with pytest.raises(GPTError, match=r"block size \(T\) 2 is too short .* 'capital: France'"):
        score(short, tokenizer, FACTS)
    other = GPT(ModelConfig(vocab_size=601, block_size=64, n_layer=1, n_head=1, n_embd=8))
    with pytest.raises(GPTError, match="tokenizer of 600 tokens, model of 601"):
        score(other, tokenizer, FACTS)


def test_the_interval_is_the_published_one():
    """Newcombe 1998, Statistics in Medicine 17, table I, method 3: 81/263, 15/148, 0/20, 1/29."""
    known = {(81, 263): (0.2553, 0.3662), (15, 148): (0.0624, 0.1605), (0, 20): (0, 0.1611), (1, 29): (0.0061, 0.1718)}
    for (hits, n), interval in known.items():
        assert wilson(hits / n, n) == pytest.approx(interval, abs=5e-5)
    assert wilson(1, 20) == pytest.approx((1 - 0.1611, 1), abs=5e-5)


def test_summaries_count_facts_not_phrasings():
    def verdicts(name, category, *rights):
        fact = Fact(name, category, ("{answer}.",) * len(rights), "yes", ("a", "b", "c", "d"))
        best = {1: (0, -1, -2, -3, -4), 0: (-1, 0, -2, -3, -4), 0.5: (0, -1e-6, -2, -3, -4)}
        return [Verdict(fact, number, best[right]) for number, right in enumerate(rights)]

    some = verdicts("x", "one", 1, 1, 1, 1) + verdicts("y", "one", 0, 0.5) + verdicts("z", "two", 1, 0)
    one, two, every = summarize(some)
    assert (one["category"], one["facts"], one["accuracy"], one["always"]) == ("one", 2, (1 + 0.25) / 2, 0.5)
    assert (two["category"], two["facts"], two["accuracy"], two["always"]) == ("two", 1, 0.5, 0)
    assert (every["facts"], every["accuracy"], every["chance"]) == (3, *map(pytest.approx, ((1 + 0.25 + 0.5) / 3, 0.2)))
    assert (every["low"], every["high"]) == wilson(every["accuracy"], 3)
    assert summarize([]) == []
    row = some[4].row()
    assert (row["fact"], row["right"], row["sentence"], row["wrong"], row["nats"]) == ("y", 0, "Yes.", "a", -1)
