"""The model and its folder: the one place to import them from."""

from anatograph.learning.embedding_model import Model
from anatograph.learning.embedding_stream import Embedding
from anatograph.learning.model_config import MODEL_PRESETS, ModelConfig
from anatograph.learning.model_folder import load_model, save_model
from anatograph.learning.windowing import window

__all__ = ["MODEL_PRESETS", "Embedding", "Model", "ModelConfig", "load_model", "save_model", "window"]
