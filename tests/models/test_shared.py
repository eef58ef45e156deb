"""What both models do alike, as transformers' common tests have it: saving, loading, outputs, gradients, refusals."""

import inspect
import json

import pytest
import torch
from safetensors.torch import load_file, save_file
from transformers import AutoConfig, AutoModel

from hf_usod import UsodSceModel, UsodSdModel
from hf_usod.models import modeling_usod_sce, modeling_usod_sd

# Name: class, its module, its decoder, a weight of it
KINDS = {
    "sce": (UsodSceModel, modeling_usod_sce, "UsodSceDecoder", "decoder.fusion.conv.weight"),
    "sd": (UsodSdModel, modeling_usod_sd, "UsodSdDecoder", "decoder.score.weight"),
    "sd informed": (UsodSdModel, modeling_usod_sd, "UsodSdDecoder", "aux_offsets.weight"),
}
SIZES = [(64, 96), (96, 64), (33, 65)]
every_kind = pytest.mark.parametrize("kind", KINDS)


@pytest.fixture(scope="module")
def models(tiny_config, tiny_sd_config, stir):
    """Untrained models, in which every weight makes a difference."""
    torch.manual_seed(0)
    configs = {"sce": tiny_config(), "sd": tiny_sd_config(), "sd informed": tiny_sd_config(modality_informed=True)}
    return {kind: stir(KINDS[kind][0](config)).eval() for kind, config in configs.items()}


@pytest.fixture(scope="module")
def folders(models, tmp_path_factory):
    saved = {kind: tmp_path_factory.mktemp(kind.replace(" ", "_")) for kind in models}
    for kind, folder in saved.items():
        models[kind].save_pretrained(folder)
    return saved


def _inputs(kind: str, batch: int = 2, size: tuple[int, int] = (64, 96)) -> dict[str, torch.Tensor]:
    inputs = {"pixel_values": torch.randn(batch, 3, *size)}
    if kind != "sce":
        inputs["aux_pixel_values"] = torch.rand(batch, 3, *size)
    if kind == "sd informed":
        inputs["aux_kind"] = torch.arange(batch) % 4
    return inputs


@every_kind
@torch.no_grad()
def test_saved_and_loaded_is_the_same_to_the_bit(models, folders, kind):
    model, inputs = models[kind], _inputs(kind)
    for door in (KINDS[kind][0], AutoModel):
        loaded = door.from_pretrained(folders[kind])
        assert type(loaded) is KINDS[kind][0]
        assert not loaded.training
        state_dict = loaded.state_dict()
        assert state_dict.keys() == model.state_dict().keys()
        assert all(torch.equal(state_dict[key], value) for key, value in model.state_dict().items())
        # Not to the bit: matrix products round by the alignment of the weights in memory
        torch.testing.assert_close(loaded(**inputs).logits, model(**inputs).logits, atol=1e-5, rtol=1e-5)


@every_kind
@torch.no_grad()
def test_shards(models, kind, tmp_path):
    models[kind].save_pretrained(tmp_path, max_shard_size="20KB")
    assert len(list(tmp_path.glob("*.safetensors"))) > 1
    loaded = AutoModel.from_pretrained(tmp_path).state_dict()
    assert all(torch.equal(loaded[key], value) for key, value in models[kind].state_dict().items())


@every_kind
def test_loading_builds_on_the_meta_device(folders, kind, monkeypatch):
    cls, module, decoder, _ = KINDS[kind]
    devices = []

    class Spy(getattr(module, decoder)):
        def __init__(self, *args):
            super().__init__(*args)
            devices.extend({parameter.device.type for parameter in self.parameters()})

    monkeypatch.setattr(module, decoder, Spy)
    model = cls.from_pretrained(folders[kind])
    assert devices == ["meta"]
    tensors = [*model.parameters(), *model.buffers()]  # those that are not saved as well
    assert {tensor.device.type for tensor in tensors} == {"cpu"}


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@every_kind
@torch.no_grad()
def test_half_precision(folders, kind, dtype, tmp_path):
    model, full = (AutoModel.from_pretrained(folders[kind], dtype=d) for d in (dtype, torch.float32))
    weight = KINDS[kind][3]
    assert model.dtype == dtype
    assert torch.equal(model.state_dict()[weight], full.state_dict()[weight].to(dtype))
    inputs = _inputs(kind)
    halves = {name: value.to(dtype) if value.is_floating_point() else value for name, value in inputs.items()}
    logits, expected = model(**halves).logits, full(**inputs).logits
    assert logits.dtype == dtype and logits.isfinite().all()
    if kind == "sd":
        torch.testing.assert_close(logits.float(), expected, atol=0.1 * expected.std().item() + 0.01, rtol=0.05)
    model.save_pretrained(tmp_path)
    assert AutoModel.from_pretrained(tmp_path).dtype == dtype


