"""The paper's full-size models, on the way that a user takes them: the authors' checkpoint file, `hf-usod convert`,
`predict`, `publish`, and from the Hub into a process that has no hf_usod. What is computed at its end, the released
program computes.
"""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from hf_usod import UsodImageProcessor, UsodSdModel
from hf_usod.loading import load

sys.path.insert(0, str(Path(__file__).parents[1] / "hub"))

from local_hub import LocalHub, run

RGB, NSI, ADAPTER = "tester/usod-rgb", "tester/usod-nsi", "tester/usod-rsi"
PHOTO = Path(__file__).parents[2] / "space" / "examples" / "chelsea.jpg"
SCALE = 2.0**-8  # of the last, linear layer: random weights give logits of hundreds, and maps without gray levels
CARD = "---\nlicense: cc-by-nc-4.0\nlibrary_name: peft\n---\n# A task adapter\n"

# Runs command lines, then loads what they published; arguments: their file, inputs, results, ids
USER = """
import json, sys

from hf_usod.cli import main

commands, inputs, results, rgb, adapter = sys.argv[1:]
for command in json.load(open(commands)):
    status = main(command)
    assert status == 0, (status, command)

import numpy as np
import torch
from peft import PeftModel
from transformers import AutoModel

inputs = {name: torch.from_numpy(array) for name, array in np.load(inputs).items()}
found = {}
with torch.no_grad():
    model = AutoModel.from_pretrained(rgb).eval()
    assert type(model).__module__.startswith("hf_usod."), type(model)
    model.load_adapter(adapter)
    found["load_adapter"] = model.eval()(**inputs).logits
    model.disable_adapters()
    found["disabled"] = model(**inputs).logits
    model.enable_adapters()
    found["enabled"] = model(**inputs).logits
    wrapped = PeftModel.from_pretrained(AutoModel.from_pretrained(rgb), adapter).eval()
    found["PeftModel"] = wrapped(**inputs).logits
    with wrapped.disable_adapter():
        found["PeftModel disabled"] = wrapped(**inputs).logits
np.savez(results, **{name: tensor.numpy() for name, tensor in found.items()})
"""

STRANGER = """
import numpy as np
import torch
from transformers import AutoImageProcessor, AutoModel, pipeline

inputs, photo, results, rgb, nsi = sys.argv[1:]
inputs = {name: torch.from_numpy(array) for name, array in np.load(inputs).items()}
found = {}
for name in (rgb, nsi):
    model = AutoModel.from_pretrained(name, trust_remote_code=True).eval()
    processor = AutoImageProcessor.from_pretrained(name, trust_remote_code=True)
    assert type(model).__module__.startswith("transformers_modules."), type(model)
    with torch.no_grad():
        found[name] = model(**inputs).logits
        if name == rgb:
            found["photo"] = model(**processor(photo, return_tensors="pt")).logits
        else:
            found["photo and map"] = model(**processor(photo, aux_images=[photo], return_tensors="pt")).logits
found = {name: tensor.numpy() for name, tensor in found.items()}
detect = pipeline(model=nsi, trust_remote_code=True, device="cpu")
found["pipeline"] = np.asarray(detect({"image": photo, "aux": photo})["saliency"])
assert not [name for name in sys.modules if name.split(".")[0] == "hf_usod"]
np.savez(results, **found)
"""


@pytest.fixture(scope="module")
def story(released, without_package, tmp_path_factory):
    """The folder it took place in, the Hub after it, and the logits that each process found."""
    root = tmp_path_factory.mktemp("full_size")
    checkpoint = released.state_dict("sd")
    for name in ("weight", "bias"):
        checkpoint[f"decoder.refine.score.{name}"] *= SCALE
    torch.save({f"module.{key}": value for key, value in checkpoint.items()}, root / "sd.pth")
    torch.save(checkpoint | released.detector_adapter(), root / "transferred.pth")
    torch.save(released.state_dict("sce"), root / "sce.pth")
    image, aux = released.detector_inputs()
    np.savez(root / "inputs.npz", pixel_values=image, aux_pixel_values=aux)
    (root / "photos").mkdir()
    (root / "maps").mkdir()
    Image.open(PHOTO).resize((120, 80)).save(root / "photos" / "cat.png")
    Image.open(PHOTO).convert("L").resize((60, 40)).save(root / "maps" / "cat.png")
    (root / "card.md").write_text(CARD)
    photos, card = f"{root}/photos", f"{root}/card.md"
    plain = ["--edges", "none", "--mixed_precision", "no"]
    commands = [
        ["convert", f"{root}/sd.pth", "--output", f"{root}/usod-rgb"],
        ["convert", "transferred.pth", "--output", "transferred"],  # seen from the folder it runs in
        ["convert", f"{root}/sce.pth", "--output", f"{root}/sce"],
        ["predict", photos, *plain, "--model", f"{root}/usod-rgb", "--output", f"{root}/out/rgb"],
        [
            "predict",
            photos,
            *plain,
            "--model",
            f"{root}/transferred",
            "--aux",
            f"{root}/maps",
            "--output",
            f"{root}/out/nsi",
        ],
        [
            "predict",
            photos,
            *plain,
            "--adapter",
            f"{root}/transferred/adapter",
            "--output",
            f"{root}/out/adapter",
        ],
        ["predict", photos, *plain, "--adapter", f"{root}/sce/adapter", "--output", f"{root}/out/sce"],
        ["publish", "model", f"{root}/usod-rgb", "--repo", RGB],
        ["publish", "model", f"{root}/transferred", "--repo", NSI],
        ["publish", "adapter", f"{root}/transferred/adapter", "--base", NSI, "--repo", ADAPTER, "--card", card],
        ["publish", "model", f"{root}/usod-rgb", "--repo", RGB],
        ["predict", photos, *plain, "--adapter", ADAPTER, "--output", f"{root}/out/hub"],
    ]
    (root / "commands.json").write_text(json.dumps(commands))
    with LocalHub() as hub:
        user = [root / "commands.json", root / "inputs.npz", root / "user.npz", RGB, ADAPTER]
        run(USER, user, root / "home", hub.endpoint)
        stranger = [root / "inputs.npz", root / "photos" / "cat.png", root / "stranger.npz", RGB, NSI]
        run(without_package + STRANGER, stranger, root / "stranger", hub.endpoint)
    return root, hub, released.numbers(root / "user.npz") | released.numbers(root / "stranger.npz")


