"""A Kaggle dataset, file by file: kagglesdk signs in, lists the files and gives the address of each; https.py fetches them.

A file gets its name only when it is complete and checked, so an interrupted download continues where it broke off. kagglehub
finds the credentials; public datasets need none. It is not used to download, because it verifies nothing afterwards, retries
nothing, waits for ever on a silent server and remembers a damaged file as good (each measured).
"""

import json
import shutil
import zipfile
import zlib
from base64 import b64encode
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from urllib.parse import unquote, urlsplit

import kagglehub
import requests
from kagglehub.config import KaggleApiCredentials, get_kaggle_credentials
from kagglehub.handle import parse_dataset_handle
from kagglesdk import KaggleClient
from kagglesdk.datasets.types import dataset_api_service as api

from data_contracts import DataError
from data_contracts.sources import files, https
from data_contracts.sources.https import Failure

SIGN_IN = "KAGGLE_API_TOKEN, or KAGGLE_USERNAME with KAGGLE_KEY, or ~/.kaggle/kaggle.json"
PAGE = "a web page came, not data: a login or proxy page stands between"


def download(handle: str, choose: files.Choose, folder: Path, progress: files.Progress, what: str) -> None:
    """Put files of `owner/dataset/versions/N` into `folder`, under their names there; see https.download.

    Raises DataError (two lines) if Kaggle refuses or lacks a file, and Unreachable if it does not answer, or sends a file
    damaged, empty or as a web page. No message shows a token or a signed address.
    """
    dataset = Dataset(handle)
    listed = dataset.listing()
    wanted = {name: listed[name] for name in choose(listed)}

    def fetch(name: str, part: Path, received: https.Received) -> None:
        check = partial(_check, part, Path(name).name, wanted[name])
        https.resume(part, partial(dataset.send, name), check, f"{name} of {handle}", dataset.mend, received)

    https.download(wanted, folder, fetch, progress, what)


class Dataset:
    """`owner/dataset` or `owner/dataset/versions/N` on Kaggle. Methods retry what may pass, and raise DataError."""

    def __init__(self, handle: str) -> None:
        self.handle = handle
        page = f"kaggle.com/datasets/{handle.split('/versions/')[0]}"
        self.mend = f"check name, version and terms on {page}, and your credentials, if it needs any, in {SIGN_IN}"
        try:
            known = get_kaggle_credentials() or KaggleApiCredentials()
            agent = f"kagglehub/{kagglehub.__version__}"
            client = KaggleClient(None, False, known.username, known.key, known.api_key, agent).__enter__()
            self._session: requests.Session = client.http_client()._session
        except Exception as error:  # its text may show the credentials
            raise DataError(f"cannot download {handle}: {type(error).__name__}\n{self.mend}") from None
        # kagglesdk sets no time-out, and would follow a redirect to a data file and read it into memory if it is JSON.
        self._session.send = partial(self._session.send, timeout=https.TIMEOUT_SECONDS, allow_redirects=False)
        self._api = client.datasets.dataset_api_client

    def version(self) -> int:
        """The number of the current version."""
        version = self._ask(self._api.get_dataset, api.ApiGetDatasetRequest()).current_version_number
        if not version:
            raise DataError(f"Kaggle names no version of {self.handle}: pin one as {self.handle}/versions/N")
        return version

    def listing(self) -> dict[str, int]:
        """All files: {name: bytes, or 0 where Kaggle does not say}."""
        found: dict[str, int] = {}
        token, seen = "", set[str]()
        while token not in seen:  # the last page names none, and a broken list names one again
            seen.add(token)
            request = api.ApiListDatasetFilesRequest()
            answer = self._ask(self._api.list_dataset_files, request, page_size=200, page_token=token)
            found |= {file.name: int(file.total_bytes or 0) for file in answer.dataset_files}
            token = answer.next_page_token
        return found

    def _ask(self, method: Callable, request: Any, **fields: Any) -> Any:
        return https.retry(lambda: self._call(method, request, **fields), self.handle, self.mend)

    def send(self, name: str, headers: dict[str, str]) -> requests.Response:
        """The answer to the request for a file. Kaggle's redirect to a signed address is followed without credentials."""
        answer = self._call(self._api.download_dataset, api.ApiDownloadDatasetRequest(), file_name=name)
        if answer.next:
            answer = https.get(answer.next.url, headers)
        if answer.status_code == 200 and "text/html" in answer.headers.get("Content-Type", ""):
            answer.close()
            raise Failure(PAGE)
        return answer

    def _call(self, method: Callable, request: Any, **fields: Any) -> Any:
        """One call of kagglesdk about this dataset. Raises Failure."""
        handle = parse_dataset_handle(self.handle)
        fields |= {"owner_slug": handle.owner, "dataset_slug": handle.dataset, "dataset_version_number": handle.version}
        for field, value in fields.items():
            if value:
                setattr(request, field, value)
        with https.network_failures():
            try:
                return method(request)
            except requests.HTTPError as error:
                status = error.response.status_code
                if status < 400:  # Kaggle also says it in the body
                    status = error.response.json()["code"]
                raise Failure(f"Kaggle answered {status}", status) from None
            except json.JSONDecodeError:
                raise Failure(PAGE) from None
            except requests.RequestException:
                raise
            except Exception as error:  # of a header that cannot be sent, of JSON that kagglesdk cannot read
                raise Failure(type(error).__name__, passing=False) from None


def _check(part: Path, name: str, size: int, answer: requests.Response) -> None:
    """Raise DataError if a received file is damaged or not the one that Kaggle lists. A zipped one is unpacked in place."""
    # x-goog-hash: crc32c=n03x6A==,md5=Ojk9c3dhfxgoKVVHYwFbHQ==
    hashes = dict(item.strip().partition("=")[::2] for item in answer.headers.get("x-goog-hash", "").split(","))
    if "md5" in hashes and hashes["md5"] != b64encode(bytes.fromhex(files.digest(part, "md5"))).decode():
        raise DataError("its md5 is wrong")
    if unquote(urlsplit(answer.url).path).endswith(f"/{name}.zip") and zipfile.is_zipfile(part):
        unpacked = part.with_suffix(".unpacked")
        try:
            with zipfile.ZipFile(part) as archive, archive.open(name) as packed, unpacked.open("wb") as file:
                shutil.copyfileobj(packed, file)
        except (zipfile.BadZipFile, zlib.error, EOFError, KeyError):
            raise DataError("its zip archive is broken") from None
        unpacked.replace(part)
    if size and part.stat().st_size != size:
        raise DataError(f"{part.stat().st_size} bytes came, Kaggle lists {size}")
    files.inspect(part, name, Path(name).suffix)
