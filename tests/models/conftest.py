"""Models small enough to run in milliseconds, and folders they are saved in."""

import pytest
import torch

from hf_usod import UsodImageProcessor, UsodSceConfig, UsodSceModel, UsodSdConfig, UsodSdModel


@pytest.fixture(scope="session")
def tiny_config(tiny_backbone):
    """Makes the configuration of a tiny cue extractor."""
    return lambda **kwargs: UsodSceConfig(backbone_config=tiny_backbone(), decoder_channels=8, **kwargs)


@pytest.fixture(scope="session")
def tiny_sd_config(tiny_backbone):
    """Makes the configuration of a tiny detector, of five levels or, without the stem, of four."""

    def make(stem: bool = True, **kwargs) -> UsodSdConfig:
        backbones = {"backbone_config": tiny_backbone(stem), "aux_backbone_config": tiny_backbone(stem)}
        widths = {"neck_channels": [6, 8, 10, 12], "fusion_channels": 6, "context_channels": 8}
        return UsodSdConfig(**backbones | widths | kwargs)

    return make


def _saved(model, folder) -> str:
    model.save_pretrained(folder)
    UsodImageProcessor(size={"height": 96, "width": 96}).save_pretrained(folder)
    return str(folder)


@pytest.fixture(scope="session")
def checkpoint(tiny_config, tmp_path_factory) -> str:
    """A folder with a tiny cue extractor and its processor."""
    torch.manual_seed(0)
    return _saved(UsodSceModel(tiny_config()), tmp_path_factory.mktemp("checkpoint"))


@pytest.fixture(scope="session")
def stir():
    """Moves all weights and statistics, so that none has a value it could be confused with another at, and an input
    makes a difference."""

    @torch.no_grad()
    def stir(model: torch.nn.Module) -> torch.nn.Module:
        for name, tensor in model.named_parameters():
            if "backbone" not in name:
                if tensor.ndim == 4:
                    torch.nn.init.kaiming_normal_(tensor)
                tensor += 0.1 * torch.randn_like(tensor)
        for name, buffer in model.named_buffers():
            if name.endswith(("running_mean", "running_var")):
                buffer += 0.3 * torch.rand_like(buffer)
        return model

    return stir


@pytest.fixture(scope="session")
def sd_checkpoint(tiny_sd_config, stir, tmp_path_factory) -> str:
    """A folder with a tiny detector and its processor."""
    torch.manual_seed(0)
    return _saved(stir(UsodSdModel(tiny_sd_config())), tmp_path_factory.mktemp("sd_checkpoint"))
