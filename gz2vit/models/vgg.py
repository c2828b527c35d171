"""The paper's second CNN: torchvision's VGG16 with batch normalisation, and a new last layer.

Source: Simonyan & Zisserman 2015, arXiv:1409.1556.
"""

from torch import nn
from torchvision import models

from gz2vit.models.sizes import check_positive


def build_vgg16_bn(*, num_classes: int = 8) -> nn.Module:
    """VGG16-bn with random weights; with 8 classes, 134,301,768 parameters as in the paper.

    Images (B, 3, H, W) of any size from 32 px -> features (B, 512, H/32, W/32) -> averaged to
    (B, 512, 7, 7) -> two hidden layers (B, 4096) -> (B, num_classes).
    """
    check_positive(num_classes=num_classes)
    network = models.vgg16_bn(weights=None)
    network.classifier[6] = nn.Linear(network.classifier[6].in_features, num_classes)
    return network
