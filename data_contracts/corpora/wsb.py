"""r/wallstreetbets of 2021: posts, and in later scrapes comments too; each is a document."""

from data_contracts.corpora import _reddit

FILES = ("*.csv",)

Raw, RULES, REASONS = _reddit.Posts, _reddit.RULES, _reddit.REASONS
read, documents = _reddit.read, _reddit.documents
