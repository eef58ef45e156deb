import pytest
from huggingface_hub.errors import StrictDataclassError
from transformers import AutoConfig, PreTrainedConfig

from hf_usod import UsodSceConfig, backbone_preset
from hf_usod.models.configuration_usod import BACKBONE_PRESETS


def test_round_trip(tmp_path, tiny_config):
    config = tiny_config(output_hidden_states=True)
    config.save_pretrained(tmp_path)
    for loaded in (UsodSceConfig.from_pretrained(tmp_path), AutoConfig.from_pretrained(tmp_path)):
        assert type(loaded) is UsodSceConfig
        assert loaded.decoder_channels == 8
        assert loaded.output_hidden_states is True
        assert loaded.backbone_config.to_dict() == config.backbone_config.to_dict()
        assert loaded.id2label == {0: "background", 1: "salient object"}
        assert loaded.label2id == {"background": 0, "salient object": 1}


def test_defaults_are_the_papers():
    config = UsodSceConfig()
    assert config.decoder_channels == 64
    assert config.backbone_config.to_diff_dict() == backbone_preset("resnet50").to_diff_dict()


def test_backbone_config_may_be_a_dict():
    config = UsodSceConfig(backbone_config={"model_type": "resnet", "depths": [1, 1, 1, 1]})
    assert config.backbone_config.depths == [1, 1, 1, 1]


def test_own_labels_are_kept():
    assert UsodSceConfig(id2label={0: "sea", 1: "ship"}).id2label == {0: "sea", 1: "ship"}


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
