"""A trainer that fits XGBoost boosters, from Polars over Arrow."""

from evergreen.adapters.xgboost_trainer.trainer import ENGINES, XGBoostTrainer

__all__ = ["ENGINES", "XGBoostTrainer"]
