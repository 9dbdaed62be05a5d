"""The process that talks to Kaggle: a question a line on stdin, its answer a line on stdout, both JSON.

A process of its own because kagglehub has no timeout on its first request, keeps its cache's place in the environment and
prints as it likes: here it can be killed, and its words go nowhere. It leaves when its stdin closes, so that it never outlives
the program that started it. It imports nothing of this package and tries everything once: kaggle.py decides what is worth
another attempt.

{"do": "version", "handle"}         {"version": N}
{"do": "page", "handle", "token"}   {"files": {name: bytes, or 0}, "next": token of the next page, or ""}
{"do": "file", "handle", "name"}    {"path": where it lies}
whatever goes wrong                 {"error": kind, "status", "detail"}; detail holds nothing of what was asked or sent
"""

import json
import os
import queue
import sys
import threading
import zipfile
import zlib

import requests
from kagglehub import clients, dataset_download
from kagglehub.cache import Cache
from kagglehub.exceptions import DataCorruptionError, handle_call
from kagglehub.handle import DatasetHandle, parse_dataset_handle
from kagglesdk.datasets.types.dataset_api_service import ApiGetDatasetRequest, ApiListDatasetFilesRequest


class Page(Exception):
    """A web page where data should be."""


class Unresumed(Exception):
    """The answer to "go on from byte N" is something else, which kagglehub would append all the same."""


def main() -> None:
    questions: queue.SimpleQueue[dict] = queue.SimpleQueue()
    threading.Thread(target=_hear, args=(questions,), daemon=True).start()
    tell, sys.stdout = sys.stdout, sys.stderr  # whatever the libraries print is not for our reader
    requests.Session.send = _guarded(requests.Session.send)
    # kagglehub writes, and keeps when a transfer breaks, whole chunks; its 1 MiB would look like silence on a slow line.
    clients.CHUNK_SIZE = 1 << 16
    while True:
        question = questions.get()
        try:
            answer = DO[question["do"]](parse_dataset_handle(question["handle"]), question)
        except Exception as error:
            answer = _explain(error)
        print(json.dumps(answer), file=tell, flush=True)


def _version(handle: DatasetHandle, _: dict) -> dict:
    request = ApiGetDatasetRequest()
    request.owner_slug, request.dataset_slug = handle.owner, handle.dataset
    with clients.build_kaggle_client() as client:
        dataset = handle_call(lambda: client.datasets.dataset_api_client.get_dataset(request))
    return {"version": dataset.current_version_number}


def _page(handle: DatasetHandle, question: dict) -> dict:
    request = ApiListDatasetFilesRequest()
    request.owner_slug, request.dataset_slug = handle.owner, handle.dataset
    request.dataset_version_number, request.page_size = handle.version, 200
    if question["token"]:
        request.page_token = question["token"]
    with clients.build_kaggle_client() as client:
        page = handle_call(lambda: client.datasets.dataset_api_client.list_dataset_files(request))
    sizes = {file.name: int(file.total_bytes or 0) for file in page.dataset_files}
    return {"files": sizes, "next": page.next_page_token}


def _file(handle: DatasetHandle, question: dict) -> dict:
    cache, name = Cache(), question["name"]
    part = cache.get_path(handle, name)
    if not cache.load_from_cache(handle, name):
        if os.path.exists(part + ".zip"):  # killed while it unpacked: beside the archive lies half of the file
            os.replace(part + ".zip", part)
        # kagglehub takes a leftover of full length for a finished file, neither hashed nor unpacked: so let a byte be missing.
        if os.path.exists(part) and (size := os.path.getsize(part)):
            os.truncate(part, size - 1)
    return {"path": dataset_download(question["handle"], path=name)}


DO = {"version": _version, "page": _page, "file": _file}


def _guarded(send):
    """requests.Session.send, with the looks at each answer that kagglehub does not take."""

    def guarded(self, request, **settings):
        response = send(self, request, **settings)
        if response.status_code == 200 and "text/html" in response.headers.get("Content-Type", ""):
            raise Page
        if "Range" in request.headers and not response.is_redirect:
            start = request.headers["Range"].replace("=", " ")  # bytes=5- is answered by bytes 5-8/9
            if response.status_code >= 400 and response.status_code != 416:
                response.raise_for_status()
            if response.status_code != 206 or not response.headers.get("Content-Range", "").startswith(start):
                raise Unresumed
        if request.method == "GET":  # kagglesdk would read a data file of JSON into memory, looking for an error in it
            response.headers.pop("Content-Type", None)
        return response

    return guarded


def _explain(error: Exception) -> dict:
    """An error as an answer. Messages of the libraries stay here: they may show a signed address, or a header with a token."""
    answer = {"error": "other", "status": 0, "detail": type(error).__name__}
    if isinstance(error, Page | json.JSONDecodeError):
        answer["error"] = "page"
    elif isinstance(error, requests.HTTPError):
        status = error.response.status_code
        if status < 400:  # Kaggle also says it in the body
            status = error.response.json()["code"]
        answer |= {"error": "status", "status": status}
    elif isinstance(error, requests.RequestException | ConnectionError | TimeoutError):
        answer["error"] = "network"
    elif isinstance(error, DataCorruptionError):
        answer |= {"error": "damaged", "detail": "its md5 is wrong"}
    elif isinstance(error, Unresumed):
        answer |= {"error": "damaged", "detail": "the server did not go on where the transfer broke off"}
    elif isinstance(error, zipfile.BadZipFile | zlib.error | EOFError):
        answer |= {"error": "damaged", "detail": "its zip archive is broken"}
    elif isinstance(error, OSError):
        answer |= {"error": "disk", "detail": error.strerror or type(error).__name__}
    return answer


def _hear(questions: queue.SimpleQueue) -> None:
    for line in sys.stdin:
        questions.put(json.loads(line))
    os._exit(1)


if __name__ == "__main__":
    main()
