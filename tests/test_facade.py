"""The package's door: quick to import, and known to transformers and PEFT whatever is imported first."""

import importlib
import pickle
import subprocess
import sys

import pytest
from transformers import AutoConfig, AutoImageProcessor, AutoModel

import hf_usod

MODEL, ADAPTER = hf_usod.checkpoint_path("usod-rgb-lite"), hf_usod.checkpoint_path("usod-steel-lite")
LOAD_CONFIG = f"from transformers import AutoConfig; print(type(AutoConfig.from_pretrained({str(MODEL)!r})).__module__)"
LOAD_MODEL = f"from transformers import AutoModel; print(type(AutoModel.from_pretrained({str(MODEL)!r})).__module__)"
LOAD_PROCESSOR = (
    "from transformers import AutoImageProcessor; "
    f"print(type(AutoImageProcessor.from_pretrained({str(MODEL)!r})).__module__)"
)
LOAD_PIPELINE = (
    "from transformers import pipeline; "
    f"print(type(pipeline('salient-object-detection', {str(MODEL)!r}, device='cpu')).__module__)"
)
LOAD_ADAPTER = f"from peft import PeftConfig; print(type(PeftConfig.from_pretrained({str(ADAPTER)!r})).__module__)"
CONFIG, IMAGE_PROCESSOR = "hf_usod.models.configuration_usod", "hf_usod.models.image_processing_usod"
DETECTOR, PIPELINE = "hf_usod.models.modeling_usod_sd", "hf_usod.models.pipeline_usod"


