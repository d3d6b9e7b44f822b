"""EdgeModel and CloudModel: what a method receives. Nothing is read until it is asked for."""

from specbench.factories.cloud import CloudModel
from specbench.factories.edge import EdgeModel
from specbench.factories.model import ModelFactory

__all__ = ["CloudModel", "EdgeModel", "ModelFactory"]
