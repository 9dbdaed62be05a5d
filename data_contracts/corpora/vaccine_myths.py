"""r/VaccineMyths, 2014 to 2021: posts and the comments on them; each is a document."""

from data_contracts.corpora import _reddit

TITLE = "Reddit's r/VaccineMyths, posts and comments (Kaggle gpreda/reddit-vaccine-myths)"
LICENCE = "Not verified; the words belong to those who wrote them"
FILES = ("*.csv",)

Raw, RULES, REASONS = _reddit.Posts, _reddit.RULES, _reddit.REASONS
read, documents = _reddit.read, _reddit.documents
