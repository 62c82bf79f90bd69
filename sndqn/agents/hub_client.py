"""The client of the Hugging Face hub, imported late, and what it cannot do said in one line."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from sndqn.agents.hub_names import HubName
from sndqn.errors import HubError, HubUnreachableError, MissingExtraError, SndqnError, shortened

if TYPE_CHECKING:
    from huggingface_hub import HfApi


def hub_api() -> "HfApi":
    """Returns the hub's client; it reads HF_ENDPOINT, HF_TOKEN, HF_HOME and HF_HUB_OFFLINE.

    Raises:
        MissingExtraError: huggingface_hub is not installed.
    """
    try:
        import httpx2  # noqa: F401 # what huggingface_hub speaks HTTP with since its version 2
        from huggingface_hub import HfApi
    except ImportError:
        raise MissingExtraError(
            'huggingface_hub 2 is not installed; type: pip install "sndqn[hub]"',
            name="huggingface_hub",
        ) from None
    return HfApi(library_name="sndqn")


def check_token() -> None:
    """Refuses to push without a token of the hub.

    Raises:
        HubError: There is none.
        MissingExtraError: huggingface_hub is not installed.
    """
    hub_api()
    from huggingface_hub import get_token

    if get_token() is None:
        raise HubError(
            "pushing needs a token of the hub that may write: type hf auth login, or set HF_TOKEN"
        )


@contextmanager
def answers_for(name: HubName) -> Iterator[None]:
    """Says in one line what goes wrong between here and the hub.

    Raises:
        HubUnreachableError: The hub does not answer, or huggingface_hub is told to be offline.
        HubError: Anything else.
    """
    try:
        yield
    except SndqnError:
        raise
    except Exception as error:
        # The client of the hub, called with a stranger's answers: it can raise anything.
        raise _in_words(name, error) from None


def _in_words(name: HubName, error: BaseException) -> HubError:
    import httpx2
    from huggingface_hub import errors

    if isinstance(error, errors.GatedRepoError):
        return HubError(
            f"{name}: its owner decides who may read it: ask for that on its page, and type hf "
            "auth login"
        )
    if isinstance(error, errors.RepositoryNotFoundError):
        return HubError(
            f"{name}: expected a repository that you may read, found none: check the name; a "
            "private one needs a token: type hf auth login, or set HF_TOKEN"
        )
    if isinstance(error, errors.RevisionNotFoundError):
        return HubError(
            f"{name}: expected a branch, a tag or a commit of the repository, found none called "
            f"{name.revision}"
        )
    if isinstance(error, errors.LocalEntryNotFoundError):  # it stopped answering in between
        return HubUnreachableError(f"{name}: the hub does not answer")
    if isinstance(error, errors.HfHubHTTPError):
        return _refusal(name, error.response.status_code, error.server_message)
    if isinstance(error, errors.OfflineModeIsEnabled):
        return HubUnreachableError(f"{name}: HF_HUB_OFFLINE is set")
    if isinstance(error, httpx2.TransportError):
        reason = shortened(str(error) or type(error).__name__)
        return HubUnreachableError(f"{name}: the hub does not answer ({reason})")
    if isinstance(error, RuntimeError) and error.__cause__ is not None:  # of one file of several
        return _in_words(name, error.__cause__)
    reason = " ".join(str(error).split())[:150]
    return HubError(f"{name}: the hub's client says {type(error).__name__}: {reason}")


def _refusal(name: HubName, status: int, words: str | None) -> HubError:
    """Says what a status of HTTP means."""
    said = f": {' '.join(words.split())[:150]}" if words else ""
    if status == 401:
        return HubError(f"{name}: the hub does not take your token{said}: type hf auth login")
    if status == 403:
        return HubError(f"{name}: your token may not do this{said}")
    if status == 412:
        return HubError(f"{name} was changed meanwhile: type the same command again")
    if status >= 500:
        return HubUnreachableError(f"{name}: the hub does not work (status {status})")
    return HubError(f"{name}: the hub answers with status {status}{said}")
