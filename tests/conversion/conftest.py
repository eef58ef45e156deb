"""What foreign checkpoints are compared with: torchvision's ResNet-50, with weights that tell mistakes apart."""

import pytest
import torch
from torch import nn
from torchvision.models import ResNet, resnet50


def _randomize(module: nn.Module) -> None:
    """Gives norms scales, shifts and statistics of their own; fresh ones are all ones and zeros."""
    for layer in module.modules():
        if isinstance(layer, (nn.BatchNorm2d, nn.GroupNorm)):
            nn.init.uniform_(layer.weight, 0.5, 1.5)
            nn.init.normal_(layer.bias, std=0.1)
        if isinstance(layer, nn.BatchNorm2d):
            nn.init.normal_(layer.running_mean, std=0.1)
            nn.init.uniform_(layer.running_var, 0.5, 1.5)


@pytest.fixture(scope="session")
def randomize():
    return _randomize


@pytest.fixture(scope="session")
def resnet() -> ResNet:
    """A torchvision ResNet-50 of random weights, with its classifier. Not to be changed."""
    torch.manual_seed(0)
    model = resnet50(weights=None).eval()
    _randomize(model)
    return model


@pytest.fixture(scope="session")
def resnet_features(resnet):
    """The outputs of its four stages."""

    @torch.no_grad()
    def features(images: torch.Tensor) -> list[torch.Tensor]:
        x = resnet.maxpool(resnet.relu(resnet.bn1(resnet.conv1(images))))
        stages = []
        for stage in (resnet.layer1, resnet.layer2, resnet.layer3, resnet.layer4):
            x = stage(x)
            stages.append(x)
        return stages

    return features


@pytest.fixture(scope="session")
def images() -> torch.Tensor:
    """Two images whose sides are no multiples of 32."""
    return torch.randn(2, 3, 96, 130, generator=torch.Generator().manual_seed(0))


@pytest.fixture(scope="session")
def moco_checkpoint(resnet) -> dict:
    """MoCo-v2's official layout: query and key encoder with their projection heads, and the queue."""
    query = {key: value for key, value in resnet.state_dict().items() if not key.startswith("fc.")}
    query |= {"fc.0.weight": torch.randn(4, 2048), "fc.0.bias": torch.randn(4)}
    query |= {"fc.2.weight": torch.randn(2, 4), "fc.2.bias": torch.randn(2)}
    state_dict = {f"module.encoder_q.{key}": value for key, value in query.items()}
    state_dict |= {f"module.encoder_k.{key}": torch.zeros_like(value) for key, value in query.items()}
    state_dict |= {"module.queue": torch.randn(2, 16), "module.queue_ptr": torch.zeros(1, dtype=torch.long)}
    return {"epoch": 800, "arch": "resnet50", "state_dict": state_dict, "optimizer": {"state": {}, "param_groups": []}}
