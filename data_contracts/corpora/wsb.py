"""r/wallstreetbets of 2021: posts, and in later scrapes comments too; each is a document."""

from data_contracts.corpora import _reddit

TITLE = "Reddit's r/wallstreetbets, posts and comments (Kaggle gpreda/reddit-wallstreetsbets-posts)"
LICENCE = "Not verified; the words belong to those who wrote them"
FILES = ("*.csv",)

Raw, RULES, REASONS = _reddit.Posts, _reddit.RULES, _reddit.REASONS
read, documents = _reddit.read, _reddit.documents
