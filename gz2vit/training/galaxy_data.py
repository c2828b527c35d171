"""The two splits that training sees, as Lightning asks for them."""

import lightning
import torch

from gz2vit.data.batches import Batches
from gz2vit.data.device import DeviceBatches, fits_on_device, load_images
from gz2vit.data.galaxies import LabelledImages
from gz2vit.training.settings import TrainingSettings


class GalaxyData(lightning.LightningDataModule):
    """Batches of the splits, each epoch's drawn anew, made where the network is.

    On a GPU whose memory holds both splits they are loaded once and stay there.
    """

    def __init__(
        self,
        settings: TrainingSettings,
        train: LabelledImages,
        valid: LabelledImages,
        device: torch.device,
    ) -> None:
        super().__init__()
        self.settings, self.train, self.valid, self.device = settings, train, valid, device
        self.images: dict[str, torch.Tensor] = {}

    def setup(self, stage: str) -> None:
        """Load the splits onto a GPU that holds them."""
        splits = (self.train, self.valid)
        size = self.settings.image_size
        if fits_on_device([len(split.store) for split in splits], size, self.device):
            self.images = {s.split: load_images(s.store, size, self.device) for s in splits}

    def train_dataloader(self) -> Batches | DeviceBatches:
        """Augmented batches of the current epoch."""
        return self._batches(self.train, augment=True, epoch=self.trainer.current_epoch)

    def val_dataloader(self) -> Batches | DeviceBatches:
        """The validation galaxies in order, not augmented."""
        return self._batches(self.valid)

    def _batches(self, galaxies: LabelledImages, **options: bool | int) -> Batches | DeviceBatches:
        """Batches of this process's share."""
        batches = Batches(
            galaxies.store,
            galaxies.class_index,
            image_size=self.settings.image_size,
            batch_size=self.settings.batch_size,
            seed=self.settings.seed,
            share=(self.trainer.global_rank, self.trainer.world_size),
            **options,
        )
        if self.device.type != "cuda":
            return batches
        return DeviceBatches(batches, self.device, self.images.get(galaxies.split))
