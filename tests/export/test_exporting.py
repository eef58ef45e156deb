"""Exported models say what their models say; those that do not are not written."""

import json

import numpy as np
import pytest
import torch
from peft import get_peft_model

from hf_usod import UsodAdapterConfig, UsodSceConfig, UsodSceModel
from hf_usod.cli import main
from hf_usod.errors import DataError, ExportError, LoadingError, MissingPackageError
from hf_usod.export import checking
from hf_usod.export.checking import Difference, check_difference
from hf_usod.export.exporting import export_model
from hf_usod.export.precision import to_half, to_int8
from hf_usod.export.runner import UsodOnnxModel
from hf_usod.loading import load, load_pipeline
from hf_usod.models.pipeline_usod import SalientObjectDetectionPipeline


@pytest.fixture
def inputs(detector, photos):
    return detector.image_processor(photos, return_tensors="pt")["pixel_values"]


@torch.no_grad()
def maps(model, *inputs, **options):
    return model(*inputs, **options).logits.sigmoid()


@pytest.mark.parametrize("count", [1, 3, 5])
def test_any_number_of_images(detector, exported, inputs, count):
    expected = maps(detector.model, inputs[:count])
    assert expected.std() > 0.2
    assert torch.allclose(maps(load(exported).model, inputs[:count]), expected, atol=1e-3)


def test_a_folder_has_all_that_is_needed(exported):
    assert {path.name for path in exported.iterdir()} == {
        *("model.onnx", "config.json", "preprocessor_config.json", "README.md")
    }
    assert json.loads((exported / "preprocessor_config.json").read_text())["size"] == {"height": 96, "width": 96}
    assert "differ from those of PyTorch by mean" in (exported / "README.md").read_text()


def test_the_pipeline_runs_it(detector, exported, photos):
    model, processor = detector
    expected = SalientObjectDetectionPipeline(model=model, image_processor=processor, device="cpu")(photos)
    results = load_pipeline(exported)(photos, batch_size=2)
    for result, other, photo in zip(results, expected, photos, strict=True):
        assert torch.allclose(result["predicted_saliency"], other["predicted_saliency"], atol=2e-3)
        assert result["cutout"].size == photo.size


def test_maps_kinds_half_precision_and_other_sizes(tiny, photos, tmp_path):
    """All at once, as each export takes seconds."""
    model, processor = tiny(modality_informed=True)
    found = export_model(
        model, processor, tmp_path / "new", photos, precision="fp16", takes_aux=True, dynamic_size=True
    )
    assert 0 < found.mean < 5e-3
    exported = load(tmp_path / "new").model
    images, aux, kinds = torch.randn(3, 3, 64, 128), torch.rand(3, 3, 64, 128), torch.tensor([0, 1, 3])
    given = {"aux_pixel_values": aux, "aux_kind": kinds}
    assert torch.allclose(maps(exported, images, **given), maps(model, images, **given), atol=2e-2)
    assert torch.allclose(maps(exported, images), maps(model, images), atol=2e-2)
    assert not torch.allclose(maps(exported, images, **given), maps(exported, images), atol=5e-2)
    with pytest.raises(DataError, match="exported for images of sides that 32 divides; these are 70 x 64"):
        exported(torch.zeros(1, 3, 64, 70))


def test_smaller_files(exported, inputs, tmp_path):
    """Of which the numbers stay near; the integers are calibrated with what they are checked on."""
    sizes, expected = {"fp32": (exported / "model.onnx").stat().st_size}, maps(UsodOnnxModel(exported), inputs)
    samples = [{"pixel_values": image[None].numpy()} for image in inputs]
    for name, write in (("fp16", to_half), ("int8", lambda source, target: to_int8(source, target, samples))):
        folder = tmp_path / name
        folder.mkdir()
        (folder / "config.json").write_bytes((exported / "config.json").read_bytes())
        write(exported / "model.onnx", folder / "model.onnx")
        sizes[name] = (folder / "model.onnx").stat().st_size
        difference = (maps(UsodOnnxModel(folder), inputs) - expected).abs().mean().item()
        assert 0 < difference < {"fp16": 2e-3, "int8": 5e-2}[name]
    assert sizes["fp16"] < sizes["fp32"]


def test_an_adapter_becomes_part_of_it(tiny_backbone, photos, tmp_path):
    """And a cue extractor is exported as well as a detector."""
    from hf_usod import UsodImageProcessor

    model = UsodSceModel(UsodSceConfig(backbone_config=tiny_backbone(), decoder_channels=8))
    adapted = get_peft_model(model, UsodAdapterConfig()).eval()
    processor = UsodImageProcessor(size={"height": 64, "width": 64})
    pixels = processor(photos, return_tensors="pt")["pixel_values"]
    export_model(adapted.get_base_model(), processor, tmp_path / "new", photos)
    expected, exported = maps(adapted, pixels), maps(load(tmp_path / "new").model, pixels)
    assert torch.allclose(exported, expected, atol=1e-3)
    with adapted.disable_adapter():
        assert not torch.allclose(exported, maps(adapted, pixels), atol=1e-2)


