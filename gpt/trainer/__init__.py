"""Training: the command line, the loop, one update, optimizers and schedule, stability, the run's folder."""
