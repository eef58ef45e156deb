"""What is saved must work where hf_usod is not installed."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import pipeline

from hf_usod import UsodImageProcessor, UsodSceModel, UsodSdModel

# Runs in a Python that cannot import the package: arguments are the folders, a photo, and the file for the results
STRANGER = """
import numpy as np
import torch
from PIL import Image
from transformers import AutoImageProcessor, AutoModel, pipeline

plain, full, detector, photo, results = sys.argv[1:]
results_of = {}

for folder in (plain, full, detector):
    processor = AutoImageProcessor.from_pretrained(folder, trust_remote_code=True)
    inputs = processor(photo, return_tensors="pt")
    model = AutoModel.from_pretrained(folder, trust_remote_code=True)
    assert type(model).__module__.startswith("transformers_modules."), type(model)
    with torch.no_grad():
        saliency = processor.post_process_saliency(model(**inputs), [Image.open(photo).size[::-1]])[0]
    results_of[folder] = saliency.numpy()
    model.save_pretrained(results + "-again")
    model = AutoModel.from_pretrained(results + "-again", trust_remote_code=True)

for task in (None, "salient-object-detection"):
    output = pipeline(task, model=full, trust_remote_code=True, device="cpu")(photo)
    results_of |= {f"pipeline {task} {name}": np.asarray(image) for name, image in output.items()}
detect = pipeline(model=detector, trust_remote_code=True, device="cpu")
output = detect({"image": photo, "aux": photo, "aux_kind": "depth"})
results_of |= {f"detector {name}": np.asarray(image) for name, image in output.items()}
assert not [name for name in sys.modules if name.split(".")[0] == "hf_usod"]
np.savez(results, **results_of)
"""


@pytest.fixture(scope="module")
def photo(tmp_path_factory) -> str:
    path = tmp_path_factory.mktemp("photo") / "photo.png"
    Image.fromarray(np.random.default_rng(0).integers(0, 256, (6, 8, 3), dtype=np.uint8)).resize((70, 50)).save(path)
    return str(path)


@pytest.fixture(scope="module")
def pipeline_folder(checkpoint, tmp_path_factory) -> str:
    folder = str(tmp_path_factory.mktemp("pipeline"))
    pipeline("salient-object-detection", model=checkpoint, device="cpu").save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def detector_folder(sd_checkpoint, tmp_path_factory) -> str:
    """Of a detector that is told what its maps are."""
    folder = str(tmp_path_factory.mktemp("detector"))
    detect = pipeline("salient-object-detection", model=sd_checkpoint, device="cpu")
    detect.model.inform_of_aux_kinds()
    torch.nn.init.normal_(detect.model.aux_offsets.weight)
    detect.save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def strangers_results(
    checkpoint, pipeline_folder, detector_folder, photo, without_package, tmp_path_factory
) -> dict[str, np.ndarray]:
    folder = tmp_path_factory.mktemp("stranger")
    environment = {**os.environ, "HF_HOME": str(folder), "HF_MODULES_CACHE": str(folder / "modules")}
    results = folder / "results.npz"
    arguments = [checkpoint, pipeline_folder, detector_folder, photo, str(results)]
    command = [sys.executable, "-I", "-c", without_package + STRANGER, *arguments]
    run = subprocess.run(command, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True)
    assert run.returncode == 0, run.stderr
    return dict(np.load(results))


def test_exported_files(checkpoint, pipeline_folder, detector_folder):
    code = {"configuration_usod.py", "modeling_usod.py", "modeling_usod_sce.py", "resized_convolution.py"}
    code |= {"image_processing_usod.py", "reading_usod.py"}
    data = {"config.json", "model.safetensors", "preprocessor_config.json"}
    assert set(os.listdir(checkpoint)) == code | data
    assert set(os.listdir(pipeline_folder)) == code | data | {"edge_refiner.py", "pipeline_usod.py"}
    code = code - {"modeling_usod_sce.py"} | {"modeling_usod_sd.py", "pixel_refiner.py"}
    assert set(os.listdir(detector_folder)) == code | data | {"edge_refiner.py", "pipeline_usod.py"}


def test_auto_map(checkpoint):
    with open(f"{checkpoint}/config.json") as file:
        assert json.load(file)["auto_map"] == {
            "AutoConfig": "configuration_usod.UsodSceConfig",
            "AutoModel": "modeling_usod_sce.UsodSceModel",
        }


@pytest.mark.parametrize("kind", ["plain", "pipeline", "detector"])
@torch.no_grad()
def test_model_and_processor(strangers_results, checkpoint, pipeline_folder, detector_folder, photo, kind):
    folder = {"plain": checkpoint, "pipeline": pipeline_folder, "detector": detector_folder}[kind]
    processor = UsodImageProcessor.from_pretrained(folder)
    model = (UsodSdModel if kind == "detector" else UsodSceModel).from_pretrained(folder)
    (saliency,) = processor.post_process_saliency(model(**processor(photo, return_tensors="pt")), [(50, 70)])
    assert np.array_equal(strangers_results[folder], saliency.numpy())


@pytest.mark.parametrize("task", [None, "salient-object-detection"])
def test_pipeline(strangers_results, checkpoint, photo, task):
    expected = pipeline("salient-object-detection", model=checkpoint, device="cpu")(photo)
    for name, image in expected.items():
        assert np.array_equal(strangers_results[f"pipeline {task} {name}"], image)


def test_detectors_pipeline(strangers_results, detector_folder, photo):
    detect = pipeline("salient-object-detection", model=detector_folder, device="cpu")
    expected = detect({"image": photo, "aux": photo, "aux_kind": "depth"})
    for name, image in expected.items():
        assert np.array_equal(strangers_results[f"detector {name}"], image)
