"""Everything that is drawn: the cards of the stages, the comparison of models, and the Markdown that MLflow shows.

Each module here is given facts, as plain values, and a folder, and writes files. What a page says stands in templates/.
"""
