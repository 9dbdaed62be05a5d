"""A decoder-only transformer from scratch: torch, numpy, safetensors, sentencepiece and nothing else.

    config      what a model, a training run and a machine are        (no torch: imports in milliseconds)
    model       GPT: ids_BT -> logits_BTV
    optim       which parameter is updated how, and the learning rate
    muon        the optimizer of the matrices
    dataset     the packed tokens on disk, and the batches drawn from them
    baselines   bits per byte, and what counting alone reaches          (numpy only)
    evaluate    a model's score on held-out documents
    checkpoint  weights and training state as safetensors and JSON; never unpickled
    trainer     train(data, out, ...), which can be killed anywhere    (python -m gpt.trainer)
    main        its command line
    generate    text, token by token

and, for the trainer: runtime (the machine), metrics (log lines, speed), interruption (signals).

Nothing is imported here, so that `import gpt` costs nothing.
"""


class GPTError(ValueError):
    """Something a user gave cannot be used. The message, a line or two, names the thing, the value and the mend."""
