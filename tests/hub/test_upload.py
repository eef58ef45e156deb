"""Publishing a folder: one commit of what differs, or none; and what users are told when it fails."""

import pytest
from huggingface_hub import constants
from local_hub import LocalHub

from hf_usod.hub import PublishError, compare, publish
from hf_usod.hub.upload import files_of

REPO = "tester/thing"
WRITES = ("/api/repos/create", "/preupload/", "/commit/", "/lfs/")


def bytes_of(folder):
    return {name: path.read_bytes() for name, path in files_of(folder).items()}


def writes(hub):
    return [request for request in hub.log if any(part in request for part in WRITES)]


@pytest.mark.parametrize("kind", ["model", "dataset", "space"])
def test_one_commit_makes_the_repository_the_folder(hub, client, folder, kind):
    url = publish(folder, REPO, kind, message="First", api=client())
    assert hub.files(REPO, kind) == bytes_of(folder)
    assert hub.commits(REPO, kind) == ["initial commit", "First"]
    assert url.endswith(hub.repositories[kind, REPO][-1].oid)
    stored = hub.repositories[kind, REPO][-1].files
    assert {name for name, file in stored.items() if file.lfs} == {"model.safetensors"}


def test_again_with_nothing_changed_writes_nothing(hub, client, folder):
    publish(folder, REPO, message="First", api=client())
    hub.log.clear()
    assert publish(folder, REPO, message="Second", api=client()) is None
    assert writes(hub) == [] and hub.commits(REPO) == ["initial commit", "First"]


@pytest.mark.parametrize("changed", ["README.md", "model.safetensors"])
def test_sends_what_changed_and_no_more(hub, client, folder, changed):
    publish(folder, REPO, message="First", api=client())
    content = (folder / changed).read_bytes()
    (folder / changed).write_bytes(content[:-1] + b"!")  # of the same size
    plan = compare(folder, REPO, api=client())
    assert (plan.added, plan.changed, plan.deleted) == ({}, {changed: len(content)}, {})
    hub.log.clear()
    assert publish(folder, REPO, message="Second", api=client())
    assert hub.files(REPO) == bytes_of(folder) and len(hub.commits(REPO)) == 3
    assert sum(request.startswith("PUT /lfs/") for request in hub.log) == (changed == "model.safetensors")


def test_deletes_only_when_told_to(hub, client, folder):
    publish(folder, REPO, message="First", api=client())
    (folder / "examples" / "terms.txt").rename(folder / "terms.txt")
    before = hub.files(REPO)
    with pytest.raises(PublishError, match=r"would not be published: examples/terms\.txt\. Say --delete"):
        publish(folder, REPO, message="Second", api=client())
    assert hub.files(REPO) == before
    publish(folder, REPO, message="Second", delete=True, api=client())
    assert hub.files(REPO) == bytes_of(folder)
    assert ".gitattributes" in hub.repositories["model", REPO][-1].files


def test_comparing_writes_nothing(hub, client, folder):
    plan = compare(folder, REPO, api=client())
    assert plan.revision is None and plan.added == {name: len(data) for name, data in bytes_of(folder).items()}
    assert hub.repositories == {}
    publish(folder, REPO, message="First", api=client())
    (folder / "README.md").unlink()
    (folder / "new.txt").write_text("new")
    hub.log.clear()
    lines = compare(folder, REPO, api=client()).describe().splitlines()
    assert lines == [
        "-      37 B  README.md",
        "       13 B  examples/terms.txt",
        "    10.2 kB  model.safetensors",
        "+       3 B  new.txt",
        "1 added, 0 changed, 1 deleted, 2 unchanged; 3 B to send.",
    ]
    assert writes(hub) == []


