"""A trainer that fits XGBoost boosters, from Polars over Arrow."""

from evergreen.adapters.xgboost_trainer.trainer import XGBoostTrainer

__all__ = ["XGBoostTrainer"]
