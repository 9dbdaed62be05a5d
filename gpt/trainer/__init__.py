"""Training: the command line, the loop, one update, optimizers and their rates, when a run stops early, the folder of a run."""
