"""The paper's first CNN: torchvision's ResNet-50 with a new last layer (He et al. 2016)."""

from torch import nn
from torchvision import models

from gz2vit.models.sizes import check_positive


def build_resnet50(*, num_classes: int = 8) -> nn.Module:
    """ResNet-50 with random weights; with 8 classes, 23,524,424 parameters as in the paper.

    Images (B, 3, H, W) of any size from 32 px -> features (B, 2048, H/32, W/32) -> their mean
    over the plane (B, 2048) -> (B, num_classes).
    """
    check_positive(num_classes=num_classes)
    network = models.resnet50(weights=None)
    network.fc = nn.Linear(network.fc.in_features, num_classes)
    return network
