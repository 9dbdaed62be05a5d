"""r/VaccineMyths, 2014 to 2021: posts and the comments on them; each is a document."""

from data_contracts.corpora._reddit import FILES, REASONS, RULES, Raw, documents, read

__all__ = ["FILES", "REASONS", "RULES", "Raw", "documents", "read"]
