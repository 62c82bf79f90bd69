"""Agents of the Hugging Face hub: their files, fetched and pushed.

An agent is a repository of models there, with the files of a shipped one. Four of them are asked
for, by their names; whatever else a repository holds is neither fetched nor opened. They go to the
hub's own cache, which works without a network. huggingface_hub does it, and is imported late.
"""

import hashlib
import logging
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from sndqn.agents.hub_client import answers_for, hub_api
from sndqn.agents.hub_names import HubName
from sndqn.errors import HubError, HubUnreachableError, shortened
from sndqn.files import read_bytes

if TYPE_CHECKING:
    from huggingface_hub import HfApi
    from tqdm import tqdm

AGENT = "agent.safetensors"
# What is fetched, with the bytes that each may have. The agent is the last: where it is, all are.
FETCHED = {
    "config.yaml": 64 * 1024,
    "evaluation.json": 16 * 2**20,
    "episodes.jsonl": 512 * 2**20,
    AGENT: 512 * 2**20,
}
_SECONDS = 10.0
_SHOWN_BYTES = 10 * 2**20
_COMMIT = re.compile("[0-9a-f]{40}")


def fetch(name: HubName) -> Path:
    """Fetches an agent's files into the hub's cache, those that are not there yet.

    Without a network, what is in the cache is taken as it is.

    Returns:
        A folder with those of the files `FETCHED` that the repository has, all of one commit.

    Raises:
        HubError: There is no such repository or revision, no agent in it, a file that is too large
            or that was changed in the cache, or no network and nothing in the cache.
    """
    api = hub_api()
    try:
        with answers_for(name):
            info = api.model_info(
                name.repo, revision=name.revision, files_metadata=True, timeout=_SECONDS
            )
            sizes = {file.rfilename: file.size for file in info.siblings or ()}
            commit = str(info.sha)
            _check_offer(name, commit, sizes)
            there = {file: sizes[file] or 0 for file in FETCHED if file in sizes}
            folder = _download(api, name, commit, there)
    except HubUnreachableError as error:
        folder = _cached(api, name, error)
    for file in FETCHED:
        _check_unchanged(name, folder / file)
    return folder


def _check_offer(name: HubName, commit: str, sizes: dict[str, int | None]) -> None:
    """Refuses a repository by what the hub says of it, before anything is fetched."""
    if not _COMMIT.fullmatch(commit):
        raise HubError(f"{name}: expected a commit of 40 digits, found {shortened(commit)}")
    if AGENT not in sizes:
        raise HubError(
            f"{name}: expected a repository with {AGENT}, as `sndqn push` makes it, found "
            f"{shortened(', '.join(sorted(sizes)) or 'an empty one')}"
        )
    for file, most in FETCHED.items():
        size = sizes.get(file, 0)
        if size is None or size > most:
            raise HubError(f"{name}: {file}: expected at most {most:,} bytes, found {size}")


def _download(api: "HfApi", name: HubName, commit: str, sizes: Mapping[str, int]) -> Path:
    folder = Path()
    for file, size in sizes.items():
        # The last, by the name that was typed: so the cache knows its commit without a network.
        revision = name.revision if file == AGENT else commit
        bar = _bar_of(name, file, size)
        path = api.hf_hub_download(name.repo, file, revision=revision, tqdm_class=bar)
        folder = Path(path).parent
    if folder.name != commit:
        raise HubError(f"{name} was changed while it was fetched: type the same command again")
    return folder


def _bar_of(name: HubName, file: str, size: int) -> "type[tqdm]":
    """Returns the bar that a download is shown by: on terminals, if it takes a while.

    It sees what arrives, and stops a file that is larger than it may be, whatever was announced.
    """
    from tqdm import tqdm

    class Bar(tqdm):  # type: ignore[misc] # it comes without types
        received = 0

        def __init__(self, *arguments: Any, **options: Any) -> None:
            hidden = None if size >= _SHOWN_BYTES else True  # None: but on terminals
            super().__init__(*arguments, **{**options, "desc": file, "disable": hidden})

        def update(self, n: int = 1) -> Any:
            self.received += n
            if self.received > FETCHED[file]:
                most = f"{FETCHED[file]:,}"
                raise HubError(f"{name}: {file}: expected at most {most} bytes, found more")
            return super().update(n)

    return Bar