@pytest.mark.parametrize("exists", [False, True])
@pytest.mark.parametrize(
    "step, message",
    [("lfs", "the storage is broken"), ("commit", "the connection to .* failed .*No half of it was published")],
)
def test_interrupted_upload_publishes_nothing_and_can_be_repeated(hub, client, folder, exists, step, message):
    if exists:
        publish(folder, REPO, message="First", api=client())
        (folder / "model.safetensors").write_bytes(b"other weights")
        (folder / "README.md").write_text("---\nlicense: mit\n---\n# Another card\n")
    before = hub.files(REPO) if exists else {}
    hub.fail = step
    with pytest.raises(PublishError, match=message):
        publish(folder, REPO, message="Broken", api=client())
    assert hub.files(REPO) == before and "Broken" not in hub.commits(REPO)
    hub.fail = None
    hub.log.clear()
    publish(folder, REPO, message="Repeated", api=client())
    assert hub.files(REPO) == bytes_of(folder)
    assert sum(request.startswith("PUT /lfs/") for request in hub.log) == (step == "lfs")  # not sent twice


def test_a_change_by_somebody_else_is_not_overwritten(hub, client, folder, monkeypatch):
    publish(folder, REPO, message="First", api=client())
    (folder / "README.md").write_text("---\nlicense: mit\n---\n# Mine\n")
    api = client()
    create_commit = api.create_commit

    def late(*args, **kwargs):
        hub.add_commit(("model", REPO), "Theirs", hub.repositories["model", REPO][-1].files)
        return create_commit(*args, **kwargs)

    monkeypatch.setattr(api, "create_commit", late)
    with pytest.raises(PublishError, match="somebody else changed it"):
        publish(folder, REPO, message="Mine", api=api)
    assert hub.commits(REPO)[-1] == "Theirs"


@pytest.mark.parametrize("exists", [False, True])
@pytest.mark.parametrize(
    "token, namespace, message",
    [
        ("expired", "tester", "does not accept the token.*hf auth login"),
        ("reader", "tester", "may not write there.*needs write access, and tester must be you"),
        ("writer", "others", "may not write there.*needs write access, and others must be you"),
    ],
)
def test_bad_tokens(hub, client, folder, exists, token, namespace, message):
    repo = f"{namespace}/thing"
    if exists:
        hub.add_commit(("model", repo), "initial commit", {})
    before = list(hub.repositories.get(("model", repo), []))
    with pytest.raises(PublishError, match=f"^{repo}: .*{message}") as error:
        publish(folder, repo, message="First", api=client(token))
    assert "\n" not in str(error.value)
    assert hub.repositories.get(("model", repo), []) == before


def test_no_token(client, folder, monkeypatch):
    monkeypatch.setattr("huggingface_hub.utils._headers.get_token", lambda: None)
    with pytest.raises(PublishError, match=r"there is no token.*hf auth login"):
        publish(folder, REPO, message="First", api=client(None))


def test_no_network(client, folder):
    with LocalHub() as gone:
        endpoint = gone.endpoint
    with pytest.raises(PublishError, match=f"the connection to {endpoint} failed"):
        publish(folder, REPO, message="First", api=client(endpoint=endpoint))


def test_offline(client, folder, monkeypatch):
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(PublishError, match="HF_HUB_OFFLINE is set"):
        publish(folder, REPO, message="First", api=client())


@pytest.mark.parametrize("name", ["thing", "a/b/c", "tester/bad name", "tester/-bad", "tester/" + "x" * 97])
def test_bad_names(client, folder, name):
    with pytest.raises(PublishError, match="NAMESPACE/NAME"):
        publish(folder, name, message="First", api=client())


def test_private(hub, client, folder):
    publish(folder, "tester/secret", message="First", private=True, api=client())
    assert hub.private == {("model", "tester/secret")}
    assert publish(folder, "tester/secret", message="Second", private=True, api=client()) is None
    publish(folder, REPO, message="First", api=client())
    with pytest.raises(PublishError, match="is public, and --private was asked for"):
        publish(folder, REPO, message="Second", private=True, api=client())
