"""Training with Lightning, and what a trained network predicts."""

from gz2vit.training.classifier import GalaxyClassifier, load_classifier
from gz2vit.training.inference import predict_images
from gz2vit.training.predict import evaluate_model, predict
from gz2vit.training.run import train_model
from gz2vit.training.settings import TrainingSettings

__all__ = [
    "GalaxyClassifier",
    "TrainingSettings",
    "evaluate_model",
    "load_classifier",
    "predict",
    "predict_images",
    "train_model",
]
