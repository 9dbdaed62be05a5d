"""A decoder-only transformer from scratch: torch, numpy, safetensors, sentencepiece and nothing else.

    settings      checks of frozen dataclasses of settings
    config        what a model, a training run and a machine are (needs no torch: imports in milliseconds)
    checkpoint    weights and training state on disk, as safetensors and JSON

    data          the packed dataset: token shards, sequences, and the batches drawn from them
    model         the transformer (ids_BT -> logits_BTV), its positions, its loss, and faster kernels for training on a CPU
    machine       devices, processes and signals: what to compute on, how many at once, and what fits
    evaluation    the score on held-out documents, baselines, confidence intervals, facts, memorisation, attention maps
    generation    text from a model: sampling, the cache of keys and values, and tokens to text
    export        a folder that Hugging Face transformers loads
    trainer       python -m gpt.trainer: the training loop, one update, optimizers, schedule, loss spikes, the run's folder

Imports point down: trainer and export to generation and evaluation; those to checkpoint and machine; those to model, that to
data, that to config and settings. Nothing is imported here, so that `import gpt` costs nothing.
"""


class GPTError(ValueError):
    """Something a user gave cannot be used. The message, a line or two, names the thing, the value and the remedy."""
