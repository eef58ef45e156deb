"""A detector that is told what its auxiliary maps are: exact at its start, trained after, and strict about kinds."""

import numpy as np
import pytest
import torch
from PIL import Image
from transformers import pipeline

from hf_usod import UsodImageProcessor, UsodSdModel
from hf_usod.models.configuration_usod import AUX_KINDS

PROCESSOR = UsodImageProcessor(size={"height": 64, "width": 64})
PHOTO = Image.fromarray(np.random.default_rng(0).integers(0, 256, (40, 50, 3), dtype=np.uint8))
DEPTH = Image.fromarray(np.random.default_rng(1).integers(0, 256, (40, 50), dtype=np.uint8))


@pytest.fixture
def plain(sd_checkpoint):
    return UsodSdModel.from_pretrained(sd_checkpoint)


@pytest.fixture
def informed(sd_checkpoint):
    model = UsodSdModel.from_pretrained(sd_checkpoint)
    model.inform_of_aux_kinds()
    return model


@pytest.fixture
def maps():
    return torch.randn(4, 3, 64, 96), torch.rand(4, 3, 64, 96)


@torch.no_grad()
def test_the_start_is_exact(plain, informed, maps, tmp_path):
    informed.save_pretrained(tmp_path)
    loaded = UsodSdModel.from_pretrained(tmp_path)
    assert loaded.config.modality_informed and not loaded.aux_offsets.weight.any()
    for kind in range(4):
        kinds = torch.full((4,), kind)
        outputs, expected = informed(*maps, aux_kind=kinds), plain(*maps)
        assert torch.equal(outputs.logits, expected.logits)
        assert torch.equal(outputs.side_logits.aux, expected.side_logits.aux)
    assert torch.equal(informed(maps[0]).logits, plain(maps[0]).logits)


def test_offsets_train_each_by_its_kind_and_tell_kinds_apart(informed, maps):
    informed.train()
    kinds = torch.tensor([1, 1, 3, 3])
    labels = (torch.rand(4, 64, 96) > 0.5).float()
    optimizer = torch.optim.SGD([informed.aux_offsets.weight], 10.0)
    losses = []
    for _ in range(4):
        optimizer.zero_grad()
        losses.append(informed(*maps, aux_kind=kinds, labels=labels).loss)
        losses[-1].backward()
        optimizer.step()
    assert losses[-1] < losses[0]
    moved = informed.aux_offsets.weight.detach().abs().sum(dim=1) > 0
    assert moved.tolist() == [False, True, False, True]
    informed.eval()
    with torch.no_grad():
        depth, flow = (informed(*maps, aux_kind=torch.full((4,), kind)).logits for kind in (1, 3))
    assert not torch.allclose(depth, flow, atol=1e-4)


@torch.no_grad()
def test_an_image_without_map_is_of_the_kind_none(informed, maps):
    torch.nn.init.normal_(informed.aux_offsets.weight)
    none = informed(maps[0], informed.to_unit_range(maps[0]), torch.zeros(4, dtype=torch.long))
    assert torch.equal(informed(maps[0]).logits, none.logits)


def test_informing_twice_keeps_what_is_learned(informed):
    torch.nn.init.ones_(informed.aux_offsets.weight)
    informed.inform_of_aux_kinds()
    assert informed.aux_offsets.weight.all()


@pytest.mark.parametrize(
    ("kind", "message"),
    [
        (None, "to be told what `aux_pixel_values` are"),
        (torch.tensor([0, 1, 2, 4]), "kinds are 0 none, 1 depth, 2 thermal, 3 flow"),
        (torch.tensor([0, 1, 2, -1]), "kinds are 0 none"),
        (torch.tensor([1, 2]), r"\(2,\) of torch.int64, expected \(4,\)"),
        (torch.zeros(4), "torch.float32, expected"),
    ],
)
def test_wrong_kinds_raise(informed, maps, kind, message):
    with pytest.raises(ValueError, match=message):
        informed(*maps, aux_kind=kind)


def test_a_model_that_is_not_told_refuses(plain, maps):
    with pytest.raises(ValueError, match="treats all maps alike") as raised:
        plain(*maps, aux_kind=torch.zeros(4, dtype=torch.long))
    assert "\n" not in str(raised.value)


@pytest.mark.parametrize(
    ("aux", "kinds", "ids"),
    [
        ([DEPTH, None], "depth", [1, 0]),
        ([DEPTH, DEPTH], ["thermal", "flow"], [2, 3]),
        ([None, DEPTH], [None, "flow"], [0, 3]),
        (None, "depth", [0, 0]),
    ],
)
def test_the_processor_turns_names_into_ids(aux, kinds, ids):
    inputs = PROCESSOR([PHOTO, PHOTO], aux_images=aux, aux_kinds=kinds, return_tensors="pt")
    assert inputs["aux_kind"].tolist() == ids and inputs["aux_kind"].dtype == torch.int64
    assert "aux_kind" not in PROCESSOR([PHOTO, PHOTO], aux_images=aux, return_tensors="pt")
    assert set(inputs) <= set(PROCESSOR.model_input_names)


@pytest.mark.parametrize(
    ("kinds", "message"),
    [
        ("infrared", "kind 'infrared'; the kinds of maps are depth, thermal, flow"),
        ("none", "kind 'none'"),
        ([None], "kind None"),
        (["depth", "depth"], "2 kinds for 1 auxiliary maps"),
    ],
)
def test_the_processor_refuses_other_kinds(kinds, message):
    with pytest.raises(ValueError, match=message):
        PROCESSOR(PHOTO, aux_images=[DEPTH], aux_kinds=kinds)


def test_ids_are_the_places_of_names():
    assert AUX_KINDS == ("none", "depth", "thermal", "flow")


@pytest.fixture
def folder(informed, tmp_path):
    torch.nn.init.normal_(informed.aux_offsets.weight)
    informed.save_pretrained(tmp_path)
    PROCESSOR.save_pretrained(tmp_path)
    return str(tmp_path)


def test_pipeline(folder, informed):
    detect = pipeline("salient-object-detection", model=folder, device="cpu")
    rows = [{"image": PHOTO, "aux": DEPTH, "aux_kind": "flow"}, {"image": PHOTO, "aux": DEPTH}, PHOTO]
    outputs = [np.asarray(output["saliency"], dtype=int) for output in detect(rows, batch_size=3, aux_kind="depth")]
    inputs = PROCESSOR(
        [PHOTO] * 3, aux_images=[DEPTH, DEPTH, None], aux_kinds=["flow", "depth", None], return_tensors="pt"
    )
    with torch.no_grad():
        expected = PROCESSOR.post_process_saliency(informed(**inputs), [(40, 50)] * 3)
    assert np.abs(outputs[0] - outputs[1]).max() > 1
    for output, saliency in zip(outputs, expected, strict=True):
        assert np.abs(output - (saliency * 255).numpy()).max() <= 1.5
    with pytest.raises(ValueError, match="kinds of maps are depth, thermal, flow"):
        detect({"image": PHOTO, "aux": DEPTH})


@pytest.mark.parametrize("kind", ["checkpoint", "sd_checkpoint"])
def test_a_pipeline_of_a_model_that_is_not_told_refuses(kind, request):
    detect = pipeline("salient-object-detection", model=request.getfixturevalue(kind), device="cpu")
    with pytest.raises(ValueError, match="aux_kind 'depth' is given, but this model treats all maps alike"):
        detect(PHOTO, aux_kind="depth")
