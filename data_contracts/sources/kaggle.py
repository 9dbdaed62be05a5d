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
from data_contracts.sources.files import Progress, bytes_below, disk_errors, report, require_space
from data_contracts.sources.https import ATTEMPTS, TRY_LATER, Failure

SIGN_IN = "KAGGLE_API_TOKEN, or KAGGLE_USERNAME with KAGGLE_KEY, or ~/.kaggle/kaggle.json"


def download(handle: str, choose: files.Choose, folder: Path, progress: Progress, what: str) -> None:
    """Put files of `owner/dataset/versions/N` into `folder`, under their names there, and leave nothing else in it.

    what: how to call the files when the disk is too small. Those that are there with the size that Kaggle lists are not fetched
    again. Raises DataError (two lines) if Kaggle refuses or lacks a file, or sends it damaged, empty or as a web page, and
    Unreachable if it does not answer. No message shows a token or a signed address.
    """
    dataset = Dataset(handle)
    with disk_errors(what):
        listed = dataset.listing()
        wanted = {name: listed[name] for name in choose(listed)}
        finished = {}
        parts = {https.part_of(folder / name) for name in wanted}
        for name, path in files.below(folder).items():
            if name in wanted and wanted[name] in (0, path.stat().st_size):
                finished[name] = path.stat().st_size
            elif path not in parts:
                path.unlink()
        missing = {name: size for name, size in wanted.items() if name not in finished}
        # A file that Kaggle sends zipped is on the disk twice while it is unpacked.
        needed = sum(missing.values()) + max(missing.values(), default=0)
        require_space(folder, needed - bytes_below(folder) + sum(finished.values()), what)
        total = sum(wanted.values()) if all(wanted.values()) else 0

        def received(size: int, _: int = 0) -> None:
            report(progress, len(finished), len(wanted), sum(finished.values()) + size, total)

        for name, size in missing.items():
            target = folder / name
            target.parent.mkdir(parents=True, exist_ok=True)
            dataset.fetch(name, size, target, received)
            finished[name] = target.stat().st_size
        received(0)


class Dataset:
    """`owner/dataset` or `owner/dataset/versions/N` on Kaggle. Methods retry what may pass, and raise DataError."""

    def __init__(self, handle: str) -> None:
        self.handle = handle
        try:
            known = get_kaggle_credentials() or KaggleApiCredentials()
            agent = f"kagglehub/{kagglehub.__version__}"
            client = KaggleClient(None, False, known.username, known.key, known.api_key, agent).__enter__()
            self._session: requests.Session = client.http_client()._session
        except Exception as error:  # its text may show the credentials
            raise DataError(_message(handle, "", Failure("other", type(error).__name__))) from None
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

    def fetch(self, name: str, size: int, target: Path, received: Callable[[int, int], None]) -> None:
        """Write a file to `target`. size: what Kaggle lists, 0 where it does not say. received: see https.receive."""
        part = https.part_of(target)

        def attempt() -> None:
            answer = https.receive(part, lambda headers: self._send(name, headers), received)
            try:
                _check(answer, part, target.name, size)
            except DataError as error:
                part.unlink()
                raise Failure("damaged", str(error)) from None
            part.replace(target)

        with disk_errors(f"{name} of {self.handle}"):
            https.retry(attempt, partial(_message, self.handle, name), part)

    def _ask(self, method: Callable, request: Any, **fields: Any) -> Any:
        return https.retry(lambda: self._call(method, request, **fields), partial(_message, self.handle, ""))

    def _send(self, name: str, headers: dict[str, str]) -> requests.Response:
        """The answer to the request for a file. Kaggle's redirect to a signed address is followed without credentials."""
        answer = self._call(self._api.download_dataset, api.ApiDownloadDatasetRequest(), file_name=name)
        if answer.next:
            answer = https.get(answer.next.url, headers)
        if answer.status_code == 200 and "text/html" in answer.headers.get("Content-Type", ""):
            answer.close()
            raise Failure("page", "a web page")
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
                raise Failure("status", f"Kaggle answered {status}", status) from None
            except json.JSONDecodeError:
                raise Failure("page", "a web page") from None
            except requests.RequestException:
                raise
            except Exception as error:  # of a header that cannot be sent, of JSON that kagglesdk cannot read
                raise Failure("other", type(error).__name__) from None


def _check(answer: requests.Response, part: Path, name: str, size: int) -> None:
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


def _message(handle: str, name: str, failure: Failure) -> str:
    what = f"{name} of {handle}" if name else handle
    page = f"kaggle.com/datasets/{handle.split('/versions/')[0]}"
    private = f"it is private, or its terms wait to be accepted on {page}\ncredentials go into {SIGN_IN}"
    unknown = f"check owner, name and version on {page}\na private one needs credentials in {SIGN_IN}"
    return {
        401: f"Kaggle refuses {what} (401): {private}",
        403: f"Kaggle refuses {what} (403): {private}",
        404: f"Kaggle does not know {what} (404): {unknown}",
        "status": f"Kaggle answered {failure.status} for {what}\n{TRY_LATER}",
        "network": f"cannot reach Kaggle for {what} ({failure}, {ATTEMPTS} times): check the network or proxy\n{TRY_LATER}",
        "page": f"Kaggle's answer for {what} is a web page, not data: a login or proxy page stands between\n{TRY_LATER}",
        "damaged": f"{what} came damaged, {ATTEMPTS} times: {failure}\n{TRY_LATER}; source.files can leave it out",
        "other": f"the download of {what} failed ({failure})\ncheck the credentials in {SIGN_IN}, if you set any",
    }[failure.status if failure.status in (401, 403, 404) else failure.kind]