def _run(*lines: str) -> list[str]:
    """What a new Python prints."""
    command = [sys.executable, "-c", "\n".join(lines)]
    ran = subprocess.run(command, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    return ran.stdout.split()


def test_public_names():
    assert all(hasattr(hf_usod, name) for name in hf_usod.__all__)
    assert set(hf_usod.__all__) <= set(dir(hf_usod))
    assert hf_usod.objectives.iou_loss.__module__ == "hf_usod.objectives.overlap"
    with pytest.raises(AttributeError, match="no attribute 'usod'"):
        _ = hf_usod.usod


def test_import_loads_nothing_heavy():
    modules = {name.partition(".")[0] for name in _run("import sys, hf_usod", "print(*sys.modules)")}
    assert not {"torch", "transformers", "peft", "numpy", "PIL", "timm", "datasets"} & modules


@pytest.mark.slow
@pytest.mark.parametrize(
    ("lines", "modules"),
    [
        (["import hf_usod", LOAD_CONFIG], [CONFIG]),
        (["import hf_usod", LOAD_MODEL], [DETECTOR]),
        (["import hf_usod", LOAD_PROCESSOR], [IMAGE_PROCESSOR]),
        (["import hf_usod", LOAD_PIPELINE], [PIPELINE]),
        (["import hf_usod", LOAD_ADAPTER], ["hf_usod.adapters.config"]),
        (["from transformers import AutoModel", "import hf_usod", LOAD_MODEL], [DETECTOR]),
        (["from transformers import pipeline", "import hf_usod", LOAD_PIPELINE], [PIPELINE]),
        (["import peft", "import hf_usod", LOAD_ADAPTER, LOAD_MODEL], ["hf_usod.adapters.config", DETECTOR]),
        (["import hf_usod, transformers.modeling_utils", LOAD_MODEL], [DETECTOR]),
        (["import hf_usod, peft.tuners.tuners_utils", LOAD_ADAPTER], ["hf_usod.adapters.config"]),
        (["import hf_usod.models.modeling_usod_sd", LOAD_MODEL, LOAD_PROCESSOR], [DETECTOR, IMAGE_PROCESSOR]),
    ],
    ids=lambda value: "; ".join(value)[:60],
)
def test_any_order_of_imports(lines, modules):
    assert _run(*lines) == modules


@pytest.mark.slow
def test_peft_loads_the_adapter_into_the_model():
    lines = [
        "import hf_usod",
        "from peft import PeftModel",
        "model = hf_usod.UsodSdModel.from_pretrained(hf_usod.checkpoint_path('usod-rgb-lite'))",
        f"print(type(PeftModel.from_pretrained(model, {str(ADAPTER)!r}).base_model).__name__)",
    ]
    assert _run(*lines) == ["UsodAdapterModel"]


def test_threads_that_ask_at_once():
    lines = [
        "import hf_usod, threading, transformers.pipelines",
        "from concurrent.futures import ThreadPoolExecutor",
        "from transformers import AutoConfig, AutoImageProcessor, pipeline",
        "path = str(hf_usod.checkpoint_path('usod-rgb-lite'))",
        "asked = [lambda: AutoConfig.from_pretrained(path), lambda: AutoImageProcessor.from_pretrained(path),",
        "         lambda: pipeline('salient-object-detection', path, device='cpu'), lambda: hf_usod.UsodSdModel]",
        "start = threading.Barrier(8)",
        "def ask(place):",
        "    start.wait()",
        "    return asked[place % 4]()",
        "with ThreadPoolExecutor(8) as pool:",
        "    print(len(list(pool.map(ask, range(8)))))",
    ]
    assert _run(*lines) == ["8"]


def test_a_pickle_brings_its_class_to_another_process(tmp_path):
    file = tmp_path / "config.pickle"
    file.write_bytes(pickle.dumps(hf_usod.UsodSdConfig()))
    lines = [
        "import pickle",
        f"config = pickle.load(open({str(file)!r}, 'rb'))",
        "from transformers import AutoModel",
        "print(type(config).__module__, AutoModel.from_config(config).__class__.__module__)",
    ]
    assert _run(*lines) == [CONFIG, DETECTOR]


@pytest.mark.slow
@pytest.mark.parametrize("lines", [["import hf_usod"], ["import transformers.pipelines, hf_usod"]])
def test_a_spawned_process_knows_the_models(tmp_path, lines):
    script = tmp_path / "script.py"
    script.write_text(
        "\n".join(
            [
                "import multiprocessing",
                *lines,
                "def load(path):",
                "    from transformers import AutoConfig",
                "    return type(AutoConfig.from_pretrained(path)).__module__",
                "if __name__ == '__main__':",
                "    with multiprocessing.get_context('spawn').Pool(1) as pool:",
                f"        print(pool.apply(load, ({str(MODEL)!r},)))",
            ]
        )
    )
    ran = subprocess.run([sys.executable, script], capture_output=True, text=True)
    assert ran.stdout.split() == [CONFIG], ran.stderr


def test_reloading_keeps_the_registrations():
    importlib.reload(hf_usod)
    assert type(AutoConfig.from_pretrained(MODEL)) is hf_usod.UsodSdConfig
    assert type(AutoModel.from_pretrained(MODEL)) is hf_usod.UsodSdModel
    for backend in (None, "pil", "torchvision"):
        assert type(AutoImageProcessor.from_pretrained(MODEL, backend=backend)) is hf_usod.UsodImageProcessor


def test_reloading_transformers_registers_anew():
    lines = [
        "import hf_usod, importlib, transformers.models.auto.configuration_auto as registry",
        LOAD_CONFIG,
        "importlib.reload(registry)",
        f"print(type(registry.AutoConfig.from_pretrained({str(MODEL)!r})).__module__)",
    ]
    assert _run(*lines) == [CONFIG, CONFIG]


def test_a_model_made_from_scratch_carries_its_code(tmp_path):
    lines = [
        "import hf_usod",
        "model = hf_usod.UsodSceModel(hf_usod.UsodSceConfig(decoder_channels=8))",
        "processor = hf_usod.UsodImageProcessor()",
        "detect = hf_usod.SalientObjectDetectionPipeline(model=model, image_processor=processor, device='cpu')",
        f"detect.save_pretrained({str(tmp_path)!r})",
    ]
    _run(*lines)
    assert {"configuration_usod.py", "modeling_usod_sce.py", "image_processing_usod.py", "pipeline_usod.py"} <= {
        path.name for path in tmp_path.iterdir()
    }


def test_the_task_is_known_before_any_model_is():
    lines = ["import hf_usod", "from transformers.pipelines import get_supported_tasks as tasks", "print(*tasks())"]
    assert "salient-object-detection" in _run(*lines)


def test_checkpoint_path(tmp_path, monkeypatch):
    for name in ("usod-b", "usod-a"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.json").touch()
    monkeypatch.setattr("hf_usod.assets.CHECKPOINTS", tmp_path)
    assert hf_usod.checkpoint_path("usod-a") == tmp_path / "usod-a"
    for name in ("usod-c", "", ".", "../usod-a"):
        with pytest.raises(ValueError, match="usod-a, usod-b"):
            hf_usod.checkpoint_path(name)
