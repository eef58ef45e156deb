"""From the shell to a local Hub and back: published by one process, used by one that cannot import the package (then
once more, without the Hub), and by one that has it imported."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from local_hub import LocalHub, run
from peft import get_peft_model
from PIL import Image
from safetensors.torch import load_file, save_file

import hf_usod
from hf_usod import UsodImageProcessor, UsodSceConfig, UsodSceModel
from hf_usod.adapters import UsodAdapterConfig

MODEL, ADAPTER, SPACE, DATASET, METRIC = (
    f"tester/{name}" for name in ("model", "adapter", "app", "labels", "usod_saliency")
)
METRIC_SOURCE = Path(hf_usod.__file__).parent / "evaluation" / "usod_saliency"
KINDS = {MODEL: "model", ADAPTER: "model", SPACE: "space", DATASET: "dataset", METRIC: "space"}
CARD = """---
license: apache-2.0
tags:
- hf_usod
---
# A tiny model

{% include "partials/use_model.md" %}

{% include "partials/pictures.md" %}
"""
# Publishes by the command, over and over; arguments: a file of command lines. Then uses what it has published.
PUBLISHER = """
import contextlib, io, json, sys

from hf_usod.cli import main

commands, model_id, adapter_id, photo, results = sys.argv[1:]
reports = []
for command in json.load(open(commands)):
    out, err = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
        status = main(command)
    reports.append({"status": status, "out": out.getvalue(), "err": err.getvalue()})
json.dump(reports, open(results + ".json", "w"))

import numpy as np
import torch
from peft import PeftModel
from transformers import AutoImageProcessor, AutoModel, pipeline

processor = AutoImageProcessor.from_pretrained(model_id)
inputs = processor(photo, return_tensors="pt")
model = AutoModel.from_pretrained(model_id)
adapted = AutoModel.from_pretrained(adapter_id)
wrapped = PeftModel.from_pretrained(AutoModel.from_pretrained(model_id), adapter_id).eval()
assert all(type(m).__module__.startswith("hf_usod.") for m in (model, adapted, wrapped.get_base_model()))
with torch.no_grad():
    outputs = {"model": model(**inputs), "AutoModel": adapted(**inputs), "PeftModel": wrapped(**inputs)}
    adapted.disable_adapters()
    outputs["disabled"] = adapted(**inputs)
maps = {name: output.logits.numpy() for name, output in outputs.items()}
maps["pipeline"] = np.asarray(pipeline("salient-object-detection", model=model_id)(photo)["saliency"])
np.savez(results, **maps)

from hf_usod.loading import is_adapter, load

assert is_adapter(adapter_id)
assert not any(map(is_adapter, (model_id, "tester/missing", "a//b", "none/such/folder")))
assert load(adapter_id).model.active_adapters() == ["default"]  # as a model, it brings its base
"""

# Cannot import the package; arguments as they come
STRANGER = """
import json

import evaluate
import numpy as np
import torch
from datasets import load_dataset
from huggingface_hub import snapshot_download
from huggingface_hub.errors import RepositoryNotFoundError
from transformers import AutoImageProcessor, AutoModel, pipeline

model_id, dataset_id, metric_id, space_id, photo, results = sys.argv[1:]
processor = AutoImageProcessor.from_pretrained(model_id, trust_remote_code=True)
model = AutoModel.from_pretrained(model_id, trust_remote_code=True)
assert type(model).__module__.startswith("transformers_modules."), type(model)
with torch.no_grad():
    logits = model(**processor(photo, return_tensors="pt")).logits
saliency = pipeline(model=model_id, trust_remote_code=True)(photo)["saliency"]
data = load_dataset(dataset_id, split="train")
np.savez(
    results,
    model=logits.numpy(),
    pipeline=np.asarray(saliency),
    ids=data["id"],
    **{f"image {row['id']}": np.asarray(row["image"]) for row in data},
    **{f"label {row['id']}": np.asarray(row["pseudo_label"]) for row in data},
    mae=evaluate.load(metric_id).compute(predictions=[[[0.0, 1.0], [1.0, 1.0]]], references=[[[0, 1], [1, 0]]])["mae"],
    space=snapshot_download(space_id, repo_type="space"),
)
try:
    AutoModel.from_pretrained("tester/missing", trust_remote_code=True)
    raise AssertionError("loaded what does not exist")
