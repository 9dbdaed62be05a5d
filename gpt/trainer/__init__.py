"""Training: the command line, the loop, one update, optimizers and schedule, stability, step budgets, the run's folder."""
