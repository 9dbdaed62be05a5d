"""Everything that is drawn. Each module is given facts, as plain values, and a folder; templates/ holds what a page says."""
