"""What can go wrong between here and the Hub, in one line with the way out."""

from collections.abc import Iterator
from contextlib import contextmanager

from huggingface_hub.errors import (
    HfHubHTTPError,
    HTTPError,  # that of the HTTP library in use, whichever the Hub's client has
    LocalTokenNotFoundError,
    OfflineModeIsEnabled,
)

from ..errors import PublishError

# An answer can be lost after the commit was made, so "nothing was published" would say too much.
_AGAIN = "No half of it was published. Run the command again; it sends what is missing."


@contextmanager
def explained(repo_id: str, endpoint: str) -> Iterator[None]:
    """Turns the client's errors into a `PublishError`."""
    try:
        yield
    except (HTTPError, OSError, ValueError, RuntimeError) as error:
        # The client wraps what fails while a file is uploaded in a RuntimeError.
        cause = error.__cause__ if isinstance(error, RuntimeError) and isinstance(error.__cause__, Exception) else error
        raise PublishError(f"{repo_id}: {_explain(cause, repo_id, endpoint)}") from error


def _explain(error: Exception, repo_id: str, endpoint: str) -> str:
    if isinstance(error, LocalTokenNotFoundError):
        return f"there is no token. Get one at {endpoint}/settings/tokens and run `hf auth login`, or set HF_TOKEN."
    if isinstance(error, OfflineModeIsEnabled):
        return "HF_HUB_OFFLINE is set. Unset it to publish."
    if isinstance(error, HfHubHTTPError):
        return _explain_status(error, repo_id, endpoint)
    if isinstance(error, HTTPError | ConnectionError):
        return f"the connection to {endpoint} failed ({_first_line(error)}). {_AGAIN}"
    return _first_line(error)


def _explain_status(error: HfHubHTTPError, repo_id: str, endpoint: str) -> str:
    status = error.response.status_code
    if status == 401:
        return (
            f"{endpoint} does not accept the token. Get a new one with write access at {endpoint}/settings/tokens and "
            "run `hf auth login`, or set HF_TOKEN."
        )
    if status == 403:
        namespace = repo_id.split("/")[0]
        return (
            f"the token may not write there. It needs write access, and {namespace} must be you or an organization "
            "that lets you write."
        )
    if status == 409:
        return "exists already, but your token cannot see it. Choose another --repo."
    if status == 412:
        return "somebody else changed it at the same moment. Run the command again."
    said = error.server_message or _first_line(error)
    if status >= 500:
        return (
            f"{endpoint} failed (status {status}: {said}). Run the command again; what was uploaded is not sent twice."
        )
    return f"{endpoint} refused (status {status}): {said}"


def _first_line(error: Exception) -> str:
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__
