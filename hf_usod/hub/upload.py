"""A folder as the content of a Hub repository: what differs is sent in one commit, all of it or nothing."""

from dataclasses import dataclass, field
from pathlib import Path

from huggingface_hub import CommitOperationAdd, CommitOperationDelete, HfApi
from huggingface_hub.errors import HFValidationError, RepositoryNotFoundError
from huggingface_hub.hf_api import RepoFile
from huggingface_hub.utils import validate_repo_id
from huggingface_hub.utils.sha import git_hash, sha_fileobj

from .errors import PublishError, explained

KEPT = {".gitattributes"}  # the Hub's own, never deleted


@dataclass(frozen=True)
class Plan:
    """What separates a repository from a folder; paths are the repository's, sizes in bytes."""

    added: dict[str, int] = field(default_factory=dict)
    changed: dict[str, int] = field(default_factory=dict)
    deleted: dict[str, int] = field(default_factory=dict)
    unchanged: dict[str, int] = field(default_factory=dict)
    revision: str | None = None  # the commit compared with; None if there is no such repository
    private: bool | None = None

    @property
    def is_empty(self) -> bool:
        return not (self.added or self.changed or self.deleted)

    def describe(self) -> str:
        """A line a file: +, ~, -, or nothing for one that stays as it is."""
        kinds = (("+", self.added), ("~", self.changed), ("-", self.deleted), (" ", self.unchanged))
        lines = sorted((path, sign, size) for sign, files in kinds for path, size in files.items())
        total = sum((self.added | self.changed).values())
        rows = [f"{sign} {_readable(size):>9}  {path}" for path, sign, size in lines]
        return "\n".join(
            [
                *rows,
                f"{len(self.added)} added, {len(self.changed)} changed, {len(self.deleted)} deleted, "
                f"{len(self.unchanged)} unchanged; {_readable(total)} to send.",
            ]
        )


def _readable(size: float) -> str:
    for unit in ("B", "kB", "MB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.1f} GB"


def files_of(folder: Path) -> dict[str, Path]:
    """All files below a folder, by their path in a repository, sorted."""
    return {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}


def check_repo_id(repo_id: str) -> None:
    """Raises a `PublishError` unless it is NAMESPACE/NAME."""
    try:
        validate_repo_id(repo_id)
    except HFValidationError as error:
        raise PublishError(f"--repo {repo_id}: {error} Expected NAMESPACE/NAME.") from error
    if repo_id.count("/") != 1:
        raise PublishError(f"--repo {repo_id}: expected NAMESPACE/NAME, such as your-user-name/{repo_id}.")


def _same(path: Path, remote: RepoFile) -> bool:
    if path.stat().st_size != remote.size:
        return False
    if remote.lfs:
        with path.open("rb") as file:
            return sha_fileobj(file).hex() == remote.lfs.sha256
    return git_hash(path.read_bytes()) == remote.blob_id


def _compare(folder: Path, repo_id: str, repo_type: str, api: HfApi) -> Plan:
    local = files_of(folder)
    sizes = {name: path.stat().st_size for name, path in local.items()}
    try:
        info = api.repo_info(repo_id, repo_type=repo_type)
    except RepositoryNotFoundError:
        return Plan(added=sizes)
    tree = api.list_repo_tree(repo_id, recursive=True, revision=info.sha, repo_type=repo_type)
    remote = {entry.path: entry for entry in tree if isinstance(entry, RepoFile)}
    both = local.keys() & remote.keys()
    same = {name for name in both if _same(local[name], remote[name])}
    return Plan(
        added={name: sizes[name] for name in local.keys() - remote.keys()},
        changed={name: sizes[name] for name in both - same},
        deleted={name: remote[name].size for name in remote.keys() - local.keys() - KEPT},
        unchanged={name: sizes[name] for name in same},
        revision=info.sha,
        private=info.private,
    )


def compare(folder: Path, repo_id: str, repo_type: str = "model", *, api: HfApi | None = None) -> Plan:
    """What `publish` would do; changes nothing.

    Raises:
        PublishError: if the name is bad, or the Hub cannot be asked.
    """
    check_repo_id(repo_id)
    api = api or HfApi()
    with explained(repo_id, api.endpoint):
        return _compare(folder, repo_id, repo_type, api)


def publish(
    folder: Path,
    repo_id: str,
    repo_type: str = "model",
    *,
    message: str,
    private: bool = False,
    delete: bool = False,
    api: HfApi | None = None,
) -> str | None:
    """Makes a repository's content that of a folder, in one commit; creates the repository if there is none.

    Args:
        folder: everything below it is published.
        repo_id: NAMESPACE/NAME.
        repo_type: "model", "dataset" or "space" (of Gradio's kind).
        message: of the commit.
        private: a repository that is created, is private; one that exists, must be.
        delete: whether files of the repository that are not in the folder may go.
        api: the Hub's client, for another endpoint or token than the environment's.

    Returns:
        The URL of the commit, or None if nothing differed and none was made.

    Raises:
        PublishError: saying what to do. No half of a revision was published.
    """
    check_repo_id(repo_id)
    api = api or HfApi()
    with explained(repo_id, api.endpoint):
        api.whoami()  # a wrong token is told here; later requests cannot tell it from a missing repository
        plan = _compare(folder, repo_id, repo_type, api)
        if plan.revision is None:
            sdk = "gradio" if repo_type == "space" else None
            api.create_repo(repo_id, repo_type=repo_type, private=private or None, space_sdk=sdk)
            plan = _compare(folder, repo_id, repo_type, api)
        elif private and not plan.private:
            raise PublishError(
                f"{repo_id}: is public, and --private was asked for. Make it private in its settings at "
                f"{api.endpoint}, or choose another --repo. Nothing was published."
            )
        elif plan.deleted and not delete:
            raise PublishError(
                f"{repo_id}: holds files that would not be published: {', '.join(sorted(plan.deleted))}. Say "
                "--delete to delete them, or choose another --repo. Nothing was published."
            )
        if plan.is_empty:
            return None
        local = files_of(folder)
        commit = api.create_commit(
            repo_id,
            [
                *(CommitOperationAdd(name, local[name]) for name in sorted(plan.added | plan.changed)),
                *(CommitOperationDelete(name, is_folder=False) for name in sorted(plan.deleted)),
            ],
            commit_message=message,
            repo_type=repo_type,
            parent_commit=plan.revision,
        )
    return commit.commit_url
