"""r/wallstreetbets of 2021: posts, and in later scrapes comments too; each is a document."""

from data_contracts.corpora._reddit import FILES, REASONS, RULES, Raw, documents, read

__all__ = ["FILES", "REASONS", "RULES", "Raw", "documents", "read"]
