"""The models of one worker: XGBoost's library, the way from values to numbers, what is loaded and what makes room."""
