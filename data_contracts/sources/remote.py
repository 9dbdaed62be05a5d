"""Files on Hugging Face's Hub and in object stores, by the libraries of fsspec, which find credentials where they always do.

What a store says of a file's content, a hash of its own, is the version that identifies it.
"""

import re
from collections.abc import Iterator
from contextlib import contextmanager
from importlib import import_module
from pathlib import Path
from typing import Any

from data_contracts import DataError, Unreachable
from data_contracts.sources import https
from data_contracts.sources.files import Progress

# The package of each, whose extra is called as the scheme, and where it looks for credentials.
CLIENTS = {
    "hf": ("huggingface_hub", "HF_TOKEN, or `hf auth login`"),
    "s3": ("s3fs", "AWS_PROFILE, AWS_ACCESS_KEY_ID with AWS_SECRET_ACCESS_KEY, or ~/.aws"),
    "gs": ("gcsfs", "GOOGLE_APPLICATION_CREDENTIALS, or `gcloud auth application-default login`"),
}
VERSIONS = ("blob_id", "ETag", "md5Hash", "generation")  # of a file's content, in the words of the three, best first
CARDS = ("README.md", "dataset_infos.json")  # of a dataset on the Hub, beside its data


def listing(url: str) -> dict[str, dict]:
    """All files below an address, by their names there, as fsspec describes them. Raises DataError, or Unreachable."""
    place = url.partition("://")[2].strip("/")
    with _failures(url):
        known = _connect(url).find(place, detail=True)
        named = {path.removeprefix(place).strip("/") or Path(path).name: path for path in known if path[-1] != "/"}
        if not named:
            raise FileNotFoundError
    return {name: known[named[name]] for name in sorted(named)}


def data_of(url: str, there: dict[str, dict]) -> dict[str, dict]:
    """Without what stands on the Hub beside the data. Where some of it is parquet, the rest is the same once more."""
    data = {name: about for name, about in there.items() if name not in CARDS or not url.startswith("hf:")}
    tables = {name: about for name, about in data.items() if name.endswith(".parquet") and url.startswith("hf:")}
    return tables or data


def version(file: dict) -> str:
    """Which content a file has."""
    return next((str(file[key]).strip('"') for key in VERSIONS if file.get(key)), "")


def download(url: str, wanted: dict[str, dict], folder: Path, progress: Progress, what: str) -> None:
    """Write files below an address into `folder`; see https.download. Raises DataError, or Unreachable."""

    def fetch(name: str, part: Path, received: https.Received) -> None:
        file, hooks = wanted[name], {"": lambda size, value: received(value, size or 0)}
        with _failures(url):
            callback = import_module("fsspec.callbacks").Callback(hooks=hooks)
            _connect(url).get_file(file["name"], str(part), callback=callback)
        if (came := part.stat().st_size) != file["size"]:
            raise Unreachable(f"{name} of {url} came cut, {came} of {file['size']} bytes\n{https.TRY_LATER}")

    https.download({name: file["size"] for name, file in wanted.items()}, folder, fetch, progress, what)


def _connect(url: str) -> Any:
    """A new client each time, since they keep lists of files."""
    scheme, options = url.partition("://")[0], dict[str, Any]()
    import_module(CLIENTS[scheme][0])
    if scheme == "s3":
        options["config_kwargs"] = dict(zip(("connect_timeout", "read_timeout"), https.TIMEOUT_SECONDS, strict=True))
        options["anon"] = import_module("botocore.session").get_session().get_credentials() is None  # a public bucket
    return import_module("fsspec").filesystem(scheme, skip_instance_cache=True, **options)


@contextmanager
def _failures(url: str) -> Iterator[None]:
    """Raise DataError or Unreachable, without the addresses in the libraries' messages, which may be signed."""
    scheme = url.partition("://")[0]
    package, credentials = CLIENTS[scheme]
    try:
        yield
    except Exception as error:  # of any library below
        status = getattr(error, "code", 0) or getattr(getattr(error, "response", 0), "status_code", 0)
        if isinstance(error, ImportError):
            why = f"needs the extra {scheme}: uv pip install {package}"
        elif isinstance(error, FileNotFoundError) or status == 404:
            why = f"does not exist, holds no file, or is private\ncredentials are looked for in {credentials}"
        elif isinstance(error, PermissionError) or status in (401, 403) or str(error).startswith("Forbidden"):
            why = f"may not be read\ncredentials are looked for in {credentials}"
        else:
            what = re.sub(r"\?[^\s'\"]*|(?<=://)[^/\s]*@|\n.*", "", f"{type(error).__name__}: {error}")
            raise Unreachable(
                f"cannot read {url}: {what[:200]}\ncheck the network or proxy; {https.TRY_LATER}"
            ) from None
        raise DataError(f"{url} {why}") from None
