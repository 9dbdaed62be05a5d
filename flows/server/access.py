"""Where the servers of `gpt up` listen, and the password that is needed to listen beyond this machine.

All have the same user and password, from PREFECT_SERVER_API_AUTH_STRING. Child processes get them by the environment,
never by an argument, which every user of the machine can see, nor by a file.
"""

import ipaddress
import os
import socket
from collections import Counter
from dataclasses import dataclass, field
from urllib.parse import urlsplit

import psutil

from flows import UserError

AUTH_VARIABLE = "PREFECT_SERVER_API_AUTH_STRING"
PASSWORD_CHARS = 12  # at least
# What `apps` is told by the environment: the host names that Prefect answers, and the user:password that MLflow asks for.
HOSTS_VARIABLE, LOGIN_VARIABLE = "GPT_PREFECT_HOSTS", "GPT_MLFLOW_LOGIN"
ANYWHERE = ("0.0.0.0", "::")


@dataclass(frozen=True)
class Access:
    host: str
    port: int = 0
    mlflow_port: int = 0
    serve_port: int = 0
    login: str = field(default="", repr=False)
    """user:password; empty where none is asked for"""

    def local_url(self, port: int) -> str:
        """The address for programs on this machine."""
        return _url({"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host), port)

    def public_url(self, port: int) -> str:
        """The address for a browser, which may be on another machine if the server listens there."""
        return _url(socket.gethostname() if self.host in ANYWHERE else self.host, port)

    @property
    def api(self) -> str:
        return f"{self.local_url(self.port)}/api"

    def client_environment(self) -> dict[str, str]:
        """Variables for the clients of both servers."""
        user, _, password = self.login.partition(":")
        mlflow = {"MLFLOW_TRACKING_USERNAME": user, "MLFLOW_TRACKING_PASSWORD": password}
        return mlflow | {"PREFECT_API_AUTH_STRING": self.login} if self.login else {}

    def names(self) -> list[str]:
        """The names of this machine by which programs and browsers reach the servers, as in a Host header without its port."""
        names = {"localhost", "127.0.0.1", "[::1]"}
        if self.host in ANYWHERE:
            cards = [card for cards in psutil.net_if_addrs().values() for card in cards]
            names |= {card.address for card in cards if card.family == socket.AF_INET}
            names |= {socket.gethostname(), socket.getfqdn()}
        else:
            names.add(f"[{self.host}]" if ":" in self.host else self.host)
        return sorted(name.lower() for name in names)

    def server_environment(self) -> dict[str, str]:
        """Variables for the servers: the address at which Prefect's page finds the API, by default port 4200 of the browser's
        machine; the host names and the pages that each answers; and the password that MLflow asks for."""
        names = self.names()
        page = os.environ.get("PREFECT_SERVER_UI_API_URL") or f"{self.public_url(self.port)}/api"
        pages = [*(f"http://{name}:{self.port}" for name in names), page.removesuffix("/api").lower()]
        pages.append(os.environ.get("PREFECT_SERVER_CORS_ALLOWED_ORIGINS", ""))
        addresses = [f"{name}:{self.mlflow_port}" for name in names]
        mlflow = {
            "MLFLOW_SERVER_ALLOWED_HOSTS": ",".join([*names, *addresses]),
            "MLFLOW_SERVER_CORS_ALLOWED_ORIGINS": ",".join(f"http://{address}" for address in addresses),
        }
        return {name: os.environ.get(name) or value for name, value in mlflow.items()} | {
            "PREFECT_SERVER_UI_API_URL": page,
            "PREFECT_SERVER_CORS_ALLOWED_ORIGINS": ",".join(filter(None, pages)),
            HOSTS_VARIABLE: ",".join([*names, urlsplit(page).netloc.lower()]),
            LOGIN_VARIABLE: self.login,
        }


def access(host: str, **ports: int) -> Access:
    """ports: of those that are to listen, by their names in `Access`. Raises UserError if two share a port, if other machines
    could reach the host without a password, and for a password that is too short."""
    if shared := [port for port, times in Counter(ports.values()).items() if times > 1]:
        problem = f"Prefect, MLflow and the playground cannot share port {shared[0]}"
        raise UserError(f"{problem}; --port, --mlflow-port and --serve-port set them")
    given = os.environ.get(AUTH_VARIABLE, "")
    user, _, password = given.partition(":")
    mend = f"export {AUTH_VARIABLE}=user:password, with a password of {PASSWORD_CHARS} characters or more"
    if not given and not _loopback(host):
        raise UserError(f"--host {host} lets other machines in and needs a password\n{mend}")
    if given and not (user and len(password) >= PASSWORD_CHARS):
        raise UserError(f"the password is too short, or has no user\n{mend}")
    return Access(host, **ports, login=given)


def _loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _url(host: str, port: int) -> str:
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
