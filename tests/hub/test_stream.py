"""Images of a data set on the Hub, streamed by two processes into a training."""

import io
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from local_hub import LocalHub, run
from PIL import Image
from transformers import ResNetBackbone

from hf_usod.conversion import Pretrained
from hf_usod.data import list_images
from hf_usod.errors import DataError
from hf_usod.models.image_processing_usod import UsodImageProcessor
from hf_usod.training.hub_images import suffix_of

TRAIN_SCRIPT = Path(__file__).parents[2] / "scripts" / "train.py"
UPLOAD = """
import sys
from datasets import Dataset, Features, Image
from huggingface_hub import HfApi

api, photos = HfApi(), sys.argv[2:]
rows = Dataset.from_dict({"image": photos, "mask": photos}, features=Features(image=Image(), mask=Image()))
rows.to_parquet(sys.argv[1])
api.create_repo("tester/photos", repo_type="dataset")
api.upload_file(
    path_or_fileobj=sys.argv[1], path_in_repo="data/train-0.parquet", repo_id="tester/photos", repo_type="dataset"
)
"""
STREAM = """
from hf_usod.training.arguments import CueExtractorArguments
from hf_usod.training.hub_images import bring_images
from hf_usod.training.plan import Plan

arguments = CueExtractorArguments(images=["hf://datasets/tester/folder"], output_dir="run")
bring_images(Plan("run", False, arguments))
"""


@pytest.mark.slow
def test_a_folder_of_images_is_streamed(hub, client, tmp_path):
    """Of which no row holds the bytes, unlike of Parquet; and whatever was streamed is found as an image."""
    pytest.importorskip("datasets")
    folder, streamed = tmp_path / "folder", tmp_path / "home" / "hf_usod"
    folder.mkdir()
    for number, kind in enumerate(("jpg", "png", "jp2", "tiff")):
        noise = np.random.default_rng(number).integers(0, 255, (40, 40, 3), np.uint8)
        Image.fromarray(noise).save(folder / f"{number}.{kind}")
    api = client()
    api.create_repo("tester/folder", repo_type="dataset")
    api.upload_folder(repo_id="tester/folder", folder_path=folder, repo_type="dataset")
    run(STREAM, [], tmp_path / "home", hub.endpoint, ACCELERATE_USE_CPU="true")
    (images,) = streamed.iterdir()
    assert {path.suffix for path in list_images(images)} == {".jpg", ".png", ".jp2", ".tif"}
    given = sorted(path.read_bytes() for path in folder.iterdir())
    assert sorted(path.read_bytes() for path in list_images(images)) == given


def test_a_format_that_would_not_be_found_again_is_named():
    file = io.BytesIO()
    Image.new("RGB", (8, 8)).save(file, "eps")
    with pytest.raises(DataError, match="images of the format EPS, which are not trained on"):
        suffix_of(file.getvalue())


@pytest.mark.slow
def test_two_processes_stream_a_data_set_and_train_on_it(tiny_backbone, tmp_path):
    pytest.importorskip("datasets")
    torch.manual_seed(0)
    Pretrained(ResNetBackbone(tiny_backbone()), UsodImageProcessor()).save_pretrained(tmp_path / "backbone")
    contents = {}
    for number in range(5):
        noise = np.random.default_rng(number).integers(0, 255, (80, 80, 3), np.uint8)
        file = io.BytesIO()
        Image.fromarray(noise).save(file, "jpeg" if number else "png")
        path = tmp_path / f"{number}.{'jpg' if number else 'png'}"
        path.write_bytes(file.getvalue())
        contents[str(path)] = file.getvalue()
    words = ["--stage", "sce", "--images", "hf://datasets/tester/photos", "--backbone", tmp_path / "backbone"]
    words += ["--size", "64", "--scale_steps", "1", "--scale_stride", "32", "--batch_size", "2", "--num_epochs", "1"]
    words += ["--decoder_channels", "8", "--num_workers", "0", "--output_dir", tmp_path / "run"]
    with LocalHub() as hub:
        run(UPLOAD, [tmp_path / "rows.parquet", *contents], tmp_path / "home", hub.endpoint)
        environment = {
            **os.environ,
            "HF_ENDPOINT": hub.endpoint,
            "HF_HOME": str(tmp_path / "home"),
            "HF_TOKEN": "writer",
            "HF_HUB_DISABLE_XET": "1",
            "HF_HUB_OFFLINE": "0",
            "ACCELERATE_USE_CPU": "true",
            "OMP_NUM_THREADS": "1",
        }
        torchrun = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node", "2"]
        subprocess.run([*torchrun, TRAIN_SCRIPT, *words], env=environment, check=True)
    (folder,) = (tmp_path / "home" / "hf_usod").iterdir()
    assert folder.name.startswith("tester--photos--train--")
    assert sorted(path.read_bytes() for path in folder.iterdir()) == sorted(contents.values())
    assert {path.suffix for path in folder.iterdir()} == {".jpg", ".png"}
    arguments = json.loads((tmp_path / "run" / "arguments.json").read_text())
    assert arguments["images"] == [str(folder)] and arguments["num_images"] == 5
    assert (tmp_path / "run" / "model" / "model.safetensors").is_file()
