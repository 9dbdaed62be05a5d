"""Who may come in: where the servers of `gpt up` listen, and the password that listening wider than this machine demands.

One user and password open both servers. They come from PREFECT_SERVER_API_AUTH_STRING, go to children by their environment, and
stand in no argument, since every user of a machine sees those, and in no file.
"""

import ipaddress
import os
import secrets
import socket
from dataclasses import dataclass, field
from pathlib import Path

from flows import UserError

GIVEN_BY = "PREFECT_SERVER_API_AUTH_STRING"
PASSWORD_CHARS = 12  # MLflow takes no shorter one
ANYWHERE = ("0.0.0.0", "::")


@dataclass(frozen=True)
class Doors:
    host: str
    port: int
    mlflow_port: int
    user: str = ""
    password: str = field(default="", repr=False)

    def url(self, port: int) -> str:
        """As this machine calls it."""
        return _url({"0.0.0.0": "127.0.0.1", "::": "::1"}.get(self.host, self.host), port)

    def address(self, port: int) -> str:
        """As a person's browser calls it, on another machine too if it may."""
        return _url(socket.gethostname() if self.host in ANYWHERE else self.host, port)

    @property
    def api(self) -> str:
        return f"{self.url(self.port)}/api"

    def client_environment(self) -> dict[str, str]:
        """Of whoever calls the servers."""
        if not self.password:
            return {}
        return {
            "PREFECT_API_AUTH_STRING": f"{self.user}:{self.password}",
            "MLFLOW_TRACKING_USERNAME": self.user,
            "MLFLOW_TRACKING_PASSWORD": self.password,
        }

    def prefect_environment(self) -> dict[str, str]:
        """Of the Prefect server. Its page would call port 4200 of the browser's own machine, were it not told."""
        page = os.environ.get("PREFECT_SERVER_UI_API_URL") or f"{self.address(self.port)}/api"
        return {"PREFECT_SERVER_UI_API_URL": page}

    def mlflow_environment(self) -> dict[str, str]:
        """Of the MLflow server: the names that it answers to, since it turns away requests for others, and its first user."""
        found = {}
        if self.host in ANYWHERE:
            import psutil

            names = {socket.gethostname(), socket.getfqdn(), "localhost", "[::1]"}
            cards = [card for found in psutil.net_if_addrs().values() for card in found]
            names |= {card.address for card in cards if card.family == socket.AF_INET}
            hosts = sorted(names | {f"{name}:{self.mlflow_port}" for name in names})
            origins = [f"http://{name}:{self.mlflow_port}" for name in sorted(names)]
            found["MLFLOW_SERVER_ALLOWED_HOSTS"] = os.environ.get("MLFLOW_SERVER_ALLOWED_HOSTS") or ",".join(hosts)
            found["MLFLOW_SERVER_CORS_ALLOWED_ORIGINS"] = os.environ.get(
                "MLFLOW_SERVER_CORS_ALLOWED_ORIGINS"
            ) or ",".join(origins)
        if self.password:
            found |= {
                "MLFLOW_AUTH_ADMIN_USERNAME": self.user,
                "MLFLOW_AUTH_ADMIN_PASSWORD": self.password,
                "MLFLOW_FLASK_SERVER_SECRET_KEY": secrets.token_hex(32),
            }
        return found


def doors(host: str, port: int, mlflow_port: int) -> Doors:
    """Raises UserError for a host that other machines reach without a password, and for a password that does not do."""
    if port == mlflow_port:
        raise UserError(f"Prefect and MLflow cannot both have port {port}; --port and --mlflow-port set them")
    given = os.environ.get(GIVEN_BY, "")
    user, _, password = given.partition(":")
    if not given and not _loopback(host):
        raise UserError(
            f"--host {host} lets other machines in, and that takes a password: export {GIVEN_BY}=user:password\n"
            f"(of {PASSWORD_CHARS} characters or more)"
        )
    if given and not (user and len(password) >= PASSWORD_CHARS):
        raise UserError(f"{GIVEN_BY} is no user:password with a password of {PASSWORD_CHARS} characters or more")
    return Doors(host, port, mlflow_port, user, password)


def mlflow_users(folder: Path, user: str, password: str) -> Path:
    """The file that MLflow's basic-auth app is set up by, without a secret in it; the user has this password from now on."""
    import logging

    from mlflow.server.auth.sqlalchemy_store import SqlAlchemyStore

    logging.getLogger("alembic").setLevel(logging.WARNING)
    config, database = folder / "mlflow-auth.ini", folder / "mlflow-auth.db"
    for path in (config, database):
        path.touch(mode=0o600)
    config.write_text(
        f"[mlflow]\ndefault_permission = READ\ndatabase_uri = sqlite:///{database}\nadmin_username = {user}\n"
        "authorization_function = mlflow.server.auth:authenticate_request_basic_auth\nauth_cache_ttl_seconds = 60\n"
    )
    store = SqlAlchemyStore()
    store.init_db(f"sqlite:///{database}")
    if store.has_user(user):  # MLflow itself leaves an existing user's password as it is
        store.update_user(user, password=password, is_admin=True)
    else:
        store.create_user(user, password, is_admin=True)
    return config


def _loopback(host: str) -> bool:
    try:
        return host == "localhost" or ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _url(host: str, port: int) -> str:
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"
