"""r/VaccineMyths, 2014 to 2021: posts and the comments on them; each is a document."""

from data_contracts.corpora import _reddit

FILES = ("*.csv",)

Raw, RULES, REASONS = _reddit.Posts, _reddit.RULES, _reddit.REASONS
read, documents = _reddit.read, _reddit.documents