@pytest.mark.parametrize("device_map", ["cpu", "auto"])
@every_kind
@torch.no_grad()
def test_device_map(models, folders, kind, device_map):
    model, inputs = AutoModel.from_pretrained(folders[kind], device_map=device_map), _inputs(kind)
    logits = model(**{name: value.to(model.device) for name, value in inputs.items()}).logits
    torch.testing.assert_close(logits.cpu(), models[kind](**inputs).logits, atol=1e-3, rtol=1e-3)


@every_kind
def test_configurations_with_their_backbones_round_trip(models, folders, kind):
    config = models[kind].config
    loaded = AutoConfig.from_pretrained(folders[kind])
    assert type(loaded) is type(config)
    where = {"_name_or_path": None, "transformers_version": None}
    assert loaded.to_dict() | where == config.to_dict() | where
    for name in config.sub_configs:
        assert getattr(loaded, name).to_dict() == getattr(config, name).to_dict()


@every_kind
def test_the_signature_of_forward(models, kind):
    names = list(inspect.signature(models[kind].forward).parameters)
    of_maps = [] if kind == "sce" else ["aux_pixel_values", "aux_kind"]
    assert names == ["pixel_values", *of_maps, "labels", "output_hidden_states"]
    with pytest.raises(TypeError, match="unexpected keyword argument 'pixel_mask'"):
        models[kind](**_inputs(kind), pixel_mask=None)


@pytest.mark.parametrize("size", SIZES)
@every_kind
@torch.no_grad()
def test_a_batch_is_its_images_one_by_one(models, kind, size):
    inputs = _inputs(kind, batch=3, size=size)
    logits = models[kind](**inputs).logits
    assert logits.shape == (3, 1, *size)
    for place in range(3):
        alone = models[kind](**{name: value[place : place + 1] for name, value in inputs.items()}).logits
        torch.testing.assert_close(logits[place : place + 1], alone, atol=1e-4, rtol=1e-4)


@every_kind
@torch.no_grad()
def test_a_broken_image_breaks_no_other(models, kind):
    inputs = _inputs(kind)
    expected = models[kind](**inputs).logits
    inputs["pixel_values"][1, 0, 3, 5] = float("nan")
    torch.testing.assert_close(models[kind](**inputs).logits[0], expected[0], atol=1e-5, rtol=1e-5)
    for level in (0.0, 1e4):
        assert models[kind](**inputs | {"pixel_values": torch.full((2, 3, 64, 96), level)}).logits.isfinite().all()


@every_kind
@torch.no_grad()
def test_hidden_states_are_the_features_of_the_backbone(models, kind):
    model, inputs = models[kind], _inputs(kind, batch=1, size=(96, 160))
    assert model(**inputs).hidden_states is None
    hidden_states = model(**inputs, output_hidden_states=True).hidden_states
    strides = [(24, 40), (12, 20), (6, 10), (3, 5)]
    assert [tuple(h.shape[-2:]) for h in hidden_states] == [(24, 40)] * (kind != "sce") + strides
    features = model.backbone(inputs["pixel_values"]).feature_maps
    assert len(features) == len(hidden_states) and all(map(torch.equal, hidden_states, features))


@every_kind
def test_return_dict_false_gives_a_tuple(models, kind):
    inputs = _inputs(kind)
    logits, *side = models[kind](**inputs, return_dict=False)
    assert logits.shape == (2, 1, 64, 96) and len(side) == (kind != "sce")
    loss, *rest = models[kind](**inputs, labels=torch.ones(2, 64, 96), return_dict=False)
    assert loss.shape == () and torch.equal(rest[0], logits)


def _iou_loss(logits, labels):
    """Method, section 6, a sample at a time."""
    losses = []
    for s, g in zip(logits.double().sigmoid(), labels, strict=True):
        s, g = s[0], (g > 0.5).double()
        losses.append(1 - (s * g).sum() / ((s + g - s * g).sum() + 1e-7))
    return sum(losses) / len(losses)