except OSError:
    pass
assert not [name for name in sys.modules if name.split(".")[0] == "hf_usod"]
"""


def save_photo(path: Path, seed: int, mode: str = "RGB", size=(70, 50)) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(seed).integers(0, 256, (6, 8, 3), dtype=np.uint8)
    Image.fromarray(noise).convert(mode).resize(size).save(path)


@pytest.fixture(scope="module")
def sources(tiny_backbone, tmp_path_factory) -> Path:
    """A tiny model in half precision, its adapter, a Space, and labels with their images."""
    root = tmp_path_factory.mktemp("sources")
    torch.manual_seed(0)
    model = UsodSceModel(UsodSceConfig(backbone_config=tiny_backbone(), decoder_channels=8)).eval()
    model.save_pretrained(root / "model")
    weights = load_file(root / "model" / "model.safetensors")
    halved = {name: value.half() if value.is_floating_point() else value for name, value in weights.items()}
    save_file(halved, root / "model" / "model.safetensors", metadata={"format": "pt"})
    UsodImageProcessor(size={"height": 96, "width": 96}).save_pretrained(root / "model")
    (root / "card.md").write_text(CARD)
    get_peft_model(model, UsodAdapterConfig()).save_pretrained(root / "adapter")
    (root / "adapter" / "README.md").write_text(CARD.replace("use_model", "use_adapter"))
    (root / "app" / "__pycache__").mkdir(parents=True)
    (root / "app" / "__pycache__" / "app.pyc").write_text("")
    (root / "app" / "app.py").write_text("print('an app')\n")
    (root / "app" / "README.md").write_text("---\ntitle: App\nsdk: gradio\n---\n")
    for number, name in enumerate(("b", "sub/a")):
        save_photo(root / "images" / f"{name}.jpg", number)
        save_photo(root / "labels" / f"{name}.png", number, "L")
    save_photo(root / "images" / "unlabeled.jpg", 5)
    save_photo(root / "photo.png", 9)
    return root


def commands_for(root: Path) -> dict[str, list[str]]:
    labels = ["--images", f"{root}/images", "--license", "cc-by-4.0", "--about", "Noise of this test."]
    return {
        MODEL: ["publish", "model", f"{root}/model", "--repo", MODEL, "--card", f"{root}/card.md"],
        ADAPTER: ["publish", "adapter", f"{root}/adapter", "--repo", ADAPTER, "--base", MODEL],
        SPACE: ["publish", "space", f"{root}/app", "--repo", SPACE],
        DATASET: ["publish", "dataset", f"{root}/labels", "--repo", DATASET, *labels],
        METRIC: ["publish", "metric", str(METRIC_SOURCE), "--repo", METRIC],
    }


@pytest.fixture(scope="module")
def story(sources, without_package, tmp_path_factory):
    """What happened: the Hub after it, the commands' reports, and what each process read."""
    root = tmp_path_factory.mktemp("story")
    commands = commands_for(sources)
    first = commands[MODEL]
    sequence = [[*first, "--dry-run"], *commands.values(), *commands.values(), [*first, "--dry-run"]]
    (root / "commands.json").write_text(json.dumps(sequence))
    photo = str(sources / "photo.png")
    stranger = [MODEL, DATASET, METRIC, SPACE, photo]
    with LocalHub() as hub:
        run(
            PUBLISHER,
            [f"{root}/commands.json", MODEL, ADAPTER, photo, f"{root}/user"],
            root / "user_home",
            hub.endpoint,
        )
        home = root / "stranger_home"
        run(without_package + STRANGER, [*stranger, f"{root}/stranger"], home, hub.endpoint)
    run(without_package + STRANGER, [*stranger, f"{root}/offline"], home, hub.endpoint, HF_HUB_OFFLINE="1")
    reports = json.loads((root / "user.json").read_text())
    read = {name: dict(np.load(root / f"{name}.npz")) for name in ("user", "stranger", "offline")}
    return hub, reports, read


