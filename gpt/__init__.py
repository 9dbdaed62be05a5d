"""A decoder-only transformer from scratch: torch, numpy, safetensors, sentencepiece and nothing else.

    config, settings   a model, a training run and a machine        (no torch: imports in milliseconds)
    data/              packed tokens on disk, and the batches drawn from them
    model/             GPT: ids_BT -> logits_BTV
    machine/           the device, several processes, signals, the size that fits
    checkpoint         weights and training state as safetensors and JSON; never unpickled
    evaluation/        scores on held-out documents, baselines, facts, memorisation
    generation/        text, token by token
    trainer/           train(data, out, ...), which can be killed anywhere (python -m gpt.trainer)
    export/            a folder that Hugging Face transformers loads

Each room imports only rooms above it. Nothing is imported here, so that `import gpt` costs nothing.
"""


class GPTError(ValueError):
    """Something a user gave cannot be used. The message, a line or two, names the thing, the value and the remedy."""
