"""A decoder-only transformer from scratch: torch, numpy, safetensors, sentencepiece and nothing else.

    settings        frozen dataclasses, checked once at the door
    config          what a model, a training run and a machine are      (no torch: imports in milliseconds)

    model           GPT: ids_BT -> logits_BTV; positions and loss beside it
    attention_maps  what each token looks at
    generate        text, token by token: decoder (one more, over what is kept of those before), text (tokens to characters)

    dataset         the packed tokens, and the batches drawn from them: shards (the files), layout (documents to sequences)
    baselines       bits per byte, and what counting alone reaches      (numpy only)
    report          how well a dataset is packed

    trainer         train(data, out, ...), which can be killed anywhere (python -m gpt.trainer; main is its command line)
    learner         one update: optim (what is updated how), muon, ema, feeding (batches for the device)
    stability       loss spikes; budget: steps for so many minutes; memory: what fits; runtime: the machine; metrics; result
    parallel        many devices; launch: the processes for them; interruption: signals
    checkpoint      weights and training state as safetensors and JSON; never unpickled

    evaluate        a model's score on held-out documents
    facts           does it know simple facts;  memorisation: what it repeats of the training text
    export          a folder that Hugging Face transformers loads; hf_tokenizer for it

Nothing is imported here, so that `import gpt` costs nothing.
"""


class GPTError(ValueError):
    """Something a user gave cannot be used. The message, a line or two, names the thing, the value and the mend."""