@pytest.mark.slow
@pytest.mark.skipif(not METRIC_SOURCE.is_dir(), reason="there is no evaluate module to publish")
class TestStory:
    def test_every_command_succeeded_with_one_commit_each(self, story):
        hub, reports, _ = story
        assert [report["status"] for report in reports] == [0] * 12, [report["err"] for report in reports]
        for repo, kind in KINDS.items():
            assert len(hub.commits(repo, kind)) == 2, repo
        assert all("Published: http" in report["out"] for report in reports[1:6])
        assert all("is up to date; nothing was sent" in report["out"] for report in reports[6:11])

    def test_dry_runs(self, story):
        _, reports, _ = story
        before, after = reports[0]["out"], reports[-1]["out"]
        assert "no such repository yet" in before and "+ " in before and "pipeline_usod.py" in before
        assert "0 added, 0 changed, 0 deleted" in after and "compared with" in after

    def test_files_of_the_model(self, story, sources):
        files = story[0].files(MODEL)
        code = {name for name in files if name.endswith(".py")}
        assert {"configuration_usod.py", "image_processing_usod.py", "modeling_usod_sce.py", "pipeline_usod.py"} <= code
        data = {"README.md", "LICENSE", "config.json", "preprocessor_config.json", "model.safetensors"}
        assert {name for name in files if "/" not in name} == code | data
        assert "examples/README.md" in files and sum(name.startswith("examples/") for name in files) >= 5
        assert files["model.safetensors"] == (sources / "model" / "model.safetensors").read_bytes()
        config = json.loads(files["config.json"])
        assert config["auto_map"]["AutoModel"] == "modeling_usod_sce.UsodSceModel"
        assert config["custom_pipelines"]["salient-object-detection"]["impl"].startswith("pipeline_usod.")
        card = files["README.md"].decode()
        assert f'model="{MODEL}"' in card and '<img src="examples/astronaut.jpg"' in card

    def test_files_of_the_others(self, story):
        hub = story[0]
        assert set(hub.files(ADAPTER)) == {"README.md", "LICENSE", "adapter_config.json", "adapter_model.safetensors"}
        assert json.loads(hub.files(ADAPTER)["adapter_config.json"])["base_model_name_or_path"] == MODEL
        assert set(hub.files(SPACE, "space")) == {"README.md", "LICENSE", "app.py"}
        metric = {path.name: path.read_bytes() for path in METRIC_SOURCE.iterdir() if path.is_file()}
        assert {name: data for name, data in hub.files(METRIC, "space").items() if name != "LICENSE"} == metric
        dataset = hub.files(DATASET, "dataset")
        assert set(dataset) == {"README.md", "data/train-00000-of-00001.parquet"}
        card = dataset["README.md"].decode()
        assert card.startswith("---\nlicense: cc-by-4.0\n") and "Noise of this test." in card

    @torch.no_grad()
    def test_models_and_adapters_compute_what_they_did(self, story, sources):
        inputs = UsodImageProcessor.from_pretrained(sources / "model")(str(sources / "photo.png"), return_tensors="pt")
        model = UsodSceModel.from_pretrained(sources / "model", dtype=torch.float32)
        expected = model(**inputs).logits.numpy()
        model.load_adapter(str(sources / "adapter"))
        adapted = model(**inputs).logits.numpy()
        user = story[2]["user"]
        assert np.array_equal(user["disabled"], user["model"])
        for found, wanted in (("model", expected), ("AutoModel", adapted), ("PeftModel", adapted)):
            assert np.allclose(user[found], wanted, atol=1e-5), found
        assert not np.allclose(expected, adapted, atol=1e-1)

    @pytest.mark.parametrize("who", ["stranger", "offline"])
    def test_strangers_read_the_same(self, story, sources, who):
        user, read = story[2]["user"], story[2][who]
        assert np.array_equal(read["model"], user["model"])
        assert np.array_equal(read["pipeline"], user["pipeline"]) and read["pipeline"].shape == (50, 70)
        assert list(read["ids"]) == ["b", "sub/a"]
        for name in ("b", "sub/a"):
            assert np.array_equal(read[f"image {name}"], Image.open(sources / "images" / f"{name}.jpg"))
            assert np.array_equal(read[f"label {name}"], Image.open(sources / "labels" / f"{name}.png"))
        assert read["mae"] == 0.25
        assert (Path(str(read["space"])) / "app.py").read_text() == "print('an app')\n"
