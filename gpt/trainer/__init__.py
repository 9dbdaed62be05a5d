"""Training: the command line, the loop, one update, optimizers and schedule, loss spikes, step budgets, the run's folder."""
