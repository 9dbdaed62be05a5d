"""What is measured of a model or a dataset; each module gives facts, and draws nothing."""