def _cached(api: "HfApi", name: HubName, reason: HubUnreachableError) -> Path:
    """Returns the folder of an earlier download."""
    from huggingface_hub.constants import HF_HUB_OFFLINE
    from huggingface_hub.errors import LocalEntryNotFoundError

    try:
        agent = api.hf_hub_download(name.repo, AGENT, revision=name.revision, local_files_only=True)
    except LocalEntryNotFoundError:
        raise HubUnreachableError(f"{reason}, and no earlier download of it is here") from None
    folder = Path(agent).parent
    if not HF_HUB_OFFLINE:
        logging.getLogger("sndqn").warning("%s: what was downloaded before is taken", reason)
    return folder


def _check_unchanged(name: HubName, path: Path) -> None:
    """Refuses a file whose content is not what its name in the cache says.

    The cache keeps contents under their hashes, and in a commit's folder links to them: SHA-256 of
    large files, git's SHA-1 of others. Where there are no links, nothing is known.
    """
    if not path.is_symlink():
        return
    expected = Path(os.readlink(path)).name
    if not re.fullmatch("[0-9a-f]{64}|[0-9a-f]{40}", expected):
        return
    content = read_bytes(path, FETCHED[path.name])
    if len(expected) == 64:
        found = hashlib.sha256(content).hexdigest()
    else:
        head = b"blob %d\0" % len(content)
        found = hashlib.sha1(head + content, usedforsecurity=False).hexdigest()
    if found != expected:
        raise HubError(
            f"{name}: {path.name} is not what was downloaded: delete {path.parents[2]} and type "
            "the same command again"
        )


@dataclass(frozen=True)
class Pushed:
    """What a push did.

    Attributes:
        commit: The commit that it made.
        page: The address of the repository's page.
        private: Whether others may not see it.
    """

    commit: str
    page: str
    private: bool


def upload(
    name: HubName, folder: Path, *, private: bool = False, ours: Sequence[str] = ()
) -> Pushed:
    """Puts the files of a folder into a repository, which is made if there is none, in one commit.

    Args:
        name: Where to.
        folder: What to.
        private: Whether others may not see it.
        ours: Files that an earlier push may have left, and that are removed if they are not in the
            folder.

    Raises:
        HubError: There is no token or it may not, no network, the repository is public where
            `private` is asked for, or it holds something else than an agent.
    """
    from huggingface_hub import CommitOperationAdd, CommitOperationDelete

    api = hub_api()
    found = sorted(path for path in folder.rglob("*") if path.is_file())
    files = [path.relative_to(folder).as_posix() for path in found]
    with answers_for(name):
        api.create_repo(name.repo, private=private or None, exist_ok=True)
        info = api.model_info(name.repo, timeout=_SECONDS)
        there = [file.rfilename for file in info.siblings or ()]
        _check_target(name, there, private and not info.private)
        changes: list[Any] = [CommitOperationAdd(file, folder / file) for file in files]
        changes += [
            CommitOperationDelete(file) for file in ours if file in there and file not in files
        ]
        done = api.create_commit(
            name.repo,
            changes,
            commit_message="Put an agent of sndqn here",
            parent_commit=info.sha,
        )
        return Pushed(str(done.oid), f"{api.endpoint}/{name.repo}", bool(info.private))


def _check_target(name: HubName, there: Sequence[str], is_public: bool) -> None:
    """Refuses to push to what is no agent's repository, or is seen by all."""
    if is_public:
        raise HubError(f"--private: {name} is there and public: leave it out, or type another name")
    others = [file for file in there if file not in (".gitattributes", "README.md")]
    if others and AGENT not in there:
        raise HubError(
            f"{name}: expected no repository, an empty one, or one with {AGENT}, found one with "
            f"{shortened(others[0])}: type another name"
        )
