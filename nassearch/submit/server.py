"""A thin layer over Ray's job server: tokens, errors in our words, files beside the log."""

from __future__ import annotations

import asyncio
import logging
import os
import time
from collections.abc import AsyncIterator, Callable, Mapping
from pathlib import Path
from typing import Any

from nassearch.errors import ConfigError, NassearchError

_AUTHENTICATION_HELP = (
    "make a token once with `ray get-auth-token --generate`, start the cluster with RAY_AUTH_MODE=token and that "
    "token on every node, and give the same token here in RAY_AUTH_TOKEN, in the file RAY_AUTH_TOKEN_PATH, or in "
    "~/.ray/auth_token"
)
_TALKATIVE = ("ray.dashboard.modules.dashboard_sdk", "ray.dashboard.modules.job.sdk", "ray._private.runtime_env")
_GAP_S = 1.0
_NOT_YET = "No available agent"  # of a cluster that has just been started
_STARTING_S = 30.0


def find_token(environment: Mapping[str, str] = os.environ) -> str | None:
    """Return Ray's authentication token from where Ray itself looks for it, or None.

    Raises:
        ConfigError: ``RAY_AUTH_TOKEN_PATH`` names no readable file.
    """
    if environment.get("RAY_AUTH_MODE", "").lower() == "disabled":
        return None
    if token := environment.get("RAY_AUTH_TOKEN", "").strip():
        return token
    named = environment.get("RAY_AUTH_TOKEN_PATH")
    path = Path(named) if named else Path.home() / ".ray" / "auth_token"
    try:
        return path.read_text(encoding="utf-8").strip() or None
    except OSError as error:
        if named:
            raise ConfigError(
                f"RAY_AUTH_TOKEN_PATH={named} cannot be read: {error.strerror}; {_AUTHENTICATION_HELP}"
            ) from error
        return None


class JobServer:
    """The job server of a cluster.

    Args:
        address: ``http://HOST:8265``.

    Raises:
        ConfigError: Ray is missing, or the server does not answer or refuses us.
    """

    def __init__(self, address: str) -> None:
        if not address.startswith(("http://", "https://")):
            raise ConfigError(
                f"--address {address!r} is no address of a job server; it has the form http://HOST:8265 "
                "(8265 is the port of Ray's dashboard)"
            )
        token = find_token()
        self._headers = {"Authorization": f"Bearer {token}"} if token else {}
        self.address = address.rstrip("/")
        # Ray would let these variables win over the address that the user gives.
        hidden = {k: os.environ.pop(k) for k in ("RAY_ADDRESS", "RAY_API_SERVER_ADDRESS") if k in os.environ}
        try:
            from ray.job_submission import JobSubmissionClient

            for name in _TALKATIVE:
                logging.getLogger(name).setLevel(logging.WARNING)
            self._client = JobSubmissionClient(self.address, headers=dict(self._headers))
        except ImportError as error:
            raise ConfigError(
                f"submitting needs Ray ({error}); install it with `pip install 'ray[default]'`"
            ) from error
        except Exception as error:  # connection, version and authentication errors have no common base
            raise ConfigError(self._explain(error, bool(token))) from error
        finally:
            os.environ.update(hidden)

    def _explain(self, error: Exception, token: bool) -> str:
        text = " ".join(str(error).split())
        if type(error).__name__ == "AuthenticationError":
            why = "refuses the token given" if token else "wants a token and none was found here"
            return f"the job server at {self.address} {why}; {_AUTHENTICATION_HELP}"
        return (
            f"no Ray job server answers at {self.address} ({text}); is the cluster up, started with "
            "`ray start --head --dashboard-host=…`, and the port reachable (ssh -L 8265:localhost:8265 HEAD)?"
        )

    def submit(self, **request: Any) -> str:
        """Send a job; see ``JobSubmissionClient.submit_job``.

        Raises:
            NassearchError: The server does not take the job; one that has just been started is waited for.
        """
        deadline = time.monotonic() + _STARTING_S
        while True:
            try:
                return str(self._client.submit_job(**request))
            except (RuntimeError, ValueError) as error:
                if _NOT_YET not in str(error) or time.monotonic() > deadline:
                    raise NassearchError(f"the job server at {self.address} did not take the job: {error}") from error
            time.sleep(_GAP_S)

    def details(self, job_id: str) -> Any:
        """Return the state of a job.

        Raises:
            ConfigError: There is no such job.
        """
        try:
            return self._client.get_job_info(job_id)
        except RuntimeError as error:
            if "404" in str(error):
                raise ConfigError(
                    f"the cluster at {self.address} has no job {job_id!r}; `ray job list --address {self.address}`"
                ) from error
            raise

    def follow(self, job_id: str, write: Callable[[str], None]) -> Any:
        """Hand on the log of a job until it ends, whatever connections break; return its last state."""
        return asyncio.run(self._follow(job_id, write))

    async def _follow(self, job_id: str, write: Callable[[str], None]) -> Any:
        shown, failures = 0, 0
        while True:
            try:
                position = 0
                async for text in self._log(job_id):
                    # Every connection starts again at the beginning of the log.
                    position += len(text)
                    if position > shown:
                        write(text[-(position - shown) :])
                        shown = position
                details = self.details(job_id)
                failures = 0
                if details.status.is_terminal():
                    return details
            except (OSError, RuntimeError) as error:
                failures += 1
                if failures >= 60:
                    raise NassearchError(f"the job server at {self.address} is gone: {error}") from error
            await asyncio.sleep(_GAP_S)

    def _log(self, job_id: str) -> AsyncIterator[str]:
        iterator: AsyncIterator[str] = self._client.tail_job_logs(job_id)
        return iterator

    def fetch(self, node_id: str, name: str, target: Path | None = None) -> bytes:
        """Read a file from the folder of logs of a node.

        Args:
            node_id: The node.
            name: Name relative to that folder.
            target: Where to write the file; without it, it is returned.

        Raises:
            FileNotFoundError: There is no such file, or the server does not hand it out.
        """
        import requests

        parameters = {"node_id": node_id, "filename": name, "lines": "-1", "timeout": "3600"}
        url = f"{self.address}/api/v0/logs/file"
        with requests.get(url, params=parameters, headers=self._headers, stream=True, timeout=(30, 600)) as response:
            if response.status_code != 200:
                raise FileNotFoundError(f"{name}: {response.status_code} {response.text[:300]}")
            if target is None:
                return bytes(response.content)
            with target.open("wb") as sink:
                for chunk in response.iter_content(1 << 20):
                    sink.write(chunk)
        return b""


def wait_for(read: Callable[[], bytes], seconds: float) -> bytes | None:
    """Return what ``read`` returns, trying again for some seconds while the file is not there."""
    deadline = time.monotonic() + seconds
    while True:
        try:
            return read()
        except OSError:
            if time.monotonic() > deadline:
                return None
            time.sleep(_GAP_S)