@pytest.fixture(scope="module")
def expected(released):
    """What the released program computes, at every fourth row and column."""
    plain = released.numbers("conversion/golden/sd_logits.npz")["logits"][..., ::4, ::4]
    adapted = released.numbers("conversion/golden/sd_more.npz")["adapted"]
    return {"plain": SCALE * plain, "adapted": SCALE * adapted}


@pytest.mark.slow
class TestStory:
    def test_published_models_compute_what_the_released_program_does(self, released, story, expected):
        logits = story[2]
        for name in (RGB, NSI):
            assert released.relative_error(logits[name][..., ::4, ::4], expected["plain"]) < 1e-4, name

    def test_the_published_adapter_too_and_it_switches_off(self, released, story, expected):
        logits = story[2]
        for name in ("load_adapter", "enabled", "PeftModel"):
            assert released.relative_error(logits[name][..., ::4, ::4], expected["adapted"]) < 1e-4, name
        for name in ("disabled", "PeftModel disabled"):
            assert released.relative_error(logits[name][..., ::4, ::4], expected["plain"]) < 1e-4, name
        assert torch.equal(logits["disabled"], logits["PeftModel disabled"])

    def test_a_cue_extractor_and_its_adapter(self, released, story):
        root, expected = story[0], released.numbers("conversion/golden/sce_logits.npz")
        images = released.cue_extractor_inputs()
        with torch.no_grad():
            plain = load(str(root / "sce")).model(images).logits[..., ::2, ::2]
            adapted = load(None, str(root / "sce" / "adapter")).model(images).logits[..., ::2, ::2]
        assert released.relative_error(plain, expected["plain"]) < 1e-4
        assert released.relative_error(adapted, expected["adapted"]) < 1e-4

    def test_photos(self, released, story):
        root, _, found = story
        photo = root / "photos" / "cat.png"
        loaded, processor = load(str(root / "usod-rgb"))
        assert isinstance(loaded, UsodSdModel) and isinstance(processor, UsodImageProcessor)
        with torch.no_grad():
            alone = loaded(**processor(photo, return_tensors="pt")).logits
            mapped = loaded(**processor(photo, aux_images=[photo], return_tensors="pt")).logits
        assert released.relative_error(found["photo"], alone) < 1e-5
        assert released.relative_error(found["photo and map"], mapped) < 1e-5
        assert found["pipeline"].shape == (80, 120)

    def test_predictions_are_the_maps_of_the_models(self, story):
        root = story[0]
        photo, depth = root / "photos" / "cat.png", root / "maps" / "cat.png"
        adapter = str(root / "transferred" / "adapter")
        runs = {"rgb": ("usod-rgb", None, [None]), "nsi": ("transferred", None, [depth])}
        runs |= {"adapter": (None, adapter, [None]), "sce": (None, str(root / "sce" / "adapter"), None)}
        maps = {}
        for name, (folder, adapter, aux) in runs.items():
            model, processor = load(str(root / folder) if folder else None, adapter)
            with torch.no_grad():
                outputs = model(**processor(photo, aux_images=aux, return_tensors="pt"))
            (saliency,) = processor.post_process_saliency(outputs, [(80, 120)])
            maps[name] = saliency.numpy() * 255
            written = np.asarray(Image.open(root / "out" / name / "cat.png")).astype(float)
            assert np.abs(written - maps[name]).max() <= 1, name
        assert np.abs(maps["rgb"] - maps["nsi"]).max() > 10 and np.abs(maps["rgb"] - maps["adapter"]).max() > 10
        local, published = (np.asarray(Image.open(root / "out" / name / "cat.png")) for name in ("adapter", "hub"))
        assert np.abs(local.astype(int) - published).max() <= 1

    def test_what_is_on_the_hub(self, story):
        root, hub, _ = story
        for name, folder in ((RGB, "usod-rgb"), (NSI, "transferred")):
            files = hub.files(name)
            assert files["model.safetensors"] == (root / folder / "model.safetensors").read_bytes()
            assert {"modeling_usod_sd.py", "pipeline_usod.py", "preprocessor_config.json"} <= files.keys()
            assert not [path for path in files if path.startswith("adapter")]
            assert len(hub.commits(name)) == 2  # published again, nothing was sent
        assert json.loads(hub.files(ADAPTER)["adapter_config.json"])["base_model_name_or_path"] == NSI
