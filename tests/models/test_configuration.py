"""Configurations: defaults, round trips, and what they refuse."""

import subprocess
import sys
from pathlib import Path

import pytest
from huggingface_hub.errors import StrictDataclassError
from transformers import AutoConfig, PreTrainedConfig

from hf_usod import UsodSceConfig, UsodSdConfig, backbone_preset
from hf_usod.models import configuration_usod
from hf_usod.models.configuration_usod import BACKBONE_PRESETS, UsodConfig


def test_round_trip(tmp_path, tiny_config):
    config = tiny_config(output_hidden_states=True)
    config.save_pretrained(tmp_path)
    for loaded in (UsodSceConfig.from_pretrained(tmp_path), AutoConfig.from_pretrained(tmp_path)):
        assert type(loaded) is UsodSceConfig
        assert loaded.decoder_channels == 8
        assert loaded.output_hidden_states is True
        assert loaded.backbone_config.to_dict() == config.backbone_config.to_dict()
        assert loaded.id2label == {0: "salient object"}
        assert loaded.label2id == {"salient object": 0}


def test_defaults_are_the_papers():
    config = UsodSceConfig()
    assert config.decoder_channels == 64
    assert config.backbone_config.to_diff_dict() == backbone_preset("resnet50").to_diff_dict()


def test_backbone_config_may_be_a_dict():
    config = UsodSceConfig(backbone_config={"model_type": "resnet", "depths": [1, 1, 1, 1]})
    assert config.backbone_config.depths == [1, 1, 1, 1]


CONFIGURATIONS = [UsodSceConfig, UsodSdConfig]


@pytest.mark.parametrize("kind", CONFIGURATIONS)
def test_one_channel_has_one_label(kind, caplog):
    assert kind(num_labels=1).id2label == {0: "salient object"}
    assert kind(id2label={0: "ship"}).id2label == {0: "ship"}
    earlier = kind(id2label={"0": "background", "1": "salient object"}, label2id={"background": 0, "salient object": 1})
    assert (earlier.num_labels, earlier.label2id) == (1, {"salient object": 0})
    assert not caplog.records
    for wrong in ({"num_labels": 2}, {"id2label": {0: "sea", 1: "ship"}}):
        with pytest.raises(ValueError, match="has one label"):
            kind(**wrong)


def test_which_models_take_maps(tmp_path):
    assert [kind().takes_aux for kind in CONFIGURATIONS] == [False, True]
    UsodSdConfig().save_pretrained(tmp_path)
    assert "takes_aux" not in (tmp_path / "config.json").read_text()


@pytest.mark.parametrize("registered", [True, False])
def test_a_registered_pipeline_wins_over_a_repositorys(registered, monkeypatch):
    monkeypatch.setattr(UsodConfig, "has_registered_pipeline", registered)
    config = UsodSdConfig(custom_pipelines={"salient-object-detection": {"impl": "pipeline_usod.X"}})
    assert hasattr(config, "custom_pipelines") is not registered


def test_importing_configurations_costs_no_torchvision_and_no_pipelines():
    path = Path(configuration_usod.__file__).parent
    code = (
        f"import sys; sys.path.insert(0, {str(path)!r}); import configuration_usod; "
        "print(*({'torchvision', 'timm', 'transformers.pipelines'} & set(sys.modules)))"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert run.stdout.split() == []


@pytest.mark.parametrize(
    "kwargs",
    [{"decoder_channels": "64"}, {"decoder_channels": 6.4}, {"decoder_channels": 0}, {"backbone_config": "resnet50"}],
)
def test_wrong_values_raise(kwargs):
    with pytest.raises(StrictDataclassError):
        UsodSceConfig(**kwargs)


@pytest.mark.parametrize("name", BACKBONE_PRESETS)
def test_presets(name):
    config = backbone_preset(name)
    assert isinstance(config, PreTrainedConfig)
    assert len(config.out_indices) == 4


def test_unknown_preset_lists_the_known():
    with pytest.raises(ValueError, match="resnet50, efficientnet-lite0, efficientnet-lite2"):
        backbone_preset("resnet51")