@pytest.mark.parametrize("channel", [False, True])
@every_kind
@torch.no_grad()
def test_labels_give_the_loss_of_the_method(models, kind, channel):
    inputs, labels = _inputs(kind), (torch.rand(2, 64, 96) > 0.7).long()
    outputs = models[kind](**inputs, labels=labels[:, None] if channel else labels)
    expected = _iou_loss(outputs.logits, labels)
    if kind != "sce":
        side = torch.nn.functional.interpolate(outputs.side_logits.rgb, (64, 96), mode="bilinear", align_corners=True)
        expected = expected + 0.2 * _iou_loss(side, labels)
    assert next(iter(outputs)) == "loss"
    torch.testing.assert_close(outputs.loss.double(), expected, atol=1e-5, rtol=1e-5)
    assert models[kind](**inputs).loss is None


@pytest.mark.parametrize("shape", [(1, 64, 96), (2, 2, 64, 96), (64, 96)])
@every_kind
def test_labels_of_other_shapes_raise(models, kind, shape):
    with pytest.raises(ValueError, match=r"`labels` are .*expected \(2, height, width\)"):
        models[kind](**_inputs(kind), labels=torch.zeros(shape))


@every_kind
def test_gradients_reach_every_weight(tiny_config, tiny_sd_config, stir, kind):
    make = tiny_config if kind == "sce" else tiny_sd_config
    model = stir(KINDS[kind][0](make(**({"modality_informed": True} if "informed" in kind else {})))).train()
    outputs = model(**_inputs(kind, batch=4, size=(64, 64)))
    maps = [outputs.logits, *(outputs.side_logits.to_tuple() if outputs.side_logits else [])]
    sum(m.square().mean() for m in maps).backward()
    assert [name for name, p in model.named_parameters() if p.grad is None or not p.grad.any()] == []


@every_kind
@pytest.mark.filterwarnings("ignore:`gradient_checkpointing_enable` is deprecated")
def test_gradient_checkpointing_is_refused(models, kind):
    with pytest.raises(ValueError, match="does not support"):
        models[kind].gradient_checkpointing_enable()


def _damaged(folder, target, change):
    """A copy of a saved model whose weights are changed by a function."""
    for file in folder.iterdir():
        (target / file.name).write_bytes(file.read_bytes())
    weights = load_file(target / "model.safetensors")
    change(weights)
    save_file(weights, target / "model.safetensors", metadata={"format": "pt"})
    return target


@every_kind
def test_missing_weights_raise(folders, kind, tmp_path):
    folder = _damaged(folders[kind], tmp_path, lambda weights: weights.pop(KINDS[kind][3]))
    with pytest.raises(ValueError, match=rf"lacks weights of its configuration: {KINDS[kind][3]}"):
        AutoModel.from_pretrained(folder)


@every_kind
def test_unknown_weights_are_reported(folders, kind, tmp_path):
    folder = _damaged(folders[kind], tmp_path, lambda weights: weights.update(other=torch.zeros(1)))
    _, loading = AutoModel.from_pretrained(folder, output_loading_info=True)
    assert list(loading["unexpected_keys"]) == ["other"]


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
@every_kind
def test_weights_that_are_not_finite_raise(folders, kind, value, tmp_path):
    name = KINDS[kind][3]
    folder = _damaged(folders[kind], tmp_path, lambda weights: weights[name].view(-1)[:1].fill_(value))
    with pytest.raises(ValueError) as raised:
        AutoModel.from_pretrained(folder)
    assert name in str(raised.value) and str(folder) in str(raised.value) and "\n" not in str(raised.value)


@pytest.mark.parametrize("statistic", ["running_mean", "running_var"])
def test_statistics_that_are_not_finite_raise(folders, statistic, tmp_path):
    name = f"neck.0.norm.{statistic}"
    folder = _damaged(folders["sd"], tmp_path, lambda weights: weights[name].fill_(float("nan")))
    with pytest.raises(ValueError, match=name):
        AutoModel.from_pretrained(folder)


@every_kind
def test_torch_export(models, kind):
    inputs = _inputs(kind)
    exported = torch.export.export(models[kind], (), inputs, strict=True).module()
    other = _inputs(kind)
    torch.testing.assert_close(exported(**other).logits, models[kind](**other).logits, atol=1e-4, rtol=1e-4)


@every_kind
def test_configurations_of_before_load(folders, models, kind, tmp_path):
    """Without the fields that were added since, and with the label of the background."""
    for file in folders[kind].iterdir():
        (tmp_path / file.name).write_bytes(file.read_bytes())
    config = json.loads((tmp_path / "config.json").read_text())
    config.pop("refined_contrast", None)
    config |= {"id2label": {"0": "background", "1": "salient object"}}
    (tmp_path / "config.json").write_text(json.dumps(config))
    loaded = AutoModel.from_pretrained(tmp_path)
    assert loaded.config.id2label == {0: "salient object"}
    assert getattr(loaded.config, "refined_contrast", 4.0) == 4.0
