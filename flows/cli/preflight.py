"""What can be known in a second is told before Prefect and MLflow are loaded, or a server is started."""

import os
import socket
import urllib.request
from urllib.parse import urlsplit

from data_contracts.rules import LEAST_CHARS
from flows import UserError
from flows.home import shared_home
from flows.recipe import OWN, load_recipe
from flows.stages.parameters import reader_of
from flows.store.artifacts import Store
from flows.tracking.connection import without_password

SECONDS = 3.0  # in which a server takes a connection
MLFLOW_ADDRESSES = ("http", "https", "sqlite", "postgresql", "mysql", "mssql")
# What httpx, requests and OpenSSL read, and refuse with a traceback of theirs.
NETWORK = ("ALL_PROXY", "HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR")


def check(asked: dict, trains: bool = True) -> None:
    """Raise UserError or DataError for a recipe or a source that cannot be used. asked: as `load_recipe` takes it."""
    from data_contracts.sources.source import check

    recipe, store = load_recipe(**asked), Store()
    for part in recipe.mix:
        if not store.manifests(part, "clean"):
            load_recipe(part)  # to be cleaned first
    there = store.manifests(recipe.corpus, "download")
    least = LEAST_CHARS if trains and recipe.dial and recipe.reader == OWN else 0
    check(recipe.source, reader_of(recipe), None if there else shared_home(), recipe.options, least)


def check_addresses() -> None:
    """Raise UserError for an address of Prefect or MLflow that cannot work, or where nobody listens. Shows no secret."""
    if names := [name for name in NETWORK if os.environ.get(name) or os.environ.get(name.lower())]:
        import httpx

        try:
            httpx.Client().close()
        except Exception as error:
            raise UserError(f"{', '.join(names)} cannot be used: {error}\nmend or unset what is wrong") from None
    uri = os.environ["MLFLOW_TRACKING_URI"]
    if uri.partition(":")[0].partition("+")[0] not in MLFLOW_ADDRESSES or "://" not in uri:
        known = "sqlite:///FILE, postgresql://, mysql://, mssql://, http:// and https://"
        raise UserError(
            f"MLFLOW_TRACKING_URI {without_password(uri)!r} cannot be used; what can is {known}\nunset it to use the home's own"
        )
    proxied = urllib.request.getproxies()
    for name, service in (("PREFECT_API_URL", "Prefect"), ("MLFLOW_TRACKING_URI", "MLflow")):
        address = os.environ.get(name, "")
        try:
            place = urlsplit(address)
            host, port = place.hostname, place.port or {"http": 80, "https": 443}.get(place.scheme)
            if address and service == "Prefect" and not (host and port):
                raise ValueError("it is no address such as http://127.0.0.1:4200/api")
            if host and port and (place.scheme not in proxied or host == "localhost" or host.startswith("127.")):
                socket.create_connection((host, port), SECONDS).close()
        except (OSError, ValueError) as error:
            what = f"{service} does not answer at {without_password(address)}: {error}"
            raise UserError(f"{what}\nstart it, or unset {name}") from None
