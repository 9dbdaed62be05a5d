"""The peer, in .venv-bench: Hugging Face tokenizers, byte-level BPE. Prints its seconds as JSON.

python benchmarks/encoding/hugging_face.py TEXTS.jsonl VOCABULARY
"""

import json
import os
import sys
import time

os.environ["RAYON_NUM_THREADS"] = "2"
from tokenizers import Tokenizer, decoders, models, pre_tokenizers, trainers

path, vocabulary = sys.argv[1:]
with open(path, encoding="utf-8") as lines:
    texts = [json.loads(line)["text"] for line in lines]
tokenizer = Tokenizer(models.BPE())
tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
tokenizer.decoder = decoders.ByteLevel()
alphabet = pre_tokenizers.ByteLevel.alphabet()
trainer = trainers.BpeTrainer(vocab_size=int(vocabulary), initial_alphabet=alphabet, show_progress=False)
tokenizer.train_from_iterator(texts[:250], trainer)
start = time.perf_counter()
tokens = sum(
    len(one) for first in range(0, len(texts), 250) for one in tokenizer.encode_batch_fast(texts[first : first + 250])
)
print(json.dumps({"seconds": time.perf_counter() - start, "tokens": tokens}))
