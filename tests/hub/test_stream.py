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
from hf_usod.models.image_processing_usod import UsodImageProcessor

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