@pytest.mark.slow
def test_the_embedded_detector(tmp_path, capsys):
    assert main(["export", "usod-rgb-lite", "--output", str(tmp_path / "new")]) == 0
    assert "new: 32.2 MiB. Saliency maps of photos differ from PyTorch's by mean" in capsys.readouterr().out
    assert (tmp_path / "new" / "LICENSE").is_file()
    assert "license: apache-2.0" in (tmp_path / "new" / "README.md").read_text()


def test_what_differs_is_not_written(tiny, photos, tmp_path, monkeypatch):
    monkeypatch.setitem(checking.BOUNDS, "fp32", Difference(1e-12, 1e-12))
    monkeypatch.setattr("hf_usod.export.checking._BATCH", 1)
    with pytest.raises(ExportError, match=r"differ from PyTorch's by mean .*; at most mean 1e-12.* nothing"):
        export_model(*tiny(), tmp_path / "new", photos[:1])
    assert list(tmp_path.iterdir()) == []


def test_bounds():
    check_difference(Difference(9e-4, 9e-5), "fp32")
    with pytest.raises(ExportError, match="fp32 model's maps differ"):
        check_difference(Difference(2e-3, 9e-5), "fp32")
    check_difference(Difference(1.0, 0.004), "fp16")
    with pytest.raises(ExportError, match="--dtype fp32, or calibrate with photos like yours"):
        check_difference(Difference(0.1, 0.031), "int8")


def test_nan_is_no_model(exported, inputs):
    class Broken(torch.nn.Module):
        def forward(self, pixel_values):
            return type("Output", (), {"logits": pixel_values[:, :1] * np.nan})

    with pytest.raises(ExportError, match="gives NaN"):
        checking.difference(Broken(), UsodOnnxModel(exported), [{"pixel_values": image[None]} for image in inputs])


def test_a_mistake_is_told_in_a_line(detector, exported, photos, tmp_path, monkeypatch):
    with pytest.raises(DataError, match="exported for images of 96 x 96; these are 64 x 64"):
        load(exported).model(torch.zeros(1, 3, 64, 64))
    with pytest.raises(LoadingError, match="is exported; export its model with the adapter instead"):
        load(exported, "usod-video-lite")
    with pytest.raises(LoadingError, match=r"is not exported\. Run `hf-usod export"):
        load("usod-rgb-lite", runtime="onnx")
    with pytest.raises(LoadingError, match="--device mps: onnxruntime does not know it here"):
        load(exported, device="mps")
    with pytest.raises(ValueError, match="takes no auxiliary map"):
        load_pipeline(exported)({"image": photos[0], "aux": photos[0]})
    (tmp_path / "config.json").write_bytes((exported / "config.json").read_bytes())
    (tmp_path / "model.onnx").write_bytes(b"nothing")
    with pytest.raises(LoadingError, match=r"model\.onnx: cannot be loaded"):
        load(tmp_path)
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
    with pytest.raises(MissingPackageError, match=r"pip install \"hf_usod\[onnx\]\""):
        load(exported)
    with pytest.raises(MissingPackageError, match="Exporting needs"):
        export_model(*detector, tmp_path / "new", photos)


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["--dtype", "fp16", "--quantize", "int8"], "two ways to a smaller file"),
        (["--images", "nowhere"], "nowhere: no such folder"),
        (["--output", "tests"], "tests: exists"),
        (["--aux"], "a usod_sce model takes no auxiliary map"),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)
def test_the_command_refuses(words, line, tmp_path, capsys, request, monkeypatch):
    monkeypatch.chdir(request.config.rootpath)
    status = main(["export", "usod-sce-lite", "--output", str(tmp_path / "new"), *words])
    assert status == (2 if "--quantize" in words else 1)
    said = capsys.readouterr().err
    assert line in said and said.count("\n") == 1 and not (tmp_path / "new").exists()


def test_the_commands(detector, exported, photos, tmp_path, capsys):
    """From a folder to an exported folder to maps."""
    model, processor = detector
    model.save_pretrained(tmp_path / "model")
    processor.save_pretrained(tmp_path / "model")
    assert main(["export", str(tmp_path / "model"), "--output", str(tmp_path / "new"), "--dtype", "fp16"]) == 0
    assert "Saliency maps of photos differ from PyTorch's by mean" in capsys.readouterr().out
    (tmp_path / "photos").mkdir()
    photos[0].save(tmp_path / "photos" / "a.png")
    words = ["predict", str(tmp_path / "photos"), "--output", str(tmp_path / "out"), "--runtime", "onnx"]
    assert main([*words, "--model", str(tmp_path / "new")]) == 0
    assert (tmp_path / "out" / "a.png").is_file()
