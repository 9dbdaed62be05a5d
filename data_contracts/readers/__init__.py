"""Raw files -> rows, for all corpora. Each row has the name of its file and its number in it.

Values stay strings: inference from the first rows has turned real columns into numbers. A record that cannot be read does not
stop the reading: its columns are null, and `malformed` says what is wrong with it. A file that cannot be read raises DataError.
`tables.rows` reads a file of which only the name of the text column is known.
"""

from data_contracts.readers.csv_files import csv_rows
from data_contracts.readers.json_files import json_rows
from data_contracts.readers.plain_text import text
from data_contracts.readers.rows import MALFORMED, PLACE, rows_of

__all__ = ["MALFORMED", "PLACE", "csv_rows", "json_rows", "rows_of", "text"]
